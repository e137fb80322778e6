//! The same call over every way gives the same result or the same error, and is counted on the
//! transport that it came by.

mod cases;
mod generated;
mod kept;
mod ledger;
mod rights;
mod streams;
mod values;
mod ways;

use op_dbus::call::Transport;
use op_dbus::contract::Contract;
use op_dbus::error::ErrorKind;
use serde_json::Value;

use cases::cases;
use ways::{Outcome, Way, World};

/// What these answer changes from call to call, and CallJson is one of the ways.
const NOT_COMPARED: [&str; 8] = [
    "agents.CallJson",
    "agents.GetMetrics",
    "agents.GetStatus",
    "probe.Count",
    "worker_probe.Count",
    "worker_probe.StartProgram",
    "worker_probe.WhoAmI",
    "worker_probe.WhoAmIThere",
];

#[tokio::test]
async fn every_way_gives_the_same_answer_and_counts_it() {
    let world = World::start().await;
    let (mut compared, mut failed, mut differences) = (0, 0, Vec::new());
    for (number, case) in cases().iter().enumerate() {
        let mut first: Option<(Way, Outcome)> = None;
        for (place, way) in Way::ALL.into_iter().enumerate() {
            // All of one length, which some answers tell.
            let key = format!("key-{number}-{place}");
            let mut given = "GIVEN".to_owned();
            for (agent, operation, arguments) in &case.before {
                let arguments = with(arguments, &key, &given);
                let outcome = world.call(way, agent, operation, arguments).await;
                given = given_by(&outcome.expect(operation)).unwrap_or(given);
            }
            let counted = world.counts(case.agent, case.operation);
            let arguments = with(&case.arguments, &key, &given);
            let outcome = world.call(way, case.agent, case.operation, arguments).await;
            let label =
                outcome.as_ref().map_or_else(|reason| reason.to_ascii_lowercase(), |_| "ok".into());
            world.check_counted(case.agent, case.operation, way.transport(), &label, &counted);
            let outcome = outcome.map(|value| values::plain(&without(&value, &given), &key));
            match &first {
                None => first = Some((way, outcome)),
                Some((other, expected)) => {
                    let what = format!("{}.{} {}", case.agent, case.operation, case.arguments);
                    if outcome != *expected {
                        differences
                            .push(format!("{what}: {way:?} {outcome:?}, {other:?} {expected:?}"));
                    }
                    compared += 1;
                }
            }
        }
        failed += usize::from(first.is_some_and(|(_, outcome)| outcome.is_err()));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    // Nothing may be compared with nothing.
    assert_eq!(compared, cases().len() * (Way::ALL.len() - 1));
    assert!(failed >= ErrorKind::ALL.len() && failed < cases().len(), "{failed} cases fail");
}

/// What only one way can ask for wrongly: names that are not there.
#[tokio::test]
async fn unknown_names_have_one_error_on_both_transports() {
    let world = World::start().await;
    for way in [Way::JsonOverGrpc, Way::JsonOverDbus] {
        for (agent, operation, reason) in
            [("nobody", "Recall", "UNKNOWN_AGENT"), ("memory", "Nothing", "UNKNOWN_OPERATION")]
        {
            let outcome = world.call_json(way.transport(), agent, operation, "{}").await;
            assert_eq!(outcome, Err(reason.to_owned()), "{way:?}");
        }
        let outcome = world.call_json(way.transport(), "memory", "Recall", r#"{"kye": 1}"#).await;
        assert_eq!(outcome, Err("INVALID_ARGUMENT".to_owned()), "{way:?}");
        let integer = r#"{"key": "k", "value": 9007199254740993}"#;
        let outcome = world.call_json(way.transport(), "memory", "Remember", integer).await;
        assert_eq!(outcome, Err("INVALID_ARGUMENT".to_owned()), "{way:?}");
    }
    assert_eq!(Way::TypedOverGrpc.transport(), Transport::Grpc);
}

fn with(arguments: &Value, key: &str, given: &str) -> Value {
    let text = arguments.to_string().replace("KEY", key).replace("GIVEN", given);
    serde_json::from_str(&text).unwrap()
}

/// What an answer gives to calls that come after.
fn given_by(answer: &Value) -> Option<String> {
    let known = [
        &answer["chain_id"],
        &answer["undo_token"],
        &answer["task"]["id"],
        &answer["command"]["id"],
        &answer["shell"]["id"],
    ];
    known.into_iter().find_map(|known| known.as_str()).map(str::to_owned)
}

fn without(answer: &Value, given: &str) -> Value {
    serde_json::from_str(&answer.to_string().replace(given, "GIVEN")).unwrap()
}

/// Every operation with one answer has a case. Those of gateways are not on D-Bus.
#[test]
fn no_operation_is_forgotten() {
    let contract = Contract::built_in().unwrap();
    let compared = cases();
    let mut missing: Vec<String> = Vec::new();
    for service in contract.services.iter().filter(|service| !service.gateway) {
        let unary = service.operations.iter().filter(|operation| !operation.is_streaming());
        for operation in unary {
            let name = format!("{}.{}", service.id, operation.name);
            let has_case = compared
                .iter()
                .any(|case| case.agent == service.id && case.operation == operation.name);
            if !has_case && !NOT_COMPARED.contains(&name.as_str()) {
                missing.push(name);
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?} have no case");
}
