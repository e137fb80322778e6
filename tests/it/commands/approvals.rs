//! Programs that somebody must approve: asked for by the agent in its worker, approved at the daemon, and
//! run once, over both transports.

use serde_json::{Value, json};

use super::found;
use crate::ctl::{stdout, to};
use crate::ctl_live::TRANSPORTS;
use crate::process::Daemon;

/// What op-dbusctl gives as JSON: its exit code and the answer, or the error.
fn json_of(daemon: &Daemon, via: &str, words: &[&str]) -> (Option<i32>, Value) {
    let output = to(daemon, via).arg("--json").args(words).output().unwrap();
    (output.status.code(), serde_json::from_str(&stdout(&output)).unwrap())
}

/// Runs a program, with an approval if there is one.
fn exec(daemon: &Daemon, via: &str, approval: Option<&str>, argv: &[&str]) -> (Option<i32>, Value) {
    let request = json!({"argv": argv, "directory": "/", "yield": "60s"}).to_string();
    let mut words = vec!["call", "commands", "Exec", "--data", &request];
    if let Some(id) = approval {
        words.extend(["--approval-id", id]);
    }
    json_of(daemon, via, &words)
}

#[track_caller]
fn assert_failed((code, answer): (Option<i32>, Value), kind: &str) -> String {
    assert_eq!((code, answer["error"]["kind"].as_str()), (Some(1), Some(kind)), "{answer}");
    answer.to_string()
}

#[test]
fn a_program_is_approved_and_runs_once() {
    let uname = found("uname");
    // The tests are one user, who here may approve his own calls.
    let daemon = Daemon::start(&format!(
        "[worker]\nmin_uid = 0\n[[commands.rule]]\ndecision = \"ask\"\nprogram = {uname:?}\n\
         reason = \"as the test has it\"\n[[policy]]\nmay_approve = \"all\"\n"
    ));
    let [first, second] = TRANSPORTS;
    for (via, other) in [(first, second), (second, first)] {
        // On D-Bus an error is a name and a text, which holds what gRPC tells apart.
        let ask = || {
            let told =
                assert_failed(exec(&daemon, via, None, &["uname", "-s"]), "APPROVAL_REQUIRED");
            let (_, listed) = json_of(&daemon, other, &["approvals", "list"]);
            let approval = &listed["approvals"][0];
            let preview = approval["preview"].as_str().unwrap();
            assert!(preview.contains(r#""uname" "-s""#), "{preview}");
            assert!(preview.contains("as the test has it"), "{preview}");
            let id = approval["id"].as_str().unwrap().to_owned();
            assert!(told.contains(&id), "{id} is missing in {told}");
            id
        };
        let id = ask();
        let run = |argv: &[&str]| exec(&daemon, via, Some(&id), argv);
        assert_failed(run(&["uname", "-s"]), "APPROVAL_REQUIRED");
        let (code, answer) = json_of(&daemon, other, &["approvals", "approve", &id]);
        assert_eq!(code, Some(0), "{answer}");
        // It is for this request and no other.
        let told = assert_failed(run(&["uname", "-r"]), "INVALID_ARGUMENT");
        assert!(told.contains("approval-id"), "{told}");
        let (code, answer) = run(&["uname", "-s"]);
        assert_eq!((code, &answer["stdout"]["text"]), (Some(0), &json!("Linux\n")), "{answer}");
        assert_failed(run(&["uname", "-s"]), "NOT_FOUND");

        let rejected = ask();
        let words = ["approvals", "reject", &rejected, "--reason", "not today"];
        assert_eq!(json_of(&daemon, other, &words).0, Some(0));
        assert_failed(exec(&daemon, via, Some(&rejected), &["uname", "-s"]), "ACCESS_DENIED");
        // What no rule is about needs none.
        assert_eq!(exec(&daemon, via, None, &["true"]).0, Some(0));
    }
}
