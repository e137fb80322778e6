//! Steps: they are kept over restarts until the configuration says something else, unsafe ones are refused,
//! every one is recorded, and what other rules would do can be tried.

use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::tempdir;

use super::{Ends, position};
use crate::ctl::{command, stderr, stdout};

/// `op-dbusctl` for a daemon, with its configuration.
fn ctl(ends: &Ends, words: &[&str]) -> std::process::Output {
    let config = ends.daemon.folder.path().join("grpc.toml");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_op-dbusctl"));
    command.env_remove("OP_DBUS_ADDRESS").env_remove("OP_DBUS_CONFIG");
    command.arg("--config").arg(config).args(words).output().unwrap()
}

fn well(ends: &Ends, words: &[&str]) -> String {
    let output = ctl(ends, words);
    assert!(output.status.success(), "{words:?}: {}", stderr(&output));
    stdout(&output)
}

fn chat(stage: &str) -> String {
    format!(
        "[migration]\nmin_calls = 5\n\
         [[migration.rule]]\nname = \"chat\"\nnames = [\"chat\"]\nstage = {stage}\n"
    )
}

#[tokio::test]
async fn a_step_outlives_the_service_until_the_configuration_says_something_else() {
    let state = tempdir().unwrap();
    let ends = Ends::start(&chat("\"dbus\""), state.path()).await;
    let set = |stage: &str, share: u32| json!({"rule": "chat", "stage": stage, "share_per_10000": share, "reason": "a try"});
    let answer = ends.set(set("STAGE_CANARY", 1234)).await.unwrap();
    assert_eq!(position(&answer["rule"]["route"]), ("canary".into(), 1234));
    let held = json!({"rule": "chat", "change": "STAGE_CHANGE_HOLD"});
    assert_eq!(ends.set(held).await.unwrap()["rule"]["held"], true);
    let before = ends.rule("chat").await["route"].clone();
    ends.daemon.stop();

    let ends = Ends::start(&chat("\"dbus\""), state.path()).await;
    let rule = ends.rule("chat").await;
    assert_eq!((&rule["route"], &rule["held"]), (&before, &json!(true)));
    assert!(before["changed_by"].as_str().unwrap().starts_with("uid "), "{before}");
    // Other keys overrule nothing; the stage does.
    ends.reload(&format!("{}error_margin = 0.5\n", chat("\"dbus\"")), state.path());
    assert_eq!(ends.position("chat").await, ("canary".into(), 1234));
    ends.reload(&chat("\"shadow\""), state.path());
    assert_eq!(ends.position("chat").await, ("shadow".into(), 0));
    let rule = ends.rule("chat").await;
    assert_eq!(
        (&rule["held"], &rule["route"]["changed_by"]),
        (&json!(false), &json!("the configuration"))
    );
    ends.daemon.stop();
    // What was overruled does not come back.
    let ends = Ends::start(&chat("\"dbus\""), state.path()).await;
    assert_eq!(ends.position("chat").await, ("dbus".into(), 0));
    ends.daemon.stop();
}

#[tokio::test]
async fn unsafe_steps_are_refused_unless_forced_and_all_steps_are_recorded() {
    let state = tempdir().unwrap();
    let ends = Ends::start(&chat("\"dbus\""), state.path()).await;
    let said = well(&ends, &["migration", "advance", "chat", "--reason", "it is time"]);
    assert_eq!(said, "rule chat is at shadow\n");
    assert_eq!(well(&ends, &["migration", "advance", "chat"]), "rule chat is at canary 5 %\n");
    // Nothing was called yet, so nothing is known.
    let refused = ctl(&ends, &["migration", "advance", "chat"]);
    assert_eq!(refused.status.code(), Some(1));
    let text = stderr(&refused);
    assert!(
        text.contains("CONFLICT") && text.contains("too few calls over gRPC: 0 of 5"),
        "{text}"
    );
    well(&ends, &["migration", "hold", "chat", "--reason", "wait for Monday"]);
    let refused = stderr(&ctl(&ends, &["migration", "advance", "chat"]));
    assert!(refused.contains("it is held by uid ") && refused.contains("Monday"), "{refused}");
    well(&ends, &["migration", "release", "chat"]);
    let forced = well(&ends, &["migration", "advance", "chat", "--force"]);
    assert_eq!(forced, "rule chat is at canary 25 %\n");
    assert_eq!(
        well(&ends, &["migration", "set", "chat", "canary", "60%", "--force"]),
        "rule chat is at canary 60 %\n"
    );
    assert_eq!(well(&ends, &["migration", "rollback", "chat"]), "rule chat is at dbus\n");
    let lost = stderr(&ctl(&ends, &["migration", "rollback", "chat"]));
    assert!(lost.contains("rule chat is at dbus, which is the first stage"), "{lost}");
    let unknown = stderr(&ctl(&ends, &["migration", "hold", "caht"]));
    assert!(unknown.contains("there is no rule caht; there are chat, default"), "{unknown}");
    assert_eq!(ctl(&ends, &["migration", "set", "chat", "canary", "200"]).status.code(), Some(2));

    let found = well(&ends, &["--json", "audit", "search", "--all", "--agent", "migration"]);
    let found: Value = serde_json::from_str(&found).unwrap();
    let steps: Vec<&str> = found["records"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|record| record["kind"] == "step")
        .map(|record| record["rule"].as_str().unwrap())
        .collect();
    let mut expected = [
        "from dbus to shadow: it is time",
        "from shadow to canary 5 %",
        "held at canary 5 %: wait for Monday",
        "released at canary 5 %",
        "from canary 5 % to canary 25 %",
        "from canary 25 % to canary 60 %",
        "from canary 60 % to dbus",
    ]
    .map(|text| format!("migration.rule chat: {text}"))
    .to_vec();
    if found["records"][0]["seq"].as_u64() > found["records"][1]["seq"].as_u64() {
        expected.reverse();
    }
    assert_eq!(steps, expected);
    let log = ends.daemon.stop();
    assert!(log.contains("the rollout: rule chat from canary 60 % to dbus, by uid "), "{log}");
}

/// The last stage waits for whoever still calls over D-Bus, and other rules can be tried before.
#[tokio::test]
async fn calls_over_dbus_keep_a_rule_from_the_last_stage_and_show_what_other_rules_would_do() {
    let state = tempdir().unwrap();
    let ends = Ends::start("[migration]\nstage = \"grpc\"\nmin_calls = 1\n", state.path()).await;
    for _ in 0..8 {
        ends.over_dbus("memory", "List", json!({})).await.unwrap();
        ends.over_grpc("memory", "List", json!({})).await.unwrap();
    }
    let advance = json!({"rule": "default", "change": "STAGE_CHANGE_ADVANCE"});
    let (reason, text) = ends.set(advance.clone()).await.unwrap_err();
    assert_eq!(reason, "CONFLICT");
    assert!(text.contains("calls still came over D-Bus"), "{text}");
    let report = ends.over_dbus("migration", "GetReport", json!({})).await.unwrap();
    let step = &report["plan"][0];
    assert_eq!((&step["stage"], &step["next"]), (&json!("STAGE_GRPC"), &json!("STAGE_GRPC")));

    let rules = "[[migration.rule]]\nname = \"lists\"\noperations = [\"memory.List\"]\n\
                 stage = \"canary\"\npercent = 25\n";
    let simulated = ends.over_grpc("migration", "Simulate", json!({"rules": rules})).await.unwrap();
    let changes = simulated["changes"].as_array().unwrap();
    let of: Vec<_> = changes.iter().filter(|it| it["operation"] == "memory.List").collect();
    assert_eq!(of.len(), 1, "{simulated}");
    assert_eq!((&of[0]["calls"], &of[0]["moved"]), (&json!("16"), &json!("12")));
    assert_eq!(of[0]["stage_after"], "STAGE_CANARY");
    let wrong = "[[migration.rule]]\nname = \"a\"\nstage = \"never\"\n";
    let (reason, text) =
        ends.over_grpc("migration", "Simulate", json!({"rules": wrong})).await.unwrap_err();
    assert_eq!(reason, "INVALID_ARGUMENT");
    assert!(text.contains("rules:3:9: migration.rule.stage: \"never\" is none of"), "{text}");
    let other = "[grpc]\nenabled = false\n";
    let (_, text) =
        ends.over_grpc("migration", "Simulate", json!({"rules": other})).await.unwrap_err();
    assert!(text.contains("grpc.enabled: only the section [migration]"), "{text}");

    // By the command, from a file and from standard input.
    let file = state.path().join("rules.toml");
    std::fs::write(&file, rules).unwrap();
    let table = well(&ends, &["migration", "simulate", file.to_str().unwrap()]);
    assert!(table.contains("memory.List") && table.contains("calls would take gRPC"), "{table}");
    let mut piped = command();
    piped.args(["--address", &format!("unix:{}", ends.daemon.grpc_socket().display())]);
    piped.args(["migration", "simulate", "-"]).stdin(Stdio::null());
    assert!(stdout(&piped.output().unwrap()).contains("calls would take gRPC"));
    assert!(well(&ends, &["migration", "routes"]).contains("all others"));

    let mut forced = advance;
    forced["force"] = true.into();
    ends.set(forced).await.unwrap();
    assert_eq!(ends.position("default").await.0, "final");
    ends.daemon.stop();
}
