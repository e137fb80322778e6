//! Clients that are killed in the middle of a stream of requests: nothing half-written is left. On
//! gRPC and on D-Bus a real process that is killed; on gRPC a reset and a cut connection too.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use nix::sys::signal::Signal;
use op_dbus::proto::opdbus::agent::context_manager::v1::ImportRequest as Texts;
use op_dbus::proto::opdbus::agent::memory::v1::{
    BulkRememberRequest, ImportOptions, ImportRequest as Lines, RememberRequest,
};
use prost::Message;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use zbus::{Fd, Variant};

use super::{BOTH, Way, World, eventually};
use crate::dbus::{NAME, Options};
use crate::grpc::raw;
use crate::process::PATIENCE;

/// How many values or lines come before the stream breaks: more than one write takes.
const COUNT: usize = 300;

/// Tells the child what it is to do: the transport, its address, and the stream.
const CHILD: &str = "OP_DBUS_TEST_KILLED_CLIENT";

/// A stream of requests to break.
#[derive(Clone, Copy, Debug)]
struct Broken {
    name: &'static str,
    service: &'static str,
    operation: &'static str,
    /// True if all of it is written or nothing.
    atomic: bool,
}

const MEMORY: &str = "opdbus.agent.memory.v1.MemoryService";
const CONTEXTS: &str = "opdbus.agent.context_manager.v1.ContextManagerService";

const STREAMS: [Broken; 5] = [
    Broken { name: "values", service: MEMORY, operation: "BulkRemember", atomic: false },
    Broken { name: "atomic-values", service: MEMORY, operation: "BulkRemember", atomic: true },
    Broken { name: "lines", service: MEMORY, operation: "Import", atomic: false },
    Broken { name: "atomic-lines", service: MEMORY, operation: "Import", atomic: true },
    Broken { name: "contexts", service: CONTEXTS, operation: "Import", atomic: true },
];

impl Broken {
    fn agent(&self) -> &'static str {
        if self.service == MEMORY { "memory" } else { "context_manager" }
    }

    fn path(&self) -> String {
        format!("/{}/{}", self.service, self.operation)
    }

    /// The requests, encoded; whole ones, so that only the end is missing.
    fn requests(&self) -> Vec<Vec<u8>> {
        match (self.agent(), self.operation) {
            ("memory", "BulkRemember") => (0..COUNT).map(|number| self.value(number)).collect(),
            ("memory", _) => (0..COUNT).map(|number| self.line(number)).collect(),
            _ => (0..COUNT).map(context).collect(),
        }
    }

    fn value(&self, number: usize) -> Vec<u8> {
        let value = Some(prost_types::Value::from(number as f64));
        let remember =
            RememberRequest { key: format!("k{number}"), value, ..RememberRequest::default() };
        let atomic = self.atomic && number == 0;
        BulkRememberRequest { remember: Some(remember), atomic }.encode_to_vec()
    }

    fn line(&self, number: usize) -> Vec<u8> {
        let options = ImportOptions { atomic: self.atomic, ..ImportOptions::default() };
        let data = format!("{{\"key\":\"k{number}\",\"value\":{number}}}\n").into();
        Lines { data, options: (number == 0).then_some(options) }.encode_to_vec()
    }
}

/// A context and an item of it, as lines.
fn context(number: usize) -> Vec<u8> {
    let context = json!({"context": {"name": format!("c{number}")}});
    let item = json!({"item": {"role": "user", "text": "said"}});
    let data = Bytes::from(format!("{context}\n{item}\n"));
    Texts { data, ..Texts::default() }.encode_to_vec()
}

/// The number of keys or contexts that are stored.
async fn stored(world: &World, stream: Broken) -> u64 {
    let number = |answer: &Value, name: &str| -> u64 {
        answer[name].as_str().map_or(0, |text| text.parse().unwrap())
    };
    if stream.agent() == "memory" {
        let stats = world.call(Way::Grpc, ("memory", "stats"), json!({})).await.unwrap();
        number(&stats, "keys")
    } else {
        let list = world.call(Way::Grpc, ("context_manager", "list"), json!({})).await.unwrap();
        list["contexts"].as_array().map_or(0, |contexts| contexts.len() as u64)
    }
}

/// The stream's task, whatever its state.
async fn task(world: &World, stream: Broken) -> Option<Value> {
    let request = json!({"agent": stream.agent()});
    let list = world.call(Way::Grpc, ("tasks", "ListTasks"), request).await.unwrap();
    list["tasks"].as_array().and_then(|tasks| tasks.first().cloned())
}

/// Waits until the agent has taken all requests and waits for more.
async fn waits(world: &World, stream: Broken) {
    let least = if stream.atomic { 0 } else { 256 };
    eventually("the agent waits for more", async || {
        let task = task(world, stream).await;
        task.is_some_and(|task| task["state"] == "TASK_STATE_INPUT_REQUIRED")
            && stored(world, stream).await >= least
    })
    .await;
}

/// Checks that the stream ended as broken, and that what is stored is whole.
async fn check(world: &World, stream: Broken, how: &str) {
    let ended = || async {
        let task = task(world, stream).await.unwrap();
        (task.get("ended_at").is_some()).then_some(task)
    };
    eventually("the task ends", async || ended().await.is_some()).await;
    let task = ended().await.unwrap();
    let state = task["state"].as_str().unwrap();
    assert_ne!(state, "TASK_STATE_COMPLETED", "{how} {stream:?}: {task}");
    assert_eq!(task["last_seq"], "0", "{how} {stream:?}: {task}");
    let stored = stored(world, stream).await;
    // What is not atomic is written in batches of 256, and the last one was not full.
    assert_eq!(stored, if stream.atomic { 0 } else { 256 }, "{how} {stream:?}");
}

/// A client that is killed in the middle of its stream. Not a test by itself: the process that the next
/// one kills.
#[tokio::test]
#[ignore = "only runs as the child of the test beside it"]
async fn sends_until_it_is_killed() {
    let Ok(said) = std::env::var(CHILD) else { return };
    let mut words = said.splitn(3, ' ');
    let (way, name, address) =
        (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
    let stream = STREAMS.into_iter().find(|stream| stream.name == name).unwrap();
    match way {
        "grpc" => {
            let call = raw::open(address.as_ref(), &stream.path(), &[]).await;
            for request in stream.requests() {
                call.send(framed(&request)).await;
            }
            tokio::time::sleep(PATIENCE).await;
        }
        "dbus" => {
            // Its pipe closes before its connection does, or after it.
            let mut pipes: Vec<_> = Vec::new();
            if std::process::id().is_multiple_of(2) {
                pipes.push(nix::unistd::pipe().unwrap());
            }
            let bus = zbus::connection::Builder::address(address).build().await.unwrap();
            let (reader, writer) = pipes.pop().unwrap_or_else(|| nix::unistd::pipe().unwrap());
            send_on_bus(&bus, stream, &reader).await;
            drop(reader);
            let mut writer = std::fs::File::from(writer);
            for request in stream.requests() {
                let mut delimited = Vec::new();
                prost::encoding::encode_varint(request.len() as u64, &mut delimited);
                delimited.extend(request);
                writer.write_all(&delimited).unwrap();
            }
            tokio::time::sleep(PATIENCE).await;
        }
        other => panic!("{other} is no transport"),
    }
}

async fn send_on_bus(bus: &zbus::Connection, stream: Broken, reader: &std::os::fd::OwnedFd) {
    let none: [Options<'_>; 0] = [];
    let options: Options<'_> = [
        ("input-fd", Variant::from(Fd::from(reader.as_fd()))),
        ("input-format", Variant::from("proto")),
    ]
    .into_iter()
    .collect();
    let path = format!("/org/opdbus/Agents1/agent/{}", stream.agent());
    let reply = bus
        .call_method(
            Some(NAME),
            path.as_str(),
            None::<&str>,
            stream.operation,
            &(none.as_slice(), options),
        )
        .await;
    reply.unwrap();
}

fn framed(request: &[u8]) -> Vec<u8> {
    let length = u32::try_from(request.len()).unwrap().to_be_bytes();
    [&[0], &length[..], request].concat()
}

/// The process of a client.
struct Client(Child);

impl Client {
    fn start(world: &World, way: Way, stream: Broken) -> Self {
        let said = match way {
            Way::Grpc => {
                format!("grpc {} {}", stream.name, world.daemon.grpc_socket().display())
            }
            Way::Dbus => format!("dbus {} {}", stream.name, world.daemon.bus.address),
        };
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "across::broken::sends_until_it_is_killed"])
            .env(CHILD, said)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    fn kill(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id().try_into().unwrap());
        nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
        self.0.wait().unwrap();
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[tokio::test]
async fn a_client_that_is_killed_leaves_nothing_half_written() {
    for way in BOTH {
        for stream in STREAMS {
            let world = World::start("").await;
            let client = Client::start(&world, way, stream);
            waits(&world, stream).await;
            client.kill();
            check(&world, stream, &format!("{way:?}")).await;
        }
    }
}

#[tokio::test]
async fn a_reset_and_a_cut_connection_leave_nothing_half_written() {
    for stream in STREAMS {
        let world = World::start("").await;
        let call = raw::open(&world.daemon.grpc_socket(), &stream.path(), &[]).await;
        for request in stream.requests() {
            call.send(framed(&request)).await;
        }
        waits(&world, stream).await;
        let reset = std::io::Error::other("the client breaks off");
        call.pieces.send(Err(reset)).await.unwrap();
        check(&world, stream, "reset").await;

        let world = World::start("").await;
        let mut socket = tokio::net::UnixStream::connect(world.daemon.grpc_socket()).await.unwrap();
        socket.write_all(&raw::begun_bytes(&stream.path(), &stream.requests())).await.unwrap();
        waits(&world, stream).await;
        drop(socket);
        check(&world, stream, "cut").await;
    }
    // Whoever comes next is served.
    tokio::time::timeout(PATIENCE, async {
        World::start("").await.grpc.ping().await;
    })
    .await
    .unwrap();
}
