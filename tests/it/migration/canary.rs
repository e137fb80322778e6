//! The canary: calls that are as good are let be, worse ones are taken back by themselves, and everybody
//! hears of it.

use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use op_dbus::client::{AgentClient, Bus, Error, GrpcAddress, ProbeClient, Settings, Way};
use serde_json::{Value, json};
use tempfile::tempdir;

use super::Ends;
use crate::ctl::stdout;
use crate::grpc::eventually;

/// Everything at a canary; the margins leave room for a machine that is busy.
const CANARY: &str = "[migration]\nstage = \"canary\"\npercent = 25\nmin_calls = 20\n";

/// What the task of a call that fails or does not is asked for.
fn pace(fails: bool) -> Value {
    let fail_at = u32::from(fails);
    let arguments = json!({"count": 1, "fail_at": fail_at}).to_string();
    json!({"agent": "probe", "operation": "Pace", "arguments": arguments})
}

/// Longer than it takes until the canary is looked at.
async fn looks() {
    tokio::time::sleep(Duration::from_millis(1200)).await;
}

#[tokio::test]
async fn failing_calls_over_grpc_take_a_rule_back_and_hold_it() {
    let state = tempdir().unwrap();
    let ends = Ends::start(CANARY, state.path()).await;
    // A client's own faults, and faults that both ways have, say nothing against gRPC.
    for number in 0..60 {
        ends.over_dbus("calls", "StartCall", pace(number % 10 == 0)).await.unwrap();
        ends.over_grpc("calls", "StartCall", pace(number % 10 == 0)).await.unwrap();
        ends.over_grpc("memory", "Recall", json!({"key": "none"})).await.unwrap_err();
    }
    looks().await;
    let rule = ends.rule("default").await;
    assert_eq!(rule["route"]["stage"], "STAGE_CANARY", "{rule}");
    assert_eq!(rule["canary"]["grpc_errors"], "6", "{rule}");

    for _ in 0..120 {
        ends.over_grpc("calls", "StartCall", pace(true)).await.unwrap();
    }
    eventually("the rule is taken back", async || ends.position("default").await.0 == "dbus").await;
    let rule = ends.rule("default").await;
    let told = (&rule["held"], &rule["route"]["changed_by"]);
    assert_eq!(told, (&json!(true), &json!("the canary")));
    let name = "opdbus_migration_taken_back_total{rule=\"default\"}";
    assert_eq!(ends.daemon.metric(name), Some(1.0));
    let status = ends.over_dbus("agents", "GetStatus", json!({})).await.unwrap();
    let warnings = status["warnings"].to_string();
    assert!(
        warnings.contains("[migration] taken back: rule default to dbus: worse: of "),
        "{warnings}"
    );
    assert!(warnings.contains("calls of probe.Pace over gRPC"), "{warnings}");

    // It does not go on by itself, nor unless it is released.
    let advance = json!({"rule": "default", "change": "STAGE_CHANGE_ADVANCE"});
    let (reason, text) = ends.set(advance.clone()).await.unwrap_err();
    assert!(reason == "CONFLICT" && text.contains("it is held by the canary"), "{text}");
    ends.set(json!({"rule": "default", "change": "STAGE_CHANGE_RELEASE"})).await.unwrap();
    ends.set(advance).await.unwrap();
    let status = ends.over_dbus("agents", "GetStatus", json!({})).await.unwrap();
    assert!(!status["warnings"].to_string().contains("taken back"), "{status}");

    let config = ends.daemon.folder.path().join("grpc.toml");
    let log = ends.daemon.stop();
    assert!(log.contains("the rollout: rule default from canary 25 % to dbus: worse: of"), "{log}");
    // The folder is gone with the daemon; the audit log lies in the state folder.
    drop(config);
    let mut search = Command::new(env!("CARGO_BIN_EXE_op-dbusctl"));
    search.args(["--json", "audit", "search", "--all", "--operation", "SetStage"]);
    search.arg("--folder").arg(state.path().join("state/audit"));
    let found: Value = serde_json::from_str(&stdout(&search.output().unwrap())).unwrap();
    let records = found["records"].as_array().unwrap();
    let own = records.iter().find(|record| record["address"] == "the canary").unwrap();
    assert_eq!(
        (&own["kind"], &own["uid"], &own["transport"]),
        (&json!("step"), &Value::Null, &Value::Null)
    );
    assert!(own["rule"].as_str().unwrap().contains("from canary 25 % to dbus: worse"), "{own}");
}

#[tokio::test]
async fn slow_calls_over_grpc_take_a_rule_back() {
    let state = tempdir().unwrap();
    let ends = Ends::start(CANARY, state.path()).await;
    let sleep = |millis: u32| json!({"duration": format!("{}s", f64::from(millis) / 1000.0)});
    for _ in 0..80 {
        ends.over_dbus("probe", "Sleep", sleep(1)).await.unwrap();
    }
    // So long that no machine is as slow by itself.
    let slow = (0..25).map(|_| ends.over_grpc("probe", "Sleep", sleep(5000)));
    for outcome in join_all(slow).await {
        outcome.unwrap();
    }
    eventually("the rule is taken back", async || ends.position("default").await.0 == "dbus").await;
    let status = ends.over_grpc("agents", "GetStatus", json!({})).await.unwrap();
    let warnings = status["warnings"].to_string();
    assert!(
        warnings.contains("probe.Sleep over gRPC") && warnings.contains("took more than"),
        "{warnings}"
    );
    ends.daemon.stop();
}

/// Calls that never reached the service are told by clients, and count; a rule that is held is let be.
#[tokio::test]
async fn lost_calls_count_and_a_rule_that_is_held_stays() {
    let state = tempdir().unwrap();
    let ends = Ends::start(CANARY, state.path()).await;
    ends.set(json!({"rule": "default", "change": "STAGE_CHANGE_HOLD"})).await.unwrap();
    for _ in 0..25 {
        ends.over_dbus("probe", "Nothing", json!({})).await.unwrap();
    }
    let lost = json!({"lost": [{"operation": "probe.Nothing", "way": "WAY_GRPC", "calls": 200}]});
    ends.over_dbus("migration", "ReportCalls", lost).await.unwrap();
    looks().await;
    let rule = ends.rule("default").await;
    assert_eq!(rule["route"]["stage"], "STAGE_CANARY", "{rule}");
    assert!(rule["canary"]["verdict"].as_str().unwrap().starts_with("worse: "), "{rule}");
    ends.set(json!({"rule": "default", "change": "STAGE_CHANGE_RELEASE"})).await.unwrap();
    eventually("the rule is taken back", async || ends.position("default").await.0 == "dbus").await;
    ends.daemon.stop();
}

/// To a client gRPC is gone, so that it hardly tries it; its calls count all the same, and it says so soon.
#[tokio::test]
async fn a_path_that_is_gone_takes_a_rule_back() {
    let state = tempdir().unwrap();
    let ends = Ends::start("[migration]\nstage = \"grpc\"\nmin_calls = 20\n", state.path()).await;
    let client = AgentClient::new(&Settings {
        addresses: vec![GrpcAddress::Unix(state.path().join("nowhere.sock"))],
        bus: Bus::Address(ends.daemon.bus.address.clone()),
        ..Settings::default()
    });
    let probe = ProbeClient::new(client.clone());
    eventually("the rule is taken back", async || {
        for _ in 0..20 {
            let answer: Result<(), Error> = probe.nothing(()).await;
            answer.expect("D-Bus is there");
        }
        ends.position("default").await.0 == "dbus"
    })
    .await;
    let operations = client.agent_metrics().unwrap().snapshot().operations;
    let nothing = operations.iter().find(|known| known.operation == "Nothing").unwrap();
    let grpc = nothing.ways.iter().find(|known| known.way == Way::Grpc).unwrap();
    assert!(grpc.forgone > grpc.requests, "{grpc:?}");
    ends.daemon.stop();
}
