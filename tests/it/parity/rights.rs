//! The policy holds for every operation over every transport: nothing gets by it, and nothing of it
//! depends on the way.

use op_dbus::call::Transport;
use op_dbus::executor::{Config, Decision, Policy, Rule, Who};
use serde_json::json;

use super::ways::World;

/// What a call of each operation comes to, over each transport, when the policy says `decision` to all
/// but the calls that start streams.
async fn outcomes(decision: Decision) -> Vec<(String, [String; 2])> {
    let mut starts = Rule::for_all(Who::everybody(), Decision::Allow);
    starts.agents = vec!["calls".to_owned()];
    starts.operations = vec!["StartCall".to_owned()];
    let policy = Policy::new(vec![starts, Rule::for_all(Who::everybody(), decision)]);
    let world = World::with(Config { policy, ..Config::default() }).await;
    let mut found = Vec::new();
    for service in world.contract.services.iter().filter(|service| !service.gateway) {
        for operation in &service.operations {
            let name = format!("{}.{}", service.id, operation.name);
            let is_stream = operation.is_streaming();
            // CallJson is the way itself; other streams than these are opened, not called.
            let is_other = is_stream && (operation.client_streaming || !operation.is_agents);
            let is_served = world.service.executor.find(&service.id, &operation.name).is_ok();
            let is_way = ["agents.CallJson", "calls.StartCall"].contains(&name.as_str());
            if is_other || is_way || !is_served {
                continue;
            }
            let mut over = [Transport::Dbus, Transport::Grpc].map(|_| String::new());
            for (transport, outcome) in [Transport::Dbus, Transport::Grpc].iter().zip(&mut over) {
                let call = json!({"agent": service.id, "operation": operation.name});
                let call = call.to_string();
                let result = match is_stream {
                    true => world.call_json(*transport, "calls", "StartCall", &call).await,
                    false => world.call_json(*transport, &service.id, &operation.name, "{}").await,
                };
                *outcome = result.map_or_else(|reason| reason, |_| "OK".to_owned());
            }
            found.push((name, over));
        }
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
