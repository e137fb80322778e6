//! `op-dbusctl parity` against real daemons: one that answers the same on both ways, and two that pose as
//! one and do not.

use std::process::Output;

use serde_json::Value;

use crate::ctl::{command, stderr, stdout};
use crate::process::Daemon;

/// Runs op-dbusctl with the bus of one daemon and the socket of another.
fn run(dbus: &Daemon, grpc: &Daemon, arguments: &[&str]) -> Output {
    let address = format!("unix:{}", grpc.grpc_socket().display());
    let mut command = command();
    command.args(["--bus", &dbus.bus.address, "--address", &address]).args(arguments);
    command.output().unwrap()
}

fn rows(output: &Output) -> Vec<Value> {
    serde_json::from_str(&stdout(output)).unwrap()
}

#[test]
fn one_service_gives_the_same_answers_on_both_ways() {
    let daemon = Daemon::start("");
    let output = run(&daemon, &daemon, &["--json", "parity"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let rows = rows(&output);
    assert!(rows.iter().all(|row| row["result"] == "same"), "{rows:?}");
    for operation in ["memory.Recall", "tasks.ListTasks", "agents.GetStatus", "policy.Explain"] {
        assert!(rows.iter().any(|row| row["operation"] == operation), "{operation}");
    }
    assert!(rows.iter().any(|row| row["error"].is_null()));
    assert!(rows.iter().any(|row| row["error"] == "NOT_FOUND"));

    let output = run(&daemon, &daemon, &["parity", "memory"]);
    let text = stdout(&output);
    assert!(text.starts_with("OPERATION"), "{text}");
    assert!(text.contains("0 differ"), "{text}");
    // What it asks over D-Bus is no client that still has to move.
    let report = run(&daemon, &daemon, &["--via", "grpc", "--json", "migration", "report"]);
    assert_eq!(report.status.code(), Some(0), "{}", stdout(&report));
}

#[test]
fn what_differs_is_named_without_what_it_is() {
    let (one, other) = (Daemon::start(""), Daemon::start(""));
    let remember = ["--via", "dbus", "call", "memory", "Remember", "key=secret", "value=1"];
    assert!(run(&one, &other, &remember).status.success());
    let output = run(&one, &other, &["--json", "parity", "memory"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let rows = rows(&output);
    let differs: Vec<_> = rows.iter().filter(|row| row["result"] == "differs").collect();
    let list = differs.iter().find(|row| row["operation"] == "memory.List").unwrap();
    assert!(!list["differences"][0]["field"].as_str().unwrap().is_empty(), "{list}");
    assert!(!stdout(&output).contains("secret"));
    let text = stdout(&run(&one, &other, &["parity", "memory"]));
    assert!(text.contains("differs") && text.contains("over D-Bus, "), "{text}");
}

#[test]
fn nothing_is_not_the_same_as_nothing() {
    let daemon = Daemon::start("");
    let unknown = run(&daemon, &daemon, &["parity", "nobody"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("nobody is no agent"), "{}", stderr(&unknown));
    let mut command = command();
    let address = format!("unix:{}", daemon.grpc_socket().display());
    command.args(["--bus", "unix:path=/nowhere", "--address", &address, "parity"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stdout(&output));
}
