//! The same call over every way gives the same result or the same error, and is counted and recorded as
//! the same: a table of every operation × kind of input × caller × way, of which each cell is run or has
//! a reason why it cannot be.

mod answers;
mod bus;
mod call;
mod cancelled;
mod cases;
mod client;
mod each;
mod endless;
mod generated;
mod kept;
mod ledger;
mod older;
mod rights;
mod roles;
mod streams;
mod table;
mod tasks;
mod texts;
mod values;
mod world;

use std::collections::BTreeSet;

use serde_json::json;

use call::{Call, Way};
use roles::Role;
use table::Kind;
use world::World;

/// What only one way can ask for wrongly: names that are not there.
#[tokio::test]
async fn unknown_names_have_one_error_on_both_transports() {
    let world = World::start(Way::JsonOverGrpc, roles::config()).await;
    let client = world.client(Role::Owner);
    let call = Call::new(&world.operation("memory", "Recall"), json!({}));
    let integer = r#"{"key": "k", "value": 9007199254740993}"#;
    for way in [Way::JsonOverGrpc, Way::JsonOverDbus] {
        for (agent, operation, arguments, reason) in [
            ("nobody", "Recall", "{}", "UNKNOWN_AGENT"),
            ("memory", "Nothing", "{}", "UNKNOWN_OPERATION"),
            ("memory", "Recall", r#"{"kye": 1}"#, "INVALID_ARGUMENT"),
            ("memory", "Remember", integer, "INVALID_ARGUMENT"),
        ] {
            let outcome = client.json_named(way, (agent, operation), arguments, &call).await;
            assert_eq!(outcome, Err(reason.to_owned()), "{way:?}");
        }
    }
}

/// Each kind of input belongs to a test, which checks that none of its cells is left out.
#[test]
fn no_kind_of_input_is_forgotten() {
    let others = [Kind::Cancelled, Kind::Generated];
    let tried: Vec<Kind> = answers::KINDS.into_iter().chain(others).collect();
    assert_eq!(tried.len(), Kind::ALL.len());
    assert_eq!(BTreeSet::from_iter(tried), BTreeSet::from(Kind::ALL));
}

/// Every case is about an operation that there is, and every operation that can have one has one.
#[test]
fn no_operation_is_forgotten() {
    let contract = op_dbus::contract::Contract::built_in().unwrap();
    let cases = cases::cases();
    let mut missing = Vec::new();
    for operation in table::operations(&contract) {
        let is_it =
            |case: &cases::Case| case.agent == operation.agent && case.operation == operation.name;
        let needs_one = table::no_input(operation, Kind::Written).is_none();
        if needs_one && !cases.iter().any(is_it) {
            missing.push(&operation.grpc_path);
        }
    }
    assert!(missing.is_empty(), "{missing:?} have no case");
}
