//! A real daemon with a client on each transport: what is begun on one is seen, read and ended on the
//! other, and what becomes of it when the daemon, or a client, is killed.

mod batches;
mod broken;
mod ends;
mod sessions;
mod tasks;

use std::collections::HashMap;
use std::path::Path;

use op_dbus::proto::opdbus::v1::watch_task_response::Event;
use op_dbus::proto::opdbus::v1::{
    CallJsonRequest, CallJsonResponse, GetTaskRequest, GetTaskResponse, Task, TaskGap,
    WatchTaskRequest, WatchTaskResponse,
};
use serde_json::Value;
use tonic::{Request, Response, Status, Streaming};
use tonic_types::StatusExt as _;
use zbus::Variant;

use crate::dbus::{self, MANAGER, Options};
use crate::grpc::{Client, eventually};
use crate::process::{Daemon, Prepared};

const CALL_JSON: &str = "/opdbus.v1.AgentsService/CallJson";
const GET: &str = "/opdbus.v1.TasksService/GetTask";
const WATCH: &str = "/opdbus.v1.TasksService/WatchTask";
const PACE: &str = "/opdbus.agent.probe.v1.ProbeService/Pace";

/// How a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Grpc,
    Dbus,
}

const BOTH: [Way; 2] = [Way::Grpc, Way::Dbus];

/// A daemon and a client of it on each transport.
struct World {
    daemon: Daemon,
    grpc: Client,
    bus: zbus::Connection,
}

impl World {
    async fn start(config: &str) -> Self {
        Self::of(Prepared::new(config).start()).await
    }

    /// A daemon whose state is in `folder`, so that another one finds it.
    async fn keeping(folder: &Path, config: &str) -> Self {
        Self::start(&format!("[storage]\npath = {:?}\n{config}", folder.join("state"))).await
    }

    async fn of(daemon: Daemon) -> Self {
        let grpc = Client::unix(&daemon.grpc_socket()).await;
        let bus = dbus::connect(&daemon.bus).await;
        Self { daemon, grpc, bus }
    }

    /// Calls with JSON. An error is its reason, as `NOT_FOUND`.
    async fn call(
        &self,
        way: Way,
        (agent, operation): (&str, &str),
        arguments: Value,
    ) -> Result<Value, String> {
        self.call_in(way, None, (agent, operation), arguments).await
    }

    /// The same, in a session.
    async fn call_in(
        &self,
        way: Way,
        session: Option<&str>,
        (agent, operation): (&str, &str),
        arguments: Value,
    ) -> Result<Value, String> {
        let arguments = arguments.to_string();
        let text = match way {
            Way::Grpc => {
                let (agent, operation) = (agent.into(), operation.into());
                let mut request = Request::new(CallJsonRequest { agent, operation, arguments });
                if let Some(session) = session {
                    let session = session.parse().unwrap();
                    request.metadata_mut().insert("opdbus-session-id", session);
                }
                let response = self.grpc.request::<_, CallJsonResponse>(CALL_JSON, request).await;
                response.map_err(|status| reason(&status))?.into_inner().result
            }
            Way::Dbus => {
                let options: Options<'_> =
                    session.map(|id| ("session-id", Variant::from(id))).into_iter().collect();
                let body = (agent, operation, arguments, options);
                let interface = Some("org.opdbus.Agents1");
                let reply = dbus::call(&self.bus, MANAGER, interface, "CallJson", &body).await;
                let reply = reply.map_err(|(name, _)| of_name(&name))?;
                let body = reply.body();
                let (text, _): (String, HashMap<&str, Variant<'_>>) = body.deserialize().unwrap();
                text
            }
        };
        Ok(serde_json::from_str(&text).unwrap())
    }

    async fn task(&self, id: &str) -> Result<Task, Status> {
        let request = GetTaskRequest { id: id.into() };
        self.grpc.call::<_, GetTaskResponse>(GET, request).await.map(|found| found.task.unwrap())
    }

    async fn watch(&self, id: &str, from_seq: u64) -> Streaming<WatchTaskResponse> {
        let request = WatchTaskRequest { id: id.into(), from_seq, json: true };
        let response = self.grpc.stream(WATCH, tokio_stream::iter([request])).await;
        response.unwrap().into_inner()
    }

    /// How many sleeps of the probe were begun, and how many were cancelled.
    async fn sleeps(&self) -> (u64, u64) {
        let counted = self.call(Way::Grpc, ("probe", "sleep"), duration("0s")).await.unwrap();
        let number = |name: &str| counted[name].as_str().map_or(0, |text| text.parse().unwrap());
        (number("started"), number("cancelled"))
    }
}

fn duration(duration: &str) -> Value {
    serde_json::json!({"duration": duration})
}

/// The reason of an error on gRPC.
fn reason(status: &Status) -> String {
    status.get_details_error_info().expect("every error has an ErrorInfo").reason
}

/// The reason of an error on D-Bus: `org.opdbus.Error.NotFound` is `NOT_FOUND`.
fn of_name(name: &str) -> String {
    let mut reason = String::new();
    for character in name.strip_prefix("org.opdbus.Error.").unwrap().chars() {
        if character.is_ascii_uppercase() && !reason.is_empty() {
            reason.push('_');
        }
        reason.push(character.to_ascii_uppercase());
    }
    reason
}

/// The id of the task that a response names.
fn task_id<T>(response: &Response<T>) -> String {
    let id = response.metadata().get("opdbus-task-id").expect("the headers name the task");
    id.to_str().unwrap().to_owned()
}

/// All that a watcher is told up to the end: the numbers of the messages, the gaps, and the task.
async fn told(mut stream: Streaming<WatchTaskResponse>) -> (Vec<u64>, Vec<TaskGap>, Task) {
    let (mut numbers, mut gaps, mut task) = (Vec::new(), Vec::new(), None);
    while let Some(told) = stream.message().await.unwrap() {
        match told.event.unwrap() {
            Event::Message(message) => numbers.push(message.seq),
            Event::Gap(gap) => gaps.push(gap),
            Event::Task(told) => task = Some(told),
        }
    }
    (numbers, gaps, task.unwrap())
}
