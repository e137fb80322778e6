//! Writes keep their order: a batch whose calls run side by side leaves and reads what the same batch
//! does one call after the other.

use op_dbus::proto::opdbus::v1::{BatchItem, BatchResult};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use super::{after, item, named, parallel, recall, remember, results, sequential, service};
use crate::fixture::Service;

/// One step, by kind and key.
#[derive(Clone, Debug)]
enum Step {
    Remember(u8, u16),
    Increment(u8),
    Forget(u8),
    ForgetAll,
    Recall(u8),
    List,
    Transact(u8, u8),
    /// Remembers under the one key what stands under the other.
    Copy(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..4_u8;
    prop_oneof![
        (key(), 0..1000_u16).prop_map(|(key, value)| Step::Remember(key, value)),
        key().prop_map(Step::Increment),
        key().prop_map(Step::Forget),
        Just(Step::ForgetAll),
        key().prop_map(Step::Recall),
        key().prop_map(Step::Recall),
        Just(Step::List),
        (key(), key()).prop_map(|(a, b)| Step::Transact(a, b)),
        (key(), key()).prop_map(|(from, to)| Step::Copy(from, to)),
    ]
}

/// The calls of a step.
fn items(index: usize, step: &Step) -> Vec<BatchItem> {
    let one = match step {
        Step::Remember(key, value) => remember(&format!("k{key}"), &value.to_string()),
        Step::Increment(key) => item("memory", "increment", &format!(r#"{{"key":"k{key}"}}"#)),
        Step::Forget(key) => item("memory", "forget", &format!(r#"{{"key":"k{key}"}}"#)),
        Step::ForgetAll => item("memory", "forget", r#"{"key":"k[01]","glob":true}"#),
        Step::Recall(key) => recall(&format!("k{key}")),
        Step::List => item("memory", "list", "{}"),
        Step::Transact(a, b) => item(
            "memory",
            "transact",
            &format!(
                r#"{{"success":[{{"increment":{{"key":"k{a}"}}}},{{"remember":{{"key":"k{b}","value":5}}}}]}}"#
            ),
        ),
        Step::Copy(from, to) => {
            let id = format!("copy{index}");
            let value = format!(r#"{{"$result":"{id}/value"}}"#);
            return vec![
                named(&id, recall(&format!("k{from}"))),
                remember(&format!("k{to}"), &value),
            ];
        }
    };
    vec![one]
}

/// What can be compared: without times and tokens.
fn essence(results: &[BatchResult]) -> Vec<(i32, Value, String)> {
    let strip = |text: &str| {
        let mut json: Value = serde_json::from_str(text).unwrap_or_default();
        remove(&mut json);
        json
    };
    let reason = |result: &BatchResult| {
        result.failure.as_ref().map(|failure| failure.reason.clone()).unwrap_or_default()
    };
    results.iter().map(|result| (result.status, strip(&result.result), reason(result))).collect()
}

fn remove(json: &mut Value) {
    match json {
        Value::Object(members) => {
            members.retain(|name, _| {
                !name.ends_with("_at") && name != "undo_token" && !name.contains("version")
            });
            members.values_mut().for_each(remove);
        }
        Value::Array(values) => values.iter_mut().for_each(remove),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

async fn state(service: &Service) -> Vec<(i32, Value, String)> {
    let keys = ["k0", "k1", "k2", "k3"];
    essence(&results(service, sequential(keys.map(recall).into())).await)
}

#[test]
fn side_by_side_gives_what_one_after_the_other_gives() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 40, ..Config::default() });
    runner
        .run(&vec(step(), 1..40), |steps| {
            runtime.block_on(async {
                let (one, other) = (service(), service());
                let calls: Vec<BatchItem> =
                    steps.iter().enumerate().flat_map(|(index, step)| items(index, step)).collect();
                let expected = results(&one, sequential(calls.clone())).await;
                let found = results(&other, parallel(calls)).await;
                assert_eq!(essence(&found), essence(&expected));
                assert_eq!(state(&other).await, state(&one).await);
            });
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn what_comes_later_in_the_batch_can_be_asked_to_come_first() {
    let service = service();
    let found = results(
        &service,
        parallel(vec![
            after(&["w"], recall("k")),
            named("w", remember("k", "1")),
            after(&["w"], remember("k", "2")),
            recall("k"),
        ]),
    )
    .await;
    let value = |result: &BatchResult| {
        serde_json::from_str::<Value>(&result.result).unwrap()["value"].clone()
    };
    assert_eq!((value(&found[0]), value(&found[3])), (1.0.into(), 2.0.into()), "{found:?}");
}
