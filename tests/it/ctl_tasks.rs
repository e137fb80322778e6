//! `op-dbusctl` with streams, tasks and sessions, against a service, over both transports.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Output, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::ctl::{command, offered_with, stderr, stdout};
use crate::ctl_live::{Live, TRANSPORTS};
use crate::process::PATIENCE;

/// A command that runs, and what it writes.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn start(live: &Live, via: &str, words: &[&str]) -> Self {
        let mut child = command()
            .args(live.places())
            .args(["--via", via, "--json"])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next line; null after the last.
    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_default()
    }

    fn interrupt(&self) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGINT).unwrap();
    }

    /// The lines that were not read, and the rest of what came of it.
    fn end(mut self) -> (Vec<Value>, Output) {
        let mut rest = Vec::new();
        let mut line = self.next();
        while !line.is_null() {
            rest.push(line);
            line = self.next();
        }
        (rest, self.child.wait_with_output().unwrap())
    }
}

/// Runs a command with these lines as its input.
fn with_input(live: &Live, via: &str, words: &[&str], lines: &str) -> (Vec<Value>, Output) {
    let mut running = Running::start(live, via, words);
    // The command may have ended before it has read all.
    running.child.stdin.take().unwrap().write_all(lines.as_bytes()).ok();
    running.end()
}

fn id_of(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    stdout(output).trim().to_owned()
}

fn lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_stream_is_shown_and_its_error_comes_after_its_messages() {
    let live = Live::start();
    for via in TRANSPORTS {
        let output = live.run(via, &["call", "probe", "Pace", "count=2", "interval=1ms"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let one = |number| format!("{{\n  \"number\": {number},\n  \"filler\": \"\"\n}}\n");
        assert_eq!(stdout(&output), one(1) + &one(2), "{via}");
        assert_eq!(stderr(&output), "", "{via}");

        let output = live.run(via, &["call", "probe", "generate", "count=0"]);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), ""), "{via}");

        let failing = ["call", "probe", "Pace", r#"{"count": 9, "fail_at": 3}"#];
        let output = live.run(via, &[&["--json"], &failing[..]].concat());
        assert_eq!(output.status.code(), Some(1), "{via}");
        let lines = lines(&output);
        assert_eq!(lines.len(), 3, "{via} {lines:?}");
        assert_eq!(lines[1]["number"], 2, "{via}");
        assert_eq!(lines[2]["error"]["kind"], "BACKEND_FAILED", "{via}");
        assert_eq!(lines[2]["error"]["facts"]["origin"], "probe", "{via}");
        let output = live.run(via, &failing);
        let said = "error: asked to fail at 3\nkind: BACKEND_FAILED\norigin: probe\n";
        assert!(stderr(&output).starts_with(said), "{via} {}", stderr(&output));

        let words = ["--timeout", "200ms", "call", "probe", "Pace", "count=9", "interval=60s"];
        let (code, error) = live.error(via, &words);
        assert_eq!((code, &error["kind"]), (Some(1), &json!("DEADLINE_EXCEEDED")), "{via}");
        let (code, error) = live.error(via, &["call", "probe", "Pace", "{\"cound\": 1}"]);
        assert_eq!((code, &error["kind"]), (Some(1), &json!("INVALID_ARGUMENT")), "{via}");
    }
}

#[test]
fn what_was_detached_is_watched_awaited_and_cancelled() {
    let live = Live::start();
    for via in TRANSPORTS {
        let slow = ["call", "--detach", "probe", "Pace", "count=10000", "interval=20ms"];
        let output = live.run(via, &slow);
        let id = id_of(&output);
        assert!(stderr(&output).contains(&format!("op-dbusctl tasks watch {id}")), "{via}");

        let mut watch = Running::start(&live, via, &["tasks", "watch", &id]);
        assert_eq!(watch.next()["number"], 1, "{via}");
        let second = watch.next();
        watch.interrupt();
        let (rest, output) = watch.end();
        assert_eq!(output.status.code(), Some(3), "{via} {}", stderr(&output));
        let last = rest.last().unwrap_or(&second)["number"].as_u64().unwrap();
        let on = format!("op-dbusctl tasks watch {id} --from {}\n", last + 1);
        assert!(stderr(&output).ends_with(&on), "{via} {}", stderr(&output));
        let from = (last + 1).to_string();
        let mut watch = Running::start(&live, via, &["tasks", "watch", &id, "--from", &from]);
        assert_eq!(watch.next()["number"], last + 1, "{via}");

        let output = live.run(via, &["tasks", "wait", &id, "--timeout", "100ms"]);
        assert_eq!(output.status.code(), Some(3), "{via}");
        assert_eq!(stdout(&output), "probe.Pace is working\n", "{via}");
        let shown = stdout(&live.run(via, &["tasks", "show", &id]));
        for text in ["\nstate          working\n", "of 10000 messages)", "tasks cancel", " ago)\n"]
        {
            assert!(shown.contains(text), "{via}: {text} is missing in:\n{shown}");
        }
        let cancelled = live.json(via, &["tasks", "cancel", &id]);
        assert_eq!(cancelled["task"]["id"], id.as_str(), "{via}");
        let (rest, output) = watch.end();
        assert_eq!(output.status.code(), Some(1), "{via} {}", stderr(&output));
        assert_eq!(rest.last().unwrap()["error"]["kind"], "CANCELLED", "{via}");

        let output = live.run(via, &["tasks", "wait", &id]);
        assert_eq!(output.status.code(), Some(1), "{via}");
        assert_eq!(stdout(&output), "probe.Pace is cancelled\n", "{via}");
        let output = live.run(via, &["--json", "tasks", "wait", &id]);
        assert_eq!(output.status.code(), Some(1), "{via}");
        assert_eq!(lines(&output)[0]["ended"], true, "{via}");
        let shown = stdout(&live.run(via, &["tasks", "show", &id]));
        assert!(shown.contains("\nkind           CANCELLED\n"), "{via} {shown}");
        let (code, error) = live.error(via, &["tasks", "show", "nothing"]);
        assert_eq!((code, &error["kind"]), (Some(1), &json!("NOT_FOUND")), "{via}");
    }
}

#[test]
fn a_call_without_a_stream_can_be_detached() {
    let live = Live::start();
    for via in TRANSPORTS {
        let words = ["call", "--detach", "--request-id", via, "probe", "Fill", "size_bytes=3"];
        let task = live.json(via, &words)["task"].take();
        assert_eq!(live.json(via, &words)["task"]["id"], task["id"], "{via}");
        let id = task["id"].as_str().unwrap();
        assert_eq!(live.json(via, &["tasks", "wait", id])["task"]["state"], "TASK_STATE_COMPLETED");
        let output = live.run(via, &["tasks", "watch", id]);
        assert_eq!(output.status.code(), Some(0), "{via}");
        assert!(stdout(&output).starts_with("{\n  \"text\": "), "{via}");

        let (code, _) = live.error(via, &["call", "--detach", "agents", "Ping", "{}"]);
        assert_eq!(code, Some(1), "{via}");
    }
}

#[test]
fn ctrl_c_cancels_what_the_command_started() {
    let live = Live::start();
    for via in TRANSPORTS {
        let words = ["call", "probe", "Pace", "count=10000", "interval=20ms"];
        let mut call = Running::start(&live, via, &words);
        assert_eq!(call.next()["number"], 1, "{via}");
        let started = Instant::now();
        call.interrupt();
        let (rest, output) = call.end();
        assert!(started.elapsed() < PATIENCE, "{via}");
        assert_eq!(output.status.code(), Some(1), "{via} {}", stderr(&output));
        assert!(stderr(&output).starts_with("cancelling task "), "{via} {}", stderr(&output));
        assert_eq!(rest.last().unwrap()["error"]["kind"], "CANCELLED", "{via}");
        let tasks = live.json(via, &["tasks", "--state", "cancelled", "--limit", "1"]);
        let task = &tasks["tasks"][0];
        assert!(stderr(&output).contains(task["id"].as_str().unwrap()), "{via} {tasks}");

        // So does a reader who has seen enough.
        let mut call = Running::start(&live, via, &words);
        assert_eq!(call.next()["number"], 1, "{via}");
        drop(call.lines);
        let output = call.child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{via}");
        let running = live.json(via, &["tasks", "--state", "working"]);
        assert_eq!(running["tasks"], json!([]), "{via}");
    }
}

#[test]
fn requests_are_lines_of_standard_input() {
    let live = Live::start();
    let words = ["call", "memory", "BulkRemember", "--data", "-"];
    let requests = "{\"remember\": {\"key\": \"a\", \"value\": 1}}\n\n\
                    {\"remember\": {\"key\": \"b\", \"value\": [true]}}";
    let (answers, output) = with_input(&live, "grpc", &words, requests);
    assert_eq!(output.status.code(), Some(0), "{answers:?} {}", stderr(&output));
    assert_eq!(answers.len(), 1);
    assert_eq!(live.json("grpc", &["call", "memory", "Recall", "key=b"])["value"], json!([true]));

    let requests = "{\"remember\":{\"key\":\"c\",\"value\":1},\"atomic\":true}\n{\"keys\":5}\n";
    let (answers, output) = with_input(&live, "grpc", &words, requests);
    assert_eq!(output.status.code(), Some(2), "{answers:?}");
    let message = answers[0]["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("line 2: ") && message.contains("keys"), "{message}");
    let (code, _) = live.error("grpc", &["call", "memory", "Recall", "key=c"]);
    assert_eq!(code, Some(1), "a stream that broke off is no end");

    let lines = "{\"text\":\"a\"}\n{\"text\":\"b\"}\n";
    let (answers, _) = with_input(&live, "grpc", &["call", "probe", "Chat", "--data", "-"], lines);
    assert_eq!(answers, [json!({"text": "a"}), json!({"text": "b"})]);
    assert_eq!(live.json("grpc", &["call", "probe", "Sum", "number=5"])["sum"], "5");

    let (answers, output) = with_input(&live, "dbus", &words, requests);
    assert_eq!(output.status.code(), Some(2));
    assert!(answers[0]["error"]["message"].as_str().unwrap().contains("over gRPC only"));
    let (code, _) = live.error("grpc", &["call", "memory", "BulkRemember"]);
    assert_eq!(code, Some(2));

    let mut call = Running::start(&live, "grpc", &["call", "probe", "Chat", "--data", "-"]);
    call.child.stdin.as_mut().unwrap().write_all(b"{\"text\":\"a\"}\n").unwrap();
    assert_eq!(call.next()["text"], "a");
    call.interrupt();
    let (rest, output) = call.end();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(rest[0]["error"]["kind"], "CANCELLED");
    let started = Instant::now();
    while live.json("grpc", &["tasks", "--state", "cancelled"])["tasks"] == json!([]) {
        assert!(started.elapsed() < PATIENCE, "its task goes on");
    }
}

#[test]
fn streams_of_the_service_itself_are_shown_over_grpc() {
    let live = Live::start();
    let words = ["call", "agents", "WatchAgents"];
    let mut call = Running::start(&live, "grpc", &words);
    assert!(call.next().is_object());
    call.interrupt();
    assert_eq!(call.end().1.status.code(), Some(1));
    let (code, error) = live.error("dbus", &words);
    assert_eq!(code, Some(2), "{error}");
    assert!(error["message"].as_str().unwrap().contains("over gRPC only"), "{error}");
}

#[test]
fn raw_bytes_are_written_as_they_are() {
    let live = Live::start();
    live.json(
        "grpc",
        &[
            "call",
            "context_manager",
            "Save",
            r#"{"name":"n","items":[{"role":"ROLE_USER","text":"grüße"}]}"#,
        ],
    );
    for via in TRANSPORTS {
        let words = ["call", "--raw", "probe", "Blocks", "count=3", "size_bytes=100000"];
        let output = live.run(via, &words);
        assert_eq!(output.status.code(), Some(0), "{via} {}", stderr(&output));
        assert_eq!(output.stdout, vec![b'x'; 300_000], "{via}");
        let output = live.run(via, &["call", "--raw", "context_manager", "Export"]);
        let text = stdout(&output);
        assert!(text.starts_with("{\"") && text.contains("grüße"), "{via} {text}");
        let output = live.run(via, &["call", "--raw", "probe", "Generate", "count=1"]);
        assert_eq!(output.status.code(), Some(2), "{via}");

        let blocks = ["call", "--detach", "probe", "Blocks", "count=2", "size_bytes=5"];
        let id = id_of(&live.run(via, &blocks));
        let output = live.run(via, &["tasks", "watch", "--raw", "--from", "2", &id]);
        assert_eq!(stdout(&output), "xxxxx", "{via} {}", stderr(&output));
    }
}

#[test]
fn messages_that_are_gone_are_told() {
    let live = Live::start();
    for via in TRANSPORTS {
        let words = ["call", "-d", "probe", "Blocks", "count=40", "size_bytes=1000000"];
        let id = id_of(&live.run(via, &words));
        live.run(via, &["tasks", "wait", &id]);
        let output = live.run(via, &["--json", "tasks", "watch", "--from", "1", &id]);
        assert_eq!(output.status.code(), Some(0), "{via} {}", stderr(&output));
        let missing = 40 - stdout(&output).lines().count();
        let said = format!("gap: messages 1 to {missing} are missing; ");
        assert!(stderr(&output).starts_with(&said), "{via} {missing}: {}", stderr(&output));
    }
}

#[test]
fn tasks_are_listed_in_a_table_the_newest_first() {
    let live = Live::start();
    for via in TRANSPORTS {
        let empty = live.run(via, &["tasks", "--agent", "memory"]);
        assert_eq!(stdout(&empty), "no tasks\n", "{via}");
    }
    let first = id_of(&live.run("grpc", &["call", "-d", "probe", "Generate", "count=3"]));
    let second = id_of(&live.run("dbus", &["call", "-d", "probe", "Fail", "reason=INTERNAL"]));
    for id in [&first, &second] {
        live.run("grpc", &["tasks", "wait", id]);
    }
    for via in TRANSPORTS {
        let table = stdout(&live.run(via, &["tasks"]));
        let rows: Vec<&str> = table.lines().collect();
        assert_eq!(rows.len(), 3, "{table}");
        assert!(rows[0].starts_with("ID ") && rows[0].ends_with("MESSAGES  BYTES"), "{table}");
        assert!(rows[1].starts_with(&second) && rows[1].contains("failed     probe.Fail"));
        assert!(rows[2].starts_with(&first) && rows[2].contains("completed  probe.Generate"));
        assert!(rows.iter().all(|row| row.chars().count() == rows[0].chars().count()), "{table}");

        let one = stdout(&live.run(via, &["tasks", "list", "--limit", "1"]));
        assert!(one.contains(&second) && !one.contains(&first) && one.contains("--all"), "{one}");
        let words = ["tasks", "list", "--state", "completed", "--state", "working", "--all"];
        let listed = live.json(via, &words);
        assert_eq!(listed["tasks"].as_array().unwrap().len(), 1, "{listed}");
        assert_eq!(listed["tasks"][0]["id"], first.as_str());

        let words = ["tasks", "cancel", &first, "nothing", &second];
        let output = live.run(via, &words);
        assert_eq!(output.status.code(), Some(1), "{via}");
        let expected = format!("{first} is completed\n{second} is failed\n");
        assert_eq!(stdout(&output), expected, "{via}");
        assert!(stderr(&output).starts_with("error: "), "{via}");
    }
    let socket = live.socket.display().to_string();
    let found = offered_with(&first, &["--address", &socket, "tasks", "watch", ""]);
    assert!(found.contains(&second), "{found:?}");
}

#[test]
fn sessions_are_listed_shown_and_ended() {
    let live = Live::start();
    for via in TRANSPORTS {
        assert_eq!(stdout(&live.run(via, &["sessions"])), "no sessions\n");
        let id = format!("session-{via}");
        let request = json!({
            "client_name": "tester", "session_id": id, "metadata": {"editor": "ed"},
        });
        live.json("grpc", &["call", "sessions", "StartSession", &request.to_string()]);
        let table = stdout(&live.run(via, &["sessions"]));
        assert!(table.starts_with("ID ") && table.contains(&format!("\n{id}")), "{table}");
        let listed = live.json(via, &["sessions", "list"]);
        assert_eq!(listed["sessions"][0]["client_name"], "tester", "{listed}");
        let shown = stdout(&live.run(via, &["sessions", "show", &id]));
        for text in ["tester\n", "\nheld           no\n", "editor=ed", "sessions end session-"] {
            assert!(shown.contains(text), "{via}: {text} is missing in:\n{shown}");
        }
        let socket = live.socket.display().to_string();
        let found = offered_with(&id, &["--address", &socket, "sessions", "end", "se"]);
        assert_eq!(found, [id.as_str()]);
        let output = live.run(via, &["sessions", "end", &id]);
        assert_eq!(stdout(&output), format!("{id} has ended\n"), "{via}");
        let (code, error) = live.error(via, &["sessions", "end", &id]);
        assert_eq!((code, &error["kind"]), (Some(1), &json!("NOT_FOUND")), "{via} {error}");
    }
}
