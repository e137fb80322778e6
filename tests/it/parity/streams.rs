//! A stream gives the same messages and the same end natively over gRPC, as signals on D-Bus, as JSON on
//! the client's descriptor, and as the messages of a task that was started and is read.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;

use bytes::Bytes;
use op_dbus::contract::{Contract, json_to_message, message_to_json};
use serde_json::{Value, json};
use tonic::Request;
use zbus::{Fd, ObjectPath, Variant};

use super::values::{self, json_of, plain};
use super::ways::{Raw, Way, World, upper_snake};
use crate::dbus::watch::{Watch, finished};

/// The messages of a stream, and the reason of the error if it had one.
type Told = (Vec<Value>, Option<String>);

/// One stream.
struct Case {
    agent: &'static str,
    operation: &'static str,
    /// All of a client stream, or the one of another.
    requests: Vec<Value>,
}

fn case(agent: &'static str, operation: &'static str, requests: Vec<Value>) -> Case {
    Case { agent, operation, requests }
}

/// What is read is there before, so that each way reads the same; what is written is written anew by
/// each of them.
fn cases(chain: &str) -> Vec<Case> {
    let base64 = |text: &str| values::base64(text.as_bytes());
    let line = base64("{\"key\":\"imported\",\"value\":[1,2]}\n");
    let wrong = base64("no line\n");
    let thinking = "sequential_thinking";
    vec![
        case("probe", "Generate", vec![json!({"count": 0})]),
        case("probe", "Generate", vec![json!({"count": 500})]),
        case("probe", "Pace", vec![json!({"count": 5, "size_bytes": 3})]),
        case("probe", "Pace", vec![json!({"count": 5, "fail_at": 3})]),
        case("probe", "Blocks", vec![json!({"count": 3, "size_bytes": "70000"})]),
        case("probe", "Drip", vec![json!({"count": 3, "size_bytes": 10})]),
        case("probe", "Sum", vec![json!({"number": "40"}), json!({"number": "2"})]),
        case("probe", "Sum", vec![]),
        case("probe", "Chat", vec![json!({"text": "a"}), json!({"text": "é"})]),
        case("worker_probe", "Blocks", vec![json!({"count": 3, "size_bytes": 70_000})]),
        case("worker_probe", "Sum", vec![json!({"data": "AAEC"}), json!({"data": "AAE="})]),
        case("worker_probe", "Chat", vec![json!({"text": "a"}), json!({"text": "é"})]),
        case("commands", "ExecStream", vec![json!({"argv": ["echo", "é"], "directory": "/tmp"})]),
        case("commands", "ExecStream", vec![json!({"argv": ["true"], "directory": "/no/such"})]),
        case("commands", "RunInShell", vec![json!({"id": "nobody", "script": "true"})]),
        case("memory", "BulkRecall", vec![json!({"keys": ["k1", "nothing", "k2"]})]),
        case("memory", "BulkRecall", vec![json!({"keys": [""]})]),
        case("memory", "Export", vec![json!({"pattern": "k*"})]),
        case("memory", "Watch", vec![json!({"since_revision": "1", "current": true})]),
        case(
            "memory",
            "BulkRemember",
            vec![
                json!({"remember": {"key": "b1", "value": {"a": 1}}}),
                json!({"remember": {"key": "", "value": 1}}),
            ],
        ),
        case(
            "memory",
            "BulkRemember",
            vec![json!({"remember": {"key": "", "value": 1}, "atomic": true})],
        ),
        case(
            "memory",
            "Import",
            vec![json!({"data": line, "options": {"on_conflict": "IMPORT_CONFLICT_OVERWRITE"}})],
        ),
        case("memory", "Import", vec![json!({"data": wrong, "options": {"atomic": true}})]),
        case("context_manager", "Export", vec![json!({"names": ["talk"]})]),
        case("context_manager", "Export", vec![json!({"names": ["nobody"]})]),
        case("context_manager", "Import", vec![json!({"data": wrong})]),
        case(
            thinking,
            "Export",
            vec![json!({"chain_id": chain, "format": "EXPORT_FORMAT_MERMAID"})],
        ),
        case(thinking, "Export", vec![json!({"chain_id": "nobody"})]),
        case(thinking, "WatchChain", vec![json!({"chain_id": chain})]),
        case(thinking, "WatchChain", vec![json!({"chain_id": "nobody"})]),
        case(thinking, "Import", vec![json!({"data": wrong})]),
    ]
}

/// Stores what the cases read, and gives the id of a chain that is concluded.
async fn prepare(world: &World) -> String {
    let call = async |agent, operation, arguments: Value| {
        let way = Way::JsonOverGrpc;
        world.call(way, agent, operation, arguments).await.unwrap()
    };
    for key in ["k1", "k2"] {
        call("memory", "Remember", json!({"key": key, "value": {"a": [1, "x"]}})).await;
    }
    let items = json!([{"role": "ROLE_USER", "text": "hello"}]);
    call("context_manager", "Save", json!({"name": "talk", "items": items})).await;
    let started = call("sequential_thinking", "StartChain", json!({"problem": "why"})).await;
    let chain = started["chain_id"].as_str().unwrap().to_owned();
    let thought = json!({"chain_id": chain, "thought": "because"});
    call("sequential_thinking", "Think", thought).await;
    let conclusion = json!({"chain_id": chain, "conclusion": "so"});
    call("sequential_thinking", "Conclude", conclusion).await;
    chain
}

impl Case {
    fn is_client_stream(&self, world: &World) -> bool {
        world.operation(self.agent, self.operation).client_streaming
    }

    async fn over_grpc(&self, world: &World) -> Told {
        let operation = world.operation(self.agent, self.operation);
        let requests: Vec<Bytes> = self
            .requests
            .iter()
            .map(|request| json_to_message(&operation.input, &request.to_string()).unwrap().into())
            .collect();
        let mut grpc = tonic::client::Grpc::new(world.channel.clone());
        grpc.ready().await.unwrap();
        let path = operation.grpc_path.parse().unwrap();
        let requests = Request::new(tokio_stream::iter(requests));
        let reason = |status: tonic::Status| {
            let details = tonic_types::StatusExt::get_details_error_info(&status);
            details.expect("every error has an ErrorInfo").reason
        };
        let mut replies = match grpc.streaming(requests, path, Raw).await {
            Ok(replies) => replies.into_inner(),
            Err(status) => return (Vec::new(), Some(reason(status))),
        };
        let mut messages = Vec::new();
        loop {
            match replies.message().await {
                Ok(Some(message)) => {
                    let text = message_to_json(&operation.output, &message).unwrap();
                    messages.push(serde_json::from_str(&text).unwrap());
                }
                Ok(None) => return (messages, None),
                Err(status) => return (messages, Some(reason(status))),
            }
        }
    }

    /// The body of the call on D-Bus; with `options` beside those that are fields of the request.
    fn body(
        &self,
        world: &World,
        options: HashMap<String, Variant<'static>>,
    ) -> zbus::Structure<'static> {
        let operation = world.operation(self.agent, self.operation);
        let mut body = zbus::Structure::builder();
        if operation.client_streaming {
            let requests: Vec<_> = self
                .requests
                .iter()
                .map(|request| values::message_of(&operation.input, request.as_object().unwrap()))
                .collect();
            body.push_value(Variant::from(requests));
            return body.append_field(Variant::from(options)).build().unwrap();
        }
        let mut fields = self.requests[0].as_object().unwrap().clone();
        for argument in &operation.shape.inputs {
            let value = fields.remove(argument.field.name()).unwrap_or_default();
            body.push_value(values::argument_of(&argument.field, &value));
        }
        let mut all = values::message_of(&operation.input, &fields);
        all.extend(options);
        body.append_field(Variant::from(all)).build().unwrap()
    }

    /// Makes the call on D-Bus, and gives the task's path or the reason why there is none.
    async fn begin(
        &self,
        world: &World,
        watch: &mut Watch,
        body: &zbus::Structure<'static>,
    ) -> Result<String, String> {
        let path = format!("/org/opdbus/Agents1/agent/{}", self.agent);
        let reply = watch
            .call(&path, self.operation, body)
            .await
            .map_err(|name| upper_snake(name.strip_prefix("org.opdbus.Error.").unwrap()))?;
        assert!(world.service.executor.metrics().running() < 10);
        let body = reply.body();
        let (path, _): (ObjectPath<'_>, HashMap<&str, Variant<'_>>) = body.deserialize().unwrap();
        Ok(path.to_string())
    }

    async fn as_signals(&self, world: &World) -> Told {
        let mut watch = Watch::new(&world.bus);
        let body = self.body(world, HashMap::new());
        let path = match self.begin(world, &mut watch, &body).await {
            Ok(path) => path,
            Err(reason) => return (Vec::new(), Some(reason)),
        };
        let signals = watch.until_end(&path).await;
        let messages = signals.iter().filter(|(name, _)| name == "Message").map(|(_, signal)| {
            let body = signal.body();
            let (_, _, fields): (u64, u64, HashMap<String, Variant<'_>>) =
                body.deserialize().unwrap();
            Value::Object(
                fields.iter().map(|(name, value)| (name.clone(), json_of(value))).collect(),
            )
        });
        (messages.collect(), end_of(&signals))
    }

    /// Messages as JSON on a descriptor; requests too, if they are a stream.
    async fn on_descriptors(&self, world: &World) -> Told {
        let mut watch = Watch::new(&world.bus);
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
        let mut case = self;
        let without;
        if self.is_client_stream(world) {
            options.insert("input-fd".to_owned(), fd(&input));
            options.insert("input-format".to_owned(), json());
            without = Self { requests: Vec::new(), ..*self };
            case = &without;
        }
        let body = case.body(world, options);
        let begun = self.begin(world, &mut watch, &body).await;
        drop((body, writer, input));
        let path = match begun {
            Ok(path) => path,
            Err(reason) => return (Vec::new(), Some(reason)),
        };
        let lines: String = self.requests.iter().map(|request| format!("{request}\n")).collect();
        let is_stream = self.is_client_stream(world);
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
        let signals = watch.until_end(&path).await;
        let text = copied.await.unwrap();
        let messages = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (messages, end_of(&signals))
    }

    /// As a task that is started and read; a stream of requests cannot be started so.
    async fn as_a_task(&self, world: &World, way: Way) -> Told {
        let arguments = self.requests[0].to_string();
        let request =
            json!({"agent": self.agent, "operation": self.operation, "arguments": arguments});
        let started = match world.call(way, "calls", "StartCall", request).await {
            Ok(started) => started,
            Err(reason) => return (Vec::new(), Some(reason)),
        };
        let id = started["task"]["id"].as_str().unwrap();
        let wait = json!({"id": id, "timeout": "9s"});
        let waited = world.call(way, "tasks", "WaitTask", wait).await.unwrap();
        assert_eq!(waited["ended"], json!(true));
        let reason = waited["task"]["failure"]["reason"].as_str().map(str::to_owned);
        let read = json!({"id": id, "json": true, "max_messages": 1000});
        let read = world.call(way, "tasks", "ReadTask", read).await.unwrap();
        let messages = read["messages"].as_array().cloned().unwrap_or_default();
        let messages = messages
            .iter()
            .map(|message| serde_json::from_str(message["json"].as_str().unwrap()).unwrap());
        (messages.collect(), reason)
    }
}

/// The reason of the error with which a task ended, if it did.
fn end_of(signals: &[(String, zbus::message::Message)]) -> Option<String> {
    let (state, name, ..) = finished(signals);
    assert_eq!(state == "completed", name.is_empty());
    name.strip_prefix("org.opdbus.Error.").map(upper_snake)
}

#[tokio::test]
async fn a_stream_is_the_same_on_every_way() {
    let world = World::start().await;
    let chain = prepare(&world).await;
    let (mut compared, mut failed) = (0, 0);
    for case in cases(&chain) {
        let told = async |way: &str| match way {
            "grpc" => case.over_grpc(&world).await,
            "signals" => case.as_signals(&world).await,
            "descriptors" => case.on_descriptors(&world).await,
            "task over grpc" => case.as_a_task(&world, Way::TypedOverGrpc).await,
            "task over D-Bus" => case.as_a_task(&world, Way::TypedOverDbus).await,
            other => panic!("{other} is no way"),
        };
        let clean = |(messages, end): Told| {
            (messages.iter().map(|message| plain(message, "KEY")).collect::<Vec<_>>(), end)
        };
        let what = format!("{}.{} {:?}", case.agent, case.operation, case.requests);
        let expected = clean(told("grpc").await);
        let ways: &[&str] = match case.is_client_stream(&world) {
            true => &["signals", "descriptors"],
            false => &["signals", "descriptors", "task over grpc", "task over D-Bus"],
        };
        for way in ways {
            assert_eq!(clean(told(way).await), expected, "{way}: {what}");
            compared += expected.0.len() + usize::from(expected.1.is_some());
        }
        failed += usize::from(expected.1.is_some());
    }
    assert!(compared > 2_000 && failed >= 9, "{compared} {failed}");
}

/// Every stream of an agent has a case. Those of op-dbus itself and of gateways are not on D-Bus.
#[test]
fn no_stream_is_forgotten() {
    let contract = Contract::built_in().unwrap();
    let compared = cases("");
    let mut missing = Vec::new();
    for service in contract.services.iter().filter(|service| !service.manager && !service.gateway) {
        for operation in service.operations.iter().filter(|operation| operation.is_streaming()) {
            let is_it = |case: &Case| case.agent == service.id && case.operation == operation.name;
            // It never ends by itself; that is tested where tasks are.
            if !compared.iter().any(is_it) && operation.name != "Linger" {
                missing.push(format!("{}.{}", service.id, operation.name));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?} have no case");
}
