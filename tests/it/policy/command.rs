//! `op-dbusctl policy` and `op-dbusctl approvals`, over both transports.

use op_dbus::executor::{Approver, Config, Decision, Policy, Rule, Who};
use serde_json::json;

use crate::ctl::{offered_with, stdout};
use crate::ctl_live::{Live, TRANSPORTS};

/// The tests run as one user, who here may do all and approve what he has asked for himself.
fn live() -> Live {
    let mut all = Rule::for_all(Who::everybody(), Decision::Allow);
    all.may_approve = Some(Approver::All);
    (all.origin, all.reason) = ("/etc/test.toml:1".into(), "a test".into());
    Live::with(Config { policy: Policy::new(vec![all]), ..Config::default() })
}

#[test]
fn a_call_is_approved_and_repeated() {
    let live = live();
    for via in TRANSPORTS {
        let id = |text: &str| {
            let call = ["call", "probe", "Guarded", text];
            let (code, error) = live.error("grpc", &call);
            assert_eq!((code, &error["kind"]), (Some(1), &json!("APPROVAL_REQUIRED")), "{error}");
            error["facts"]["approval_id"].as_str().unwrap().to_owned()
        };
        let text = format!("text=over {via}");
        let pending = id(&text);
        let table = stdout(&live.run(via, &["approvals"]));
        assert!(table.contains(&pending) && table.contains("probe.Guarded"), "{table}");
        let shown = stdout(&live.run(via, &["approvals", "show", &pending]));
        assert!(shown.contains(&format!("\ndoes over {via}\n")), "{shown}");
        let listed = live.json(via, &["approvals", "list"]);
        assert_eq!(listed["approvals"][0]["id"], json!(pending), "{listed}");
        let socket = live.socket.display().to_string();
        offered_with(&pending, &["--address", &socket, "approvals", "approve", ""]);
        let output = live.run(via, &["approvals", "approve", &pending]);
        assert_eq!(stdout(&output), format!("{pending} is approved\n"));
        let call = ["call", "--approval-id", &pending, "probe", "Guarded", &text];
        assert_eq!(live.json(via, &call)["approved_by"], nix::unistd::getuid().as_raw());
        let (code, error) = live.error(via, &call);
        assert_eq!((code, &error["kind"]), (Some(1), &json!("NOT_FOUND")), "{via} {error}");

        let rejected = id("text=never");
        live.run(via, &["approvals", "reject", &rejected, "--reason", "too loud"]);
        let call = ["call", "--approval-id", &rejected, "probe", "Guarded", "text=never"];
        let (code, error) = live.error(via, &call);
        assert_eq!((code, &error["kind"]), (Some(1), &json!("ACCESS_DENIED")), "{via} {error}");
        assert!(error["message"].as_str().unwrap().contains("too loud"), "{error}");
        // So that the next round begins with none that waits.
        let output = live.run(via, &["approvals", "approve", &rejected]);
        assert_eq!(output.status.code(), Some(1), "{via}");
    }
}

#[test]
fn the_policy_is_shown_and_explained() {
    let live = live();
    let me = nix::unistd::getuid().to_string();
    for via in TRANSPORTS {
        let shown = stdout(&live.run(via, &["policy", "show"]));
        for text in ["RULE", "everybody", "allow, may approve all", "/etc/test.toml:1", "built in"]
        {
            assert!(shown.contains(text), "{via}: {text} is missing in:\n{shown}");
        }
        for user in [me.as_str(), "4200001"] {
            let explained =
                stdout(&live.run(via, &["policy", "explain", user, "probe", "restart"]));
            let expected = format!("probe.Restart for uid {user}: allow\n");
            assert!(explained.starts_with(&expected), "{via}: {explained}");
            assert!(explained.contains("\nreason         a test\n"), "{via}: {explained}");
            let json = live.json(via, &["policy", "explain", user, "probe", "Restart"]);
            assert_eq!(json["explanation"]["decision"], "POLICY_DECISION_ALLOW");
        }
        let socket = live.socket.display().to_string();
        let words = ["--address", &socket, "policy", "explain", "root", "probe", "Guar"];
        offered_with("Guarded", &words);
    }
}
