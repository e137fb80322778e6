//! The audit log of the real daemon: every way of a call leaves its record, a kill loses none that was
//! answered, `op-dbusctl audit` finds and checks them, and no secret gets into any of it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use op_dbus::contract::{Contract, is_secret, may_hold_secrets};
use op_dbus::proto::opdbus::agent::memory::v1::{RememberRequest, RememberResponse};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};
use tonic::Request;
use zbus::Variant;

use crate::ctl::{stderr, stdout};
use crate::grpc::Client;
use crate::process::{Daemon, PATIENCE, http};

const REMEMBER: &str = "/opdbus.agent.memory.v1.MemoryService/Remember";

fn ctl(config: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_op-dbusctl"));
    command.env_remove("OP_DBUS_ADDRESS").env_remove("OP_DBUS_CONFIG");
    command.arg("--config").arg(config).args(words);
    command
}

fn config_of(daemon: &Daemon) -> PathBuf {
    daemon.folder.path().join("grpc.toml")
}

/// Runs the command with `input`.
fn run(config: &Path, words: &[&str], input: &str) -> Output {
    let mut child = ctl(config, words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input has ended already.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    child.wait_with_output().unwrap()
}

pub fn done(config: &Path, words: &[&str], input: &str) -> String {
    let output = run(config, words, input);
    assert_eq!(output.status.code(), Some(0), "{words:?}: {}", stderr(&output));
    stdout(&output)
}

/// The records that a search gives.
pub fn records(config: &Path, words: &[&str]) -> Vec<Value> {
    let words = [&["--json", "audit", "search", "--all"], words].concat();
    let mut found: Value = serde_json::from_str(&done(config, &words, "")).unwrap();
    found["records"].as_array_mut().unwrap().drain(..).collect()
}

#[tokio::test]
async fn every_way_of_a_call_leaves_its_record_and_reads_leave_none() {
    let daemon = Daemon::start("");
    let config = config_of(&daemon);
    for via in ["grpc", "dbus"] {
        let remember = ["--via", via, "call", "memory", "Remember", "key=k", "value=canary-1"];
        done(&config, &[&remember[..], &["--request-id", &format!("r-{via}")]].concat(), "");
        done(&config, &["--via", via, "call", "memory", "Recall", "key=k"], "");
    }
    let call = r#"{"agent":"memory","operation":"remember","arguments":{"key":"b","value":1}}"#;
    done(&config, &["--via", "grpc", "batch", "-"], &format!("{call}{call}"));
    let stream = r#"{"remember":{"key":"s","value":1}}"#;
    let words = ["--via", "grpc", "call", "memory", "BulkRemember", "--data", "-"];
    done(&config, &words, &format!("{stream}\n{stream}\n"));
    let words = ["--via", "grpc", "call", "--detach", "memory", "Remember", "key=d", "value=1"];
    let task = done(&config, &words, "").trim().to_owned();

    // Its end is recorded before it is told.
    done(&config, &["tasks", "wait", &task], "");

    // The object of the task, which answers by itself.
    let address = daemon.bus.address.as_str();
    let bus = zbus::connection::Builder::address(address).build().await.unwrap();
    let path = format!("/org/opdbus/Agents1/task/{task}");
    let options = HashMap::<&str, Variant<'_>>::new();
    let (name, interface) = ("org.opdbus.Agents1", Some("org.opdbus.Task1"));
    bus.call_method(Some(name), path.as_str(), interface, "Cancel", &options).await.unwrap();

    let mut seen = BTreeMap::new();
    for record in records(&config, &["--outcome", "ok"]) {
        let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        assert_eq!(record["decision"], "allow", "{record}");
        assert_eq!(record["uid"], nix::unistd::getuid().as_raw(), "{record}");
        assert_eq!(text("risk"), "write", "{record}");
        assert!(text("rule").contains("built in"), "{record}");
        let key = format!(
            "{} {}.{} {}",
            text("kind"),
            text("agent"),
            text("operation"),
            text("transport")
        );
        *seen.entry(key).or_insert(0) += 1;
    }
    let expected = [
        ("call memory.Remember dbus", 1),
        ("call memory.Remember grpc", 3),
        ("call tasks.CancelTask dbus", 1),
        ("end memory.BulkRemember grpc", 1),
        ("end memory.Remember grpc", 1),
        ("start memory.BulkRemember grpc", 1),
        ("start memory.Remember grpc", 1),
    ];
    let expected = expected.map(|(key, count)| (key.to_owned(), count));
    assert_eq!(seen, BTreeMap::from(expected));

    let named = records(&config, &["--operation", "remember"]);
    let named = named.iter().find(|record| record["request_id"] == "r-dbus").unwrap();
    assert_eq!(named["digest"].as_str().unwrap().len(), 64, "{named}");
    let folder = daemon.folder.path().join("state/audit");
    for entry in fs::read_dir(&folder).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("canary-1"));
    }
    done(&config, &["audit", "verify"], "");
}

#[tokio::test]
async fn a_record_tells_by_which_interface_the_call_came() {
    let mut daemon = Daemon::start("");
    let config = config_of(&daemon);
    for via in ["grpc", "dbus"] {
        let words = ["--via", via, "call", "memory", "Remember", "key=k", "value=1"];
        done(&config, &words, "");
    }
    let address = daemon.bus.address.as_str();
    let bus = zbus::connection::Builder::address(address).build().await.unwrap();
    let (name, path) = ("org.dbusmcp.Agent.Memory", "/org/dbusmcp/Agent/Memory");
    let interface = Some("org.dbusmcp.Agent");
    let body = ("remember", "a", "1");
    bus.call_method(Some(name), path, interface, "RunOperation", &body).await.unwrap();
    // Refused before it is a call.
    let body = ("remember", "a", "x".repeat(2_000_000));
    bus.call_method(Some(name), path, interface, "RunOperation", &body).await.unwrap_err();
    daemon.signal(Signal::SIGTERM);
    daemon.wait();

    let found = |interface: &str| -> Vec<_> {
        let records = records(&config, &["--interface", interface]);
        let text = |record: &Value, name: &str| record[name].as_str().unwrap_or("").to_owned();
        let parts = |record| ["kind", "transport", "interface"].map(|name| text(record, name));
        records.iter().map(|record| parts(record).join(" ")).collect()
    };
    assert_eq!(found("own"), ["call grpc own", "call dbus own"]);
    assert_eq!(found("legacy"), ["call dbus legacy", "refused dbus legacy"]);
}

#[tokio::test]
async fn what_was_answered_is_in_the_log_after_a_kill() {
    let mut daemon = Daemon::start("[audit]\nfile_bytes = 65536\nfiles = 1000\n");
    let config = config_of(&daemon);
    let client = Client::unix(&daemon.grpc_socket()).await;
    let answered = Arc::new(Mutex::new(Vec::new()));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..16 {
        let (client, answered) = (client.clone(), Arc::clone(&answered));
        writers.spawn(async move {
            for round in 0.. {
                let id = format!("{writer}-{round}");
                let mut request = Request::new(RememberRequest {
                    key: format!("{writer}"),
                    value: Some(prost_types::Value::from(1.0)),
                    ..RememberRequest::default()
                });
                request.metadata_mut().insert("opdbus-request-id", id.parse().unwrap());
                let call = client.request::<_, RememberResponse>(REMEMBER, request).await;
                let Ok(_) = call else { return };
                answered.lock().unwrap().push(id);
            }
        });
    }
    let deadline = Instant::now() + PATIENCE;
    while answered.lock().unwrap().len() < 1000 {
        assert!(Instant::now() < deadline, "{} answers", answered.lock().unwrap().len());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    writers.join_all().await;

    done(&config, &["audit", "verify"], "");
    let recorded: Vec<Value> = records(&config, &["--agent", "memory"]);
    let recorded: std::collections::BTreeSet<&str> =
        recorded.iter().filter_map(|record| record["request_id"].as_str()).collect();
    let answered = answered.lock().unwrap();
    let missing: Vec<_> = answered.iter().filter(|id| !recorded.contains(id.as_str())).collect();
    assert!(missing.is_empty(), "answered and not recorded: {missing:?}");
    assert!(fs::read_dir(daemon.folder.path().join("state/audit")).unwrap().count() > 4);
}

#[test]
fn refusals_are_recorded_with_their_rule_and_a_changed_log_is_told() {
    let mut daemon = Daemon::start("[[policy]]\ndecision = \"deny\"\n");
    let config = config_of(&daemon);
    for via in ["grpc", "dbus"] {
        let output = run(&config, &["--via", via, "call", "memory", "Recall", "key=k"], "");
        assert_eq!(output.status.code(), Some(1));
        assert!(!stderr(&output).contains("rule 1"), "the rule is not told");
    }
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    let found = records(&config, &["--refused", "--operation", "describe_agent"]);
    let ways: Vec<_> = found.iter().map(|record| record["transport"].as_str().unwrap()).collect();
    assert_eq!(ways, ["grpc", "dbus"]);
    for record in &found {
        assert_eq!(record["outcome"], "ACCESS_DENIED", "{record}");
        assert_eq!(record["decision"], "refuse", "{record}");
        assert!(record["rule"].as_str().unwrap().starts_with("rule 1 ("), "{record}");
    }
    let table = done(&config, &["audit", "search", "--refused", "--since", "1h"], "");
    assert!(table.contains("agents.DescribeAgent"), "{table}");
    assert!(done(&config, &["audit", "search", "--until", "1h"], "").contains("no records"));
    let tail = done(&config, &["audit", "tail", "-n", "1"], "");
    assert!(tail.contains(" close"), "{tail}");

    let folder = config.with_file_name("state").join("audit");
    let file = folder.join("audit-00000000000000000001.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("DescribeAgent", "ListAgents", 1)).unwrap();
    let output = run(&config, &["--json", "audit", "verify"], "");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let told: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(told["whole"], false, "{told}");
    assert_eq!(told["broken"]["fault"], "changed", "{told}");
    assert_eq!(told["broken"]["line"], 2, "{told}");
    let output = run(&config, &["audit", "verify"], "");
    assert!(stdout(&output).contains("audit-00000000000000000001.jsonl:2"), "{}", stdout(&output));
    let nowhere = Path::new("/nonexistent/grpc.toml");
    let output = run(nowhere, &["audit", "--folder", "/nonexistent", "verify"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot be read"), "{}", stderr(&output));
}

#[test]
fn tail_follows_a_log_that_is_written() {
    let daemon = Daemon::start("");
    let config = config_of(&daemon);
    let mut tail = ctl(&config, &["--json", "audit", "tail", "-n", "0", "-f", "--agent", "memory"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let calls = std::thread::spawn(move || {
        // Until it is seen: whether it follows already nobody says.
        while stopped.try_recv().is_err() {
            done(&config, &["call", "memory", "Remember", "key=k", "value=1"], "");
        }
    });
    let record: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(record["operation"], "Remember", "{record}");
    stop.send(()).unwrap();
    calls.join().unwrap();
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[test]
fn the_files_are_for_the_services_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let daemon = Daemon::start("");
    let folder = daemon.folder.path().join("state/audit");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path) & 0o037, 0, "{}", path.display());
    }
}

/// A text that must be found nowhere.
const SECRET: &str = "canary-9b1f4c";

/// A value for `field` in which every secret is the canary; `None` to leave the field out.
fn filled(field: &FieldDescriptor, depth: usize) -> Option<Value> {
    if is_secret(field) {
        return Some(match () {
            // The canary in Base64.
            () if field.kind() == Kind::Bytes => json!("Y2FuYXJ5LTliMWY0Yw=="),
            () if field.is_map() => json!({ "CANARY": SECRET }),
            () => json!(SECRET),
        });
    }
    if field.is_map() {
        return None;
    }
    let value = if let Kind::Message(message) = field.kind() {
        if !may_hold_secrets(&message) || depth >= 5 {
            return None;
        }
        request(&message, depth + 1)
    } else if field.kind() == Kind::String {
        match field.name() {
            "agent" => json!("memory"),
            "operation" | "method" => json!("Remember"),
            _ => json!("x"),
        }
    } else {
        return None;
    };
    Some(if field.is_list() { json!([value]) } else { value })
}

fn request(message: &MessageDescriptor, depth: usize) -> Value {
    let mut members = serde_json::Map::new();
    let mut choices = std::collections::BTreeSet::new();
    for field in message.fields() {
        // Of a choice the first member that can be filled.
        if let Some(choice) = field.containing_oneof()
            && !choice.is_synthetic()
            && choices.contains(choice.name())
        {
            continue;
        }
        if let Some(value) = filled(&field, depth) {
            if let Some(choice) = field.containing_oneof() {
                choices.insert(choice.name().to_owned());
            }
            members.insert(field.name().to_owned(), value);
        }
    }
    Value::Object(members)
}

#[test]
fn no_secret_is_found_in_logs_records_errors_metrics_or_tasks() {
    let mut daemon = Daemon::start("[log]\nlevel = \"trace\"\n");
    let config = config_of(&daemon);
    let contract = Contract::built_in().unwrap();
    let (mut tried, mut errors) = (0, String::new());
    for service in &contract.services {
        for operation in service.operations.iter().filter(|o| may_hold_secrets(&o.input)) {
            let text = request(&operation.input, 0).to_string();
            assert!(text.contains(SECRET) || text.contains("Y2FuYXJ5"), "{}", operation.name);
            // Once as it is to be, once with a secret in the wrong place.
            let broken = text.replacen(&format!("{SECRET:?}"), &format!("[[{SECRET:?}]]"), 1);
            for (via, text) in [("grpc", &text), ("dbus", &text), ("grpc", &broken)] {
                tried += 1;
                let words = [
                    "--via",
                    via,
                    "--timeout",
                    "2s",
                    "--verbose",
                    "call",
                    &service.id,
                    &operation.name,
                    "--data",
                    "-",
                ];
                errors.push_str(&stderr(&run(&config, &words, &format!("{text}\n"))));
            }
        }
    }
    assert!(tried >= 12, "only {tried} calls bear secrets");
    let tasks = done(&config, &["--json", "tasks", "--all"], "");
    let status = done(&config, &["--json", "status"], "");
    let metrics = http(&daemon.metrics_socket(), "GET", "/metrics");
    let folder = daemon.folder.path().join("state/audit");
    let mut files = String::new();
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    daemon.wait_for_log("has stopped");
    let log = daemon.log();
    for entry in fs::read_dir(folder).unwrap() {
        files.push_str(&String::from_utf8_lossy(&fs::read(entry.unwrap().path()).unwrap()));
    }
    assert!(log.contains("caller_uid"), "at this level every call leaves a line");
    let places = [
        ("an error", errors),
        ("the log", log),
        ("the audit log", files),
        ("the metrics", metrics),
        ("the tasks", tasks),
        ("the status", status),
    ];
    for (place, text) in places {
        for secret in [SECRET, "Y2FuYXJ5LTliMWY0Yw"] {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "in {place}");
        }
    }
}
