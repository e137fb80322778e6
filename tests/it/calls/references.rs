//! Calls that use the results of others: in which order they run, what they are given, and what is
//! refused before anything is done.

use op_dbus::error::ErrorKind;
use op_dbus::proto::opdbus::v1::{
    BatchCallRequest, BatchItem, BatchOrder,
    BatchStatus::{Failed, Ok as Well, Skipped},
};
use serde_json::{Value, json};

use super::{
    after, batch, context, fail, item, named, parallel, reason, recall, remember, results,
    sequential, service, sleep, statuses,
};

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn a_call_uses_the_result_of_another() {
    let service = service();
    let echo = r#"{"text":"t","value":{"list":[{"a/b~c":"deep"},2.5],"none":null}}"#;
    let use_it = r#"{"text":{"$result":"e/value/list/0/a~1b~0c"},
        "value":[{"$result":"e/value/list"},{"$result":"e/value/none"},{"$$result":"e"}]}"#;
    for request in [sequential as fn(Vec<BatchItem>) -> BatchCallRequest, parallel] {
        let found = results(
            &service,
            // The one that is used comes last: it is made first.
            request(vec![item("probe", "echo", use_it), named("e", item("probe", "echo", echo))]),
        )
        .await;
        assert_eq!(statuses(&found), [Well, Well], "{found:?}");
        let json = json_of(&found[0].result);
        assert_eq!(json["text"], "deep");
        assert_eq!(json["value"], json!([[{"a/b~c": "deep"}, 2.5], null, {"$result": "e"}]));
    }
}

#[tokio::test]
async fn an_encoded_result_can_be_used_too() {
    let service = service();
    let encoded = BatchItem { request: Some("".into()), ..item("probe", "count", "") };
    let found = results(
        &service,
        sequential(vec![named("n", encoded), remember("k", r#"{"$result":"n"}"#), recall("k")]),
    )
    .await;
    assert_eq!(json_of(&found[2].result)["value"], json!({"count": "1"}));
    assert_eq!((found[0].result.as_str(), found[0].response.len()), ("", 2));
}

#[tokio::test]
async fn what_is_not_there_fails_the_call_that_wants_it() {
    let service = service();
    let echo = named("e", item("probe", "echo", r#"{"text":"t","texts":["one"]}"#));
    let wants =
        |place: &str| item("probe", "echo", &format!(r#"{{"text":{{"$result":"{place}"}}}}"#));
    let found = results(
        &service,
        parallel(vec![
            echo,
            wants("e/texts/0"),
            wants("e/texts/1"),
            wants("e/text/0"),
            wants("e/missing"),
            wants("e/texts"),
        ]),
    )
    .await;
    assert_eq!(statuses(&found), [Well, Well, Failed, Failed, Failed, Failed]);
    for (index, place) in [(2, "/texts/1"), (3, "/text/0"), (4, "/missing"), (5, "arguments")] {
        let (reason, text) = reason(&found[index]);
        assert!(reason == "INVALID_ARGUMENT" && text.contains(place), "{reason}: {text}");
    }
}

#[tokio::test]
async fn a_call_is_skipped_with_the_one_whose_result_it_uses() {
    let service = service();
    let found = results(
        &service,
        parallel(vec![
            named("bad", fail()),
            named("a", remember("a", r#"{"$result":"bad/x"}"#)),
            named("b", remember("b", r#"{"$result":"a/version"}"#)),
            after(&["bad", "b"], item("probe", "count", "")),
        ]),
    )
    .await;
    assert_eq!(statuses(&found), [Failed, Skipped, Skipped, Well]);
    assert!(reason(&found[1]).1.contains("items[0] (bad)"), "{:?}", found[1]);
    assert!(reason(&found[2]).1.contains("items[1] (a)"), "{:?}", found[2]);
}

#[tokio::test]
async fn after_is_an_order_whatever_came_of_it() {
    let service = service();
    let items = vec![
        after(&["last"], item("probe", "count", "")),
        named("last", after(&["slow"], fail())),
        named("slow", sleep(40)),
        item("memory", "list", ""),
    ];
    let request =
        BatchCallRequest { order: BatchOrder::Completion.into(), ..parallel(items.clone()) };
    let found = results(&service, request).await;
    assert_eq!(found.iter().map(|result| result.index).collect::<Vec<_>>(), [3, 2, 1, 0]);
    assert_eq!(found[3].status(), Well);
    let request = BatchCallRequest { order: BatchOrder::Completion.into(), ..sequential(items) };
    let found = results(&service, request).await;
    assert_eq!(found.iter().map(|result| result.index).collect::<Vec<_>>(), [2, 1, 0, 3]);
}

#[tokio::test]
async fn a_batch_that_makes_no_sense_is_refused_before_anything_is_done() {
    let service = service();
    let count = || item("probe", "count", "");
    let wants = |id: &str| remember("k", &format!(r#"{{"$result":"{id}"}}"#));
    let cases: Vec<(&str, &str, Vec<BatchItem>)> = vec![
        (
            "a circle",
            "items[1]",
            vec![
                count(),
                named("a", after(&["c"], count())),
                named("b", wants("a/version")),
                named("c", after(&["b"], count())),
            ],
        ),
        ("unknown in after", "items[1].after", vec![count(), after(&["x"], count())]),
        ("unknown in arguments", "items[1].arguments", vec![count(), wants("x/y")]),
        ("itself in after", "items[1].after", vec![count(), named("a", after(&["a"], count()))]),
        ("itself in arguments", "items[0].arguments", vec![named("a", wants("a")), count()]),
        ("twice", "items[2].id", vec![named("a", count()), count(), named("a", count())]),
        ("a slash", "items[1].id", vec![count(), named("a/b", count())]),
        ("a long id", "items[1].id", vec![count(), named(&"i".repeat(129), count())]),
        ("a batch", "items[1].operation", vec![count(), item("calls", "batch_call", "{}")]),
        ("a task", "items[1].operation", vec![count(), item("calls", "StartCall", "{}")]),
        ("a call by JSON", "items[1].operation", vec![count(), item("agents", "CallJson", "{}")]),
        ("a stream", "items[1].operation", vec![count(), item("probe", "generate", "{}")]),
        ("a client stream", "items[1].operation", vec![count(), item("probe", "sum", "{}")]),
    ];
    for (what, field, items) in cases {
        for request in [sequential(items.clone()), parallel(items)] {
            let error = batch(&service, context(), request).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{what}: {error}");
            assert_eq!(error.fact("field"), Some(field), "{what}: {error}");
        }
    }
    let found = results(&service, sequential(vec![count()])).await;
    assert_eq!(found[0].result, r#"{"count":"1"}"#, "something was done");
}
