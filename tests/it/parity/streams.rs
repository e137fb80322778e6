//! Streams: their cases, and their messages as JSON on descriptors of the client, which D-Bus has beside
//! its signals.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;

use serde_json::{Value, json};
use zbus::{Fd, ObjectPath, Variant};

use super::answers::{Told, given_by, with};
use super::call::{Call, Repeat, Way};
use super::cases::{Case, case};
use super::roles::{self, Role};
use super::values::{self, plain, upper_snake};
use super::world::World;
use crate::dbus::watch::{Watch, finished};

/// A stream of requests is a list of them.
pub(super) fn cases() -> Vec<Case> {
    let probe = |operation, arguments| case("probe", operation, arguments);
    let in_worker = |operation, arguments| case("worker_probe", operation, arguments);
    let command = |operation, arguments| case("commands", operation, arguments);
    let begun = |operation, arguments| {
        let call = json!({"agent": "probe", "operation": "generate", "arguments": "{\"count\":3}"});
        case("tasks", operation, arguments).after_of("calls", "StartCall", call)
    };
    let items = json!([{"agent": "probe", "operation": "nothing"}]);
    let start = json!({"start": {"client_name": "test", "session_id": "KEY"}});
    let shell = json!({"shell": "sh", "directory": "/tmp"});
    let own = vec![
        probe("Generate", json!({"count": 500})),
        probe("Generate", json!({"count": 0})),
        probe("Pace", json!({"count": 5, "size_bytes": 3})),
        probe("Pace", json!({"count": 5, "fail_at": 3})),
        probe("Blocks", json!({"count": 3, "size_bytes": "70000"})),
        probe("Drip", json!({"count": 3, "size_bytes": 10})),
        probe("Sum", json!([{"number": "40"}, {"number": "2"}])),
        probe("Sum", json!([])),
        probe("Chat", json!([{"text": "a"}, {"text": "é"}])),
        in_worker("Blocks", json!({"count": 3, "size_bytes": 70_000})),
        in_worker("Sum", json!([{"data": "AAEC"}, {"data": "AAE="}])),
        in_worker("Chat", json!([{"text": "a"}, {"text": "é"}])),
        command("ExecStream", json!({"argv": ["echo", "é"], "directory": "/tmp"})),
        command("ExecStream", json!({"argv": ["true"], "directory": "/no/such"})),
        command("RunInShell", json!({"id": "GIVEN", "script": "echo é"})).after("OpenShell", shell),
        command("RunInShell", json!({"id": "nobody", "script": "true"})),
        case("calls", "BatchCallStream", json!({"batch": {"items": items}})),
        case("sessions", "Connect", json!([start])),
        begun("WatchTask", json!({"id": "GIVEN"}))
            .after("WaitTask", json!({"id": "GIVEN", "timeout": "60s"})),
    ];
    own.into_iter().chain(of_memory()).chain(of_texts()).collect()
}

fn of_memory() -> Vec<Case> {
    let base64 = |text: &str| values::base64(text.as_bytes());
    let line = base64("{\"key\":\"imported\",\"value\":[1,2]}\n");
    let memory = |operation, arguments| case("memory", operation, arguments);
    let stored = |operation, arguments| {
        memory(operation, arguments)
            .after("Remember", json!({"key": "KEY", "value": {"a": [1, "x"]}}))
    };
    vec![
        stored("BulkRecall", json!({"keys": ["KEY", "nothing", "KEY"]})),
        memory("BulkRecall", json!({"keys": [""]})),
        stored("Export", json!({"pattern": "KEY"})),
        stored("Watch", json!({"pattern": "KEY", "since_revision": "1", "current": true})),
        memory(
            "BulkRemember",
            json!([
                {"remember": {"key": "KEY", "value": {"a": 1}}},
                {"remember": {"key": "", "value": 1}},
            ]),
        ),
        memory("BulkRemember", json!([{"remember": {"key": "", "value": 1}, "atomic": true}])),
        memory(
            "Import",
            json!([{"data": line, "options": {"on_conflict": "IMPORT_CONFLICT_OVERWRITE"}}]),
        ),
        memory("Import", json!([{"data": base64("no line\n"), "options": {"atomic": true}}])),
    ]
}

fn of_texts() -> Vec<Case> {
    let wrong = values::base64(b"no line\n");
    let talk = values::base64(br#"[{"role":"user","content":"hello"}]"#);
    let thoughts = values::base64(chain_form().to_string().as_bytes());
    let context = |operation, arguments| case("context_manager", operation, arguments);
    let items = json!([{"role": "ROLE_USER", "text": "hello"}]);
    let chain = |operation, arguments| case("sequential_thinking", operation, arguments);
    let concluded = |operation, arguments| {
        chain(operation, arguments)
            .after("StartChain", json!({"problem": "why"}))
            .after("Think", json!({"chain_id": "GIVEN", "thought": "because"}))
            .after("Conclude", json!({"chain_id": "GIVEN", "conclusion": "so"}))
    };
    vec![
        context("Export", json!({"names": ["KEY"]}))
            .after("Save", json!({"name": "KEY", "items": items})),
        context("Export", json!({"names": ["nobody"]})),
        context("Import", json!([{"data": wrong}])),
        context(
            "Import",
            json!([{"data": talk, "format": "FORMAT_OPENAI", "name": "KEY", "replace": true}]),
        ),
        concluded("Export", json!({"chain_id": "GIVEN", "format": "EXPORT_FORMAT_MERMAID"})),
        chain("Export", json!({"chain_id": "nobody"})),
        concluded("WatchChain", json!({"chain_id": "GIVEN"})),
        chain("WatchChain", json!({"chain_id": "nobody"})),
        chain("Import", json!([{"data": wrong}])),
        chain("Import", json!([{"data": thoughts}])),
    ]
}

/// A chain as its import takes it.
fn chain_form() -> Value {
    let branch = json!({"name": "main", "from_step": null, "head": 1, "merged_by": null});
    let step = json!({
        "step": 1, "kind": "question", "status": "open", "thought": "what else?", "branch": "main",
        "parents": [], "number": 1, "confidence": null, "evidence": [], "revises": null,
        "reason": "", "superseded_by": null, "resolved_by": null, "resolved_at_us": null,
        "note": "", "scores": {}, "created_at_us": 1,
    });
    json!({
        "chain_id": "", "revision": 1, "created_at_us": 1, "updated_at_us": 1, "status": "open",
        "max_steps": 5, "tags": [], "problem": "why", "context": "", "goals": [], "conclusion": "",
        "branches": [branch], "steps": [step],
    })
}

/// The messages of a stream on a descriptor, and the reason of its end. Requests come on another, if they
/// are a stream.
async fn on_descriptors(world: &World, call: &Call) -> Told {
    let client = world.client(Role::Owner);
    let mut watch = Watch::new(client.bus());
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let (input, requests) = nix::unistd::pipe().unwrap();
    let fd = |fd: &std::os::fd::OwnedFd| {
        Variant::from(Fd::from(fd.as_fd().try_clone_to_owned().unwrap()))
    };
    let json = || Variant::from("json");
    let mut options = HashMap::from([
        ("output-fd".to_owned(), fd(&writer)),
        ("output-format".to_owned(), json()),
    ]);
    let is_stream = call.operation.client_streaming;
    let mut bare = call.clone();
    if is_stream {
        options.insert("input-fd".to_owned(), fd(&input));
        options.insert("input-format".to_owned(), json());
        bare.arguments = json!([]);
    }
    let path = format!("/org/opdbus/Agents1/agent/{}", call.operation.agent);
    let body = client.body_with(&bare, options);
    let begun = watch.call(&path, &call.operation.name, &body).await;
    drop((body, writer, input));
    let reason = |name: &str| name.strip_prefix("org.opdbus.Error.").map(upper_snake);
    let reply = match begun {
        Ok(reply) => reply,
        Err(name) => return (Vec::new(), reason(&name)),
    };
    let body = reply.body();
    let (path, _): (ObjectPath<'_>, HashMap<&str, Variant<'_>>) = body.deserialize().unwrap();
    let lines: String = call.requests().iter().map(|request| format!("{request}\n")).collect();
    let copied = tokio::task::spawn_blocking(move || {
        let mut requests = File::from(requests);
        if is_stream {
            // An agent that has refused them reads no more.
            requests.write_all(lines.as_bytes()).ok();
        }
        drop(requests);
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        text
    });
    let signals = watch.until_end(path.as_str()).await;
    let text = copied.await.unwrap();
    let messages = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (messages, reason(&finished(&signals).1))
}

/// What differs between a chain and another is in the text of their bytes.
fn readable(message: &Value, given: &str) -> Value {
    let text = values::readable(message).to_string();
    serde_json::from_str(&text.replace(given, "GIVEN")).unwrap()
}

/// It runs nothing, so it has neither a beginning nor an end.
#[tokio::test]
async fn a_stream_that_is_sent_again_leaves_the_record_of_a_repeated_call() {
    for way in [Way::TypedOverGrpc, Way::TypedOverDbus] {
        let world = World::start(way, roles::config()).await;
        let stream = world.operation("memory", "BulkRemember");
        let requests = json!([{"remember": {"key": "a", "value": 1}}]);
        let unary = world.operation("memory", "Remember");
        let request = json!({"key": "b", "value": 1});
        for (operation, arguments) in [(&stream, requests), (&unary, request)] {
            let first =
                Call { request_id: Some("once".to_owned()), ..Call::new(operation, arguments) };
            let again = Call { repeat: Repeat::Same, ..first.clone() };
            let told = world.call(Role::Owner, &first).await;
            assert_eq!(told.reason, None, "{way:?}");
            assert_eq!(world.call(Role::Owner, &again).await.messages, told.messages, "{way:?}");
        }
        let records = world.records().await;
        let kinds = |operation: &str| {
            let records = &records[&("memory".to_owned(), operation.to_owned())];
            let kind = |what: &String| what.split(' ').next().unwrap().to_owned();
            let kinds = records.iter().map(|(what, count)| (kind(what), *count));
            kinds.collect::<Vec<_>>()
        };
        let expected = ["call", "end", "start"].map(|kind| (kind.to_owned(), 1));
        assert_eq!(kinds("BulkRemember"), expected, "{way:?}");
        assert_eq!(kinds("Remember"), [("call".to_owned(), 2)], "{way:?}");
    }
}

#[tokio::test]
async fn a_stream_is_the_same_on_a_descriptor() {
    let world = World::start(Way::TypedOverGrpc, roles::config()).await;
    let (mut compared, mut failed) = (0, 0);
    for (number, case) in cases().iter().enumerate() {
        let operation = world.operation(case.agent, case.operation);
        if !operation.is_on_bus() {
            continue;
        }
        let mut told: Vec<Told> = Vec::new();
        for on_descriptors_too in [false, true] {
            let key = format!("key-{number}-{}", u8::from(on_descriptors_too));
            let mut given = "GIVEN".to_owned();
            for (agent, operation, arguments) in &case.before {
                let before = world.operation(agent, operation);
                let before = Call::new(&before, with(arguments, &key, &given));
                let said = world.call(Role::Owner, &before).await;
                given = said.answer().ok().and_then(given_by).unwrap_or(given);
            }
            let call = Call::new(&operation, with(&case.arguments, &key, &given));
            let (messages, reason) = match on_descriptors_too {
                true => on_descriptors(&world, &call).await,
                false => {
                    let said = world.call(Role::Owner, &call).await;
                    (said.messages, said.reason)
                }
            };
            let messages: Vec<Value> =
                messages.iter().map(|it| plain(&readable(it, &given), &key)).collect();
            told.push((messages, reason));
        }
        assert_eq!(told[1], told[0], "{}.{} {}", case.agent, case.operation, case.arguments);
        compared += told[0].0.len() + usize::from(told[0].1.is_some());
        failed += usize::from(told[0].1.is_some());
    }
    assert!(compared > 500 && failed >= 9, "{compared} {failed}");
}
