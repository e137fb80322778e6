//! `op-dbusctl` against a service: every command over both transports, on a private bus and socket.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use op_dbus::error::ErrorKind;
use op_dbus::executor::Config;
use op_dbus::status::Status;
use op_dbus::transport::{dbus, grpc};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::ctl::{command, offered_with, stderr, stdout};
use crate::fixture::{Bus, Service};
use crate::process::PATIENCE;

pub const TRANSPORTS: [&str; 2] = ["grpc", "dbus"];

/// A service on both transports, which ends with this value.
pub struct Live {
    bus: Bus,
    pub socket: PathBuf,
    status: Arc<Status>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Live {
    pub fn start() -> Self {
        Self::with(Config::default())
    }

    /// The same with other settings.
    pub fn with(config: Config) -> Self {
        let bus = Bus::start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let service = {
            let _inside = runtime.enter();
            Service::new(config)
        };
        let status = Arc::clone(&service.status);
        let socket = service.folder.path().join("grpc.sock");
        let on_bus = dbus::Config {
            bus: dbus::Bus::Address(bus.address.clone()),
            name: "org.opdbus.Agents1".to_owned(),
            max_body_bytes: 4 << 20,
            legacy: dbus::LegacyName::all().collect(),
        };
        let on_socket = grpc::Config {
            unix: Some(grpc::UnixSocket { path: socket.clone(), mode: 0o600, group: None }),
            inherited: Vec::new(),
            tcp: None,
            tls: None,
            access: grpc::Access::default(),
            max_request_bytes: 4 << 20,
            max_response_bytes: 4 << 20,
            max_connections: 64,
            max_connections_per_uid: 64,
        };
        let (ready, is_ready) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            // All of it, or the folder would end with `start`.
            let service = service;
            runtime.block_on(async {
                let (executor, status) = (&service.executor, &service.status);
                let grpc =
                    grpc::start(on_socket, Arc::clone(executor), Arc::clone(status)).await.unwrap();
                let dbus =
                    dbus::start(on_bus, Arc::clone(executor), Arc::clone(status)).await.unwrap();
                ready.send(()).unwrap();
                stopped.await.ok();
                dbus.stop().await;
                grpc.stop(Duration::from_secs(1)).await;
            });
        });
        is_ready.recv_timeout(PATIENCE).unwrap();
        Self { bus, socket, status, stop: Some(stop), thread: Some(thread) }
    }

    /// The options that lead to this service.
    pub fn places(&self) -> [String; 4] {
        let socket = self.socket.display().to_string();
        ["--address".to_owned(), socket, "--bus".to_owned(), self.bus.address.clone()]
    }

    pub fn run(&self, via: &str, words: &[&str]) -> Output {
        command().args(self.places()).args(["--via", via]).args(words).output().unwrap()
    }

    /// Runs a command that must succeed, and reads the JSON that it writes.
    pub fn json(&self, via: &str, words: &[&str]) -> Value {
        let output = self.run(via, &[&["--json"], words].concat());
        assert_eq!(output.status.code(), Some(0), "{via} {words:?}: {}", stdout(&output));
        serde_json::from_str(&stdout(&output)).unwrap()
    }

    /// Runs a command that must fail, and gives its exit code and the error.
    pub fn error(&self, via: &str, words: &[&str]) -> (Option<i32>, Value) {
        let output = self.run(via, &[&["--json"], words].concat());
        let mut error: Value = serde_json::from_str(&stdout(&output)).unwrap();
        (output.status.code(), error["error"].take())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

#[test]
fn agents_and_their_operations_are_shown() {
    let live = Live::start();
    for via in TRANSPORTS {
        let list = stdout(&live.run(via, &["agents"]));
        assert!(list.starts_with("ID "), "{list}");
        assert!(list.lines().any(|line| line.starts_with("probe ")), "{list}");
        let agents = live.json(via, &["agents"]);
        assert!(agents["agents"].as_array().unwrap().iter().any(|agent| agent["id"] == "probe"));

        let agent = stdout(&live.run(via, &["describe", "probe"]));
        assert!(agent.contains("org.opdbus.Probe1 on /org/opdbus/Agents1/agent/probe"), "{agent}");
        let sleep = stdout(&live.run(via, &["describe", "probe", "sleep"]));
        let echo = stdout(&live.run(via, &["describe", "probe", "Echo"]));
        assert!(echo.contains("\nEach Everything\n"), "{echo}");
        assert!(echo.contains("unspecified|red|dark_green"), "{echo}");
        for text in ["probe.Sleep", "duration", "yes", "90s", "busctl ", "grpcurl "] {
            assert!(sleep.contains(text), "{text} is missing in:\n{sleep}");
        }
    }
}

#[test]
fn both_transports_give_the_same_result() {
    let live = Live::start();
    let words = [
        "call",
        "probe",
        "echo",
        "text=grüße, \"you\"",
        "data=AP8=",
        "everything.a_colour=dark-green",
        "everything.an_int64=-9007199254740993",
        "everything.a_duration=1m30s",
        "everything.string_by_string.a=b",
        "texts=a,b",
        "value={\"n\":[1,null,true]}",
    ];
    let [grpc, dbus] = TRANSPORTS.map(|via| live.json(via, &words));
    assert_eq!(grpc, dbus);
    assert_eq!(grpc["text"], "grüße, \"you\"");
    assert_eq!(grpc["everything"]["a_colour"], "COLOUR_DARK_GREEN");
    assert_eq!(grpc["everything"]["an_int64"], "-9007199254740993");
    assert_eq!(grpc["everything"]["a_duration"], "90s");
    assert_eq!(grpc["texts"], json!(["a", "b"]));
}

#[test]
fn a_request_may_be_json_on_the_line_or_on_standard_input() {
    let live = Live::start();
    for via in TRANSPORTS {
        let sent = r#"{"sizeBytes": "3", "filler": "é"}"#;
        assert_eq!(live.json(via, &["call", "probe", "Fill", sent])["text"], "ééé");
        assert_eq!(live.json(via, &["call", "probe", "Fill", "--data", sent])["text"], "ééé");
        let mut child = command()
            .args(live.places())
            .args(["--via", via, "call", "probe", "Fill", "--data", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(sent.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(stdout(&output), "{\n  \"text\": \"ééé\"\n}\n");
    }
}

#[test]
fn several_calls_are_made_in_one() {
    let live = Live::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls.json");
    let calls = json!([
        {"agent": "memory", "operation": "remember", "id": "w", "arguments": {"key": "k", "value": 5}},
        {"agent": "memory", "operation": "recall", "arguments": {"key": "k", "version": {"$result": "w/version"}}},
        {"agent": "memory", "operation": "recall", "arguments": {"key": "missing"}},
    ]);
    fs::write(&file, calls.to_string()).unwrap();
    let file = file.display().to_string();
    for via in TRANSPORTS {
        let output = live.run(via, &["batch", &file]);
        let shown = stdout(&output);
        assert_eq!(output.status.code(), Some(1), "{via}: {shown}{}", stderr(&output));
        let lines: Vec<_> = shown.lines().collect();
        assert!(lines[0].contains("ID  CALL             STATUS"), "{shown}");
        assert!(lines[1].contains("w   memory.remember  ok "), "{shown}");
        assert!(lines[2].contains("    memory.recall    ok ") && lines[2].contains("5"), "{shown}");
        assert!(lines[3].contains("failed") && lines[3].contains("NOT_FOUND: "), "{shown}");
        assert!(lines[5].contains("1 of 3 calls"), "{shown}");

        let stopped = folder.path().join("stopped.json").display().to_string();
        let calls = json!([
            {"agent": "memory", "operation": "recall", "id": "m", "arguments": {"key": "missing"}},
            {"agent": "probe", "operation": "nothing", "after": ["m"]},
        ]);
        fs::write(&stopped, calls.to_string()).unwrap();
        let words = ["--json", "batch", "--stop-on-error", "--max-parallel=2", &stopped];
        let response: Value = serde_json::from_str(&stdout(&live.run(via, &words))).unwrap();
        assert_eq!(response["failed"], 2, "{response}");
        assert_eq!(response["results"][1]["status"], "BATCH_STATUS_SKIPPED");

        let mut child = command()
            .args(live.places())
            .args(["--via", via, "batch", "--as-completed", "--parallel", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = "{\"agent\":\"probe\",\"operation\":\"sleep\",\"arguments\":{\"duration\":\"0.1s\"}}\n\
                     {\"agent\":\"probe\",\"operation\":\"nothing\"}\n";
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        let shown = stdout(&output);
        assert!(shown.lines().nth(1).unwrap().contains("probe.nothing  ok"), "{shown}");

        let (code, error) = live.error(via, &["batch", "/nowhere/calls.json"]);
        assert_eq!((code, &error["kind"]), (Some(1), &json!("LOCAL")), "{via}");
        fs::write(folder.path().join("wrong"), r#"[{"agent":"a","operation":"o","args":{}}]"#)
            .unwrap();
        let wrong = folder.path().join("wrong").display().to_string();
        let (code, error) = live.error(via, &["batch", &wrong]);
        assert_eq!((code, &error["kind"]), (Some(2), &json!("USAGE")), "{via}");
    }
}

#[test]
fn every_kind_of_error_arrives_over_both() {
    let live = Live::start();
    for via in TRANSPORTS {
        for kind in ErrorKind::ALL {
            let reason = format!("reason={}", kind.reason());
            let (code, error) =
                live.error(via, &["call", "probe", "Fail", &reason, "message=as asked"]);
            assert_eq!(code, Some(1), "{via} {error}");
            assert_eq!(error["kind"], kind.reason(), "{via} {error}");
            assert!(error["message"].as_str().unwrap().contains("as asked"), "{via} {error}");
        }
        let (code, error) = live.error(via, &["call", "nobody", "Fail", "{}"]);
        assert_eq!((code, &error["kind"]), (Some(1), &json!("UNKNOWN_AGENT")), "{via}");
        let (code, error) = live.error(via, &["call", "probe", "Frob", "{}"]);
        assert_eq!((code, &error["kind"]), (Some(1), &json!("UNKNOWN_OPERATION")), "{via}");
        let (code, error) = live.error(via, &["call", "probe", "Fill", "{\"nothing\": 1}"]);
        assert_eq!((code, &error["kind"]), (Some(1), &json!("INVALID_ARGUMENT")), "{via}");
        let (code, error) = live.error(via, &["call", "probe", "Fill", "sise_bytes=1"]);
        assert_eq!((code, &error["kind"]), (Some(2), &json!("USAGE")), "{via}");
        assert!(error["message"].as_str().unwrap().contains("did you mean size_bytes?"));
    }
    let output = live.run("grpc", &["call", "probe", "Fail", "reason=NOT_FOUND", "message=gone"]);
    assert_eq!(stderr(&output), "error: gone\nkind: NOT_FOUND\norigin: probe\n");
}

#[test]
fn the_timeout_reaches_the_service() {
    let live = Live::start();
    for via in TRANSPORTS {
        let started = Instant::now();
        let words = ["--timeout", "300ms", "call", "probe", "Sleep", "duration=20s"];
        let (code, error) = live.error(via, &words);
        assert_eq!((code, &error["kind"]), (Some(1), &json!("DEADLINE_EXCEEDED")), "{via} {error}");
        assert!(started.elapsed() < Duration::from_secs(15), "{via}: {:?}", started.elapsed());
    }
    let sleep = live.json("grpc", &["call", "probe", "Sleep", "duration=1ms"]);
    assert_eq!(sleep["cancelled"], "2", "the service gave both up: {sleep}");
}

#[test]
fn a_service_that_goes_away_is_told_from_a_call_that_failed() {
    for via in TRANSPORTS {
        let live = Live::start();
        let child = command()
            .args(live.places())
            .args(["--via", via, "--json", "call", "probe", "Sleep", "duration=20s"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while live.json("grpc", &["status"])["calls_in_flight"] != json!(2) {
            assert!(started.elapsed() < PATIENCE, "the call never arrived");
        }
        drop(live);
        let output = child.wait_with_output().unwrap();
        let error: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(output.status.code(), Some(1), "{via} {error}");
        assert_eq!(error["error"]["kind"], "UNAVAILABLE", "{via} {error}");
        assert!(stdout(&output).contains("may or may not have been carried out"), "{via} {error}");
    }
}

#[test]
fn a_repeated_request_id_gives_the_first_result() {
    let live = Live::start();
    for via in TRANSPORTS {
        let count = |id: &str| live.json(via, &["call", "probe", "Count", "--request-id", id]);
        let first = count(&format!("{via}-1"));
        assert_eq!(count(&format!("{via}-1")), first);
        assert_ne!(count(&format!("{via}-2")), first);
    }
}

#[test]
fn ping_and_metrics_tell_the_transports_apart() {
    let live = Live::start();
    let ping = live.json("grpc", &["ping", "-c", "7"]);
    assert_eq!((&ping["count"], &ping["transport"]), (&json!(7), &json!("grpc")));
    assert!(ping["min_us"].as_u64().unwrap() <= ping["p99_us"].as_u64().unwrap());
    live.json("dbus", &["ping", "-c", "3"]);
    live.error("dbus", &["call", "probe", "Fail", "reason=INTERNAL"]);
    for via in TRANSPORTS {
        let table = stdout(&live.run(via, &["metrics"]));
        let row = |operation: &str| -> Vec<String> {
            let line = table.lines().find(|line| line.starts_with(operation)).unwrap();
            line.split("  ").map(|cell| cell.trim().to_owned()).filter(|c| !c.is_empty()).collect()
        };
        let pings = row("agents.Ping ");
        assert_eq!((pings[1].as_str(), pings[5].as_str()), ("3", "7"), "{table}");
        let failed = row("probe.Fail ");
        assert_eq!((failed[1].as_str(), failed[3].as_str()), ("1", "1"), "{table}");
    }
    let raw = stdout(&live.run("dbus", &["metrics", "--raw"]));
    assert!(raw.contains("# TYPE opdbus_calls_total counter"), "{raw}");
    let families = live.json("dbus", &["metrics"]);
    assert!(families.as_array().unwrap().iter().any(|f| f["name"] == "opdbus_calls_total"));
}

#[test]
fn status_says_what_is_wrong_and_ends_with_3() {
    let live = Live::start();
    for via in TRANSPORTS {
        let output = live.run(via, &["status"]);
        assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
        assert!(stdout(&output).contains("healthy"), "{}", stdout(&output));
    }
    live.status.warn("agent x is not in this build");
    live.status.config_refused("grpc.toml:3: unknown key");
    let output = live.run("grpc", &["status"]);
    assert_eq!(output.status.code(), Some(3));
    let text = stdout(&output);
    assert!(text.contains("degraded") && text.contains("warning: agent x"), "{text}");
    assert!(text.contains("problem: the last reload was refused"), "{text}");
}

#[test]
fn auto_takes_the_bus_when_the_socket_is_not_there() {
    let live = Live::start();
    let output = live.run("auto", &["-v", "ping"]);
    assert!(stderr(&output).starts_with("by gRPC at unix:"), "{}", stderr(&output));
    let output = command()
        .args(["--address", "/nonexistent/grpc.sock", "--bus", &live.bus.address, "-v", "ping"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stderr(&output);
    assert!(text.starts_with("not by gRPC at unix:/nonexistent/grpc.sock: No such"), "{text}");
    assert!(text.contains("\nby org.opdbus.Agents1 on the bus unix:"), "{text}");

    let output = live.run("dbus", &["--name", "org.example.Nobody", "--json", "ping"]);
    assert_eq!(output.status.code(), Some(4), "{}", stdout(&output));
}

#[test]
fn completion_knows_agents_operations_keys_and_values() {
    let live = Live::start();
    let socket = live.socket.display().to_string();
    let after = |expected: &str, words: &[&str]| {
        offered_with(expected, &[&["--address", socket.as_str()], words].concat())
    };
    assert_eq!(after("probe", &["call", "pro"]), ["probe"]);
    assert_eq!(after("Sum", &["describe", "probe", "s"]), ["Sleep", "Sum"]);
    assert_eq!(after("size_bytes=", &["call", "probe", "Fill", "si"]), ["size_bytes="]);
    let left = after("filler=", &["call", "probe", "Fill", "size_bytes=1", ""]);
    assert!(!left.contains(&"size_bytes=".to_owned()), "{left:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let live = Live::start();
    let mut child = command()
        .args(live.places())
        .args(["call", "probe", "Fill", "size_bytes=1000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

#[test]
fn the_configuration_is_checked_by_the_daemon_itself() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("grpc.toml");
    let check = |words: &[&str]| command().args(words).arg(&file).output().unwrap();
    fs::write(&file, "[executor]\nqueue = 7\n").unwrap();
    let output = check(&["config", "check"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("queue = 7"), "{}", stdout(&output));

    fs::write(&file, "[executor]\nqueu = 7\n").unwrap();
    let output = check(&["config", "check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("grpc.toml:2"), "{}", stderr(&output));
    let output = check(&["--json", "config", "check"]);
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&report["valid"], &report["exit_code"]), (&json!(false), &json!(78)));
}
