//! `op-dbusctl` without a service: what it says, and how it ends. With one: `ctl_live.rs`.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::process::{Daemon, PATIENCE};

/// The command, which finds neither a configuration nor an address in its environment.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_op-dbusctl"));
    command
        .env_remove("OP_DBUS_ADDRESS")
        .env_remove("OP_DBUS_CONFIG")
        .args(["--config", "/nonexistent/grpc.toml"]);
    command
}

/// The command for a daemon, which it reaches by `via`.
pub fn to(daemon: &Daemon, via: &str) -> Command {
    let mut command = command();
    command.args(["--via", via, "--bus", &daemon.bus.address, "--address"]);
    command.arg(daemon.grpc_socket());
    command
}

/// Runs the command to its end.
pub fn run(words: &[&str]) -> Output {
    command().args(words).output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What the command offers a shell after these words, the last of which is being written.
pub fn offered(words: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_op-dbusctl"))
        .env("OP_DBUSCTL_COMPLETE", "bash")
        .env("_CLAP_IFS", "\n")
        .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .env("_CLAP_COMPLETE_SPACE", "false")
        .args(["--", "op-dbusctl"])
        .args(words)
        .output()
        .unwrap();
    assert_eq!(stderr(&output), "");
    stdout(&output).lines().map(str::to_owned).collect()
}

/// What it offers after asking a service, which knows of `expected`. It is asked for a moment only,
/// because a user waits meanwhile; on a busy machine that is too short, and nothing is offered.
#[track_caller]
pub fn offered_with(expected: &str, words: &[&str]) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = offered(words);
        if found.iter().any(|word| word == expected) {
            return found;
        }
        assert!(Instant::now() < deadline, "{expected} is not offered after {words:?}: {found:?}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for words in [
        &["--via", "ftp", "agents"][..],
        &["agents", "--timeout", "5"],
        &["--address", "https://host", "agents"],
        &["ping", "--count", "0"],
        &["call", "memory"],
        &["call", "memory", "Remember", "key=a", "--data", "{}"],
        &["frobnicate"],
        &[],
    ] {
        let output = run(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{words:?}");
        assert!(!stderr(&output).is_empty(), "{words:?}");
    }
}

#[test]
fn with_json_a_wrong_command_line_is_json_too() {
    let output = run(&["--json", "call", "memory"]);
    assert_eq!(output.status.code(), Some(2));
    let error: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(error["error"]["kind"], "USAGE");
    assert!(error["error"]["message"].as_str().unwrap().contains("<OPERATION>"), "{error}");
}

#[test]
fn without_a_service_it_says_what_was_tried_and_ends_with_4() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("grpc.sock");
    let address = format!("unix:{}", socket.display());
    let output = run(&["--address", &address, "agents"]);
    assert_eq!(output.status.code(), Some(4));
    let text = stderr(&output);
    assert!(text.starts_with("error: the service cannot be reached\n"), "{text}");
    assert!(text.contains(&format!("gRPC at {address}: No such file")), "{text}");
    assert!(text.contains("hint: is the service running?"), "{text}");
    assert!(text.contains("group op-dbus"), "{text}");

    let bus = format!("unix:path={}/bus", folder.path().display());
    let output = run(&["--bus", &bus, "--json", "status"]);
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(stderr(&output), "");
    let error: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(error["error"]["kind"], "UNREACHABLE");
    assert!(error["error"]["tried"][0]["target"].as_str().unwrap().contains(&bus), "{error}");
}

#[test]
fn something_that_listens_and_never_speaks_does_not_hold_it_up() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("grpc.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let started = Instant::now();
    let address = format!("unix:{}", socket.display());
    let output = run(&["--address", &address, "--timeout", "200ms", "--json", "agents"]);
    assert!(started.elapsed() < PATIENCE);
    assert_eq!(output.status.code(), Some(1));
    let error: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(error["error"]["kind"], "DEADLINE_EXCEEDED");
}

#[test]
fn the_environment_and_the_configuration_say_where_the_service_is() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_op-dbusctl"))
        .env("OP_DBUS_ADDRESS", "unix:/nonexistent/from-env.sock")
        .args(["--via", "grpc", "agents"])
        .output()
        .unwrap();
    assert!(stderr(&output).contains("from-env.sock"));

    let config = folder.path().join("grpc.toml");
    fs::write(&config, "[grpc]\nunix = \"/nonexistent/from-file.sock\"\n").unwrap();
    let config = config.display().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_op-dbusctl"))
        .env_remove("OP_DBUS_ADDRESS")
        .env("OP_DBUS_CONFIG", &config)
        .args(["--via", "grpc", "agents"])
        .output()
        .unwrap();
    assert!(stderr(&output).contains("from-file.sock"), "{}", stderr(&output));
}

#[test]
fn help_and_manual_document_the_exit_codes() {
    for words in [&["--help"][..], &["man"]] {
        let output = run(words);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("the service cannot be reached"), "{words:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let output = run(&["man", &folder.path().display().to_string()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(folder.path().join("op-dbusctl-call.1").is_file());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child =
        command().arg("man").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{text}");
    assert_eq!(text, "");
}

#[test]
fn colour_is_for_terminals_unless_it_is_asked_for() {
    let words = ["--address", "/nonexistent/grpc.sock", "agents"];
    assert!(!stderr(&run(&words)).contains('\u{1b}'));
    let output = run(&[&["--color", "always"], &words[..]].concat());
    assert!(stderr(&output).starts_with("\u{1b}[1;31merror:\u{1b}[0m"), "{}", stderr(&output));
}

#[test]
fn completion_is_quick_and_silent_without_a_service() {
    assert_eq!(offered(&["des"]), ["describe"]);
    assert_eq!(offered(&["--via", ""]), ["auto", "grpc", "dbus", "legacy"]);
    let started = Instant::now();
    let offered = offered(&["--address", "/nonexistent/grpc.sock", "call", "mem"]);
    assert_eq!(offered, Vec::<String>::new());
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
}

#[test]
fn bash_completes_words_with_an_equals_sign() {
    let script = run(&["completions", "bash"]);
    let folder = Path::new(env!("CARGO_BIN_EXE_op-dbusctl")).parent().unwrap();
    // As bash itself takes the line apart: `--via=` and `d` are words of their own.
    let test = format!(
        "PATH={}:$PATH\n{}\n\
         COMP_WORDS=(op-dbusctl --via = d) COMP_CWORD=3 COMP_TYPE=9\n\
         _op_dbusctl op-dbusctl d =\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        folder.display(),
        stdout(&script)
    );
    let output = Command::new("bash").args(["--norc", "-c", &test]).output().unwrap();
    assert_eq!(stdout(&output), "dbus\n", "{}", stderr(&output));
}
