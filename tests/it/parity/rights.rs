//! The policy holds for every operation over every transport: nothing gets by it, and nothing of it
//! depends on the way.

use op_dbus::executor::{Config, Decision, Policy, Rule, Who};
use serde_json::json;

use super::call::{Call, Way};
use super::roles::Role;
use super::table;
use super::world::World;

/// What a call of each operation comes to, over each transport, when the policy says `decision` to all
/// but the calls that start streams.
async fn outcomes(decision: Decision) -> Vec<(String, [String; 2])> {
    let mut starts = Rule::for_all(Who::everybody(), Decision::Allow);
    starts.agents = vec!["calls".to_owned()];
    starts.operations = vec!["StartCall".to_owned()];
    let policy = Policy::new(vec![starts, Rule::for_all(Who::everybody(), decision)]);
    let world = World::start(Way::JsonOverGrpc, Config { policy, ..Config::default() }).await;
    let mut found = Vec::new();
    for operation in table::operations(&world.contract) {
        let is_start = operation.agent == "calls" && operation.name == "StartCall";
        if is_start || table::no_way(operation, Way::JsonOverGrpc).is_some() {
            continue;
        }
        let call = Call::new(operation, json!({}));
        let mut over = [Way::JsonOverDbus, Way::JsonOverGrpc].map(|way| (way, String::new()));
        for (way, outcome) in &mut over {
            let said = world.client(Role::Owner).begin(*way, &call).await;
            *outcome = said.reason.unwrap_or_else(|| "OK".to_owned());
        }
        let name = format!("{}.{}", operation.agent, operation.name);
        found.push((name, over.map(|(_, outcome)| outcome)));
    }
    found
}

#[tokio::test]
async fn what_is_denied_is_denied_on_every_way() {
    let found = outcomes(Decision::Deny).await;
    assert!(found.len() > 50, "only {} operations were tried", found.len());
    for (name, over) in found {
        assert_eq!(over, ["ACCESS_DENIED", "ACCESS_DENIED"], "{name}");
    }
}

#[tokio::test]
async fn what_must_be_approved_does_not_run_on_any_way() {
    let found = outcomes(Decision::Ask).await;
    assert!(found.len() > 50, "only {} operations were tried", found.len());
    let bounded = found.iter().filter(|(_, over)| *over == ["LIMIT_EXCEEDED", "LIMIT_EXCEEDED"]);
    let asked =
        found.iter().filter(|(_, over)| *over == ["APPROVAL_REQUIRED", "APPROVAL_REQUIRED"]);
    // One user has so many waiting; what is over is refused, too.
    let most = Config::default().approvals.max_per_caller;
    assert_eq!((asked.count(), bounded.count()), (most, found.len() - most), "{found:?}");
}
