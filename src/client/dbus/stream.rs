//! A call with a stream over D-Bus: a task whose messages come through a pipe, so that how fast they come
//! is decided by how fast they are read, and whose requests go through another.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, try_unfold};
use prost::Message as _;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use zbus::{Fd, Variant};

use super::{Dbus, found, options};
use crate::client::MAX_ANSWER_BYTES;
use crate::client::call::{CallOptions, Requests, StreamCall};
use crate::client::error::{Error, Failure};
use crate::client::stream::{Messages, decoded};
use crate::client::tasks::outcome;
use crate::contract::TASKS_PATH;
use crate::error::ErrorKind;
use crate::proto::opdbus::v1::{
    CancelTaskRequest, OnDisconnect, WaitTaskRequest, WaitTaskResponse,
};
use crate::wire::dbus::delimited::{self, Broken};
use crate::wire::dbus::wire;

const WAIT_TASK: &str = "/opdbus.v1.TasksService/WaitTask";
const CANCEL_TASK: &str = "/opdbus.v1.TasksService/CancelTask";

/// For how long the service is asked to wait for the end of a task at a time, so that a lost connection is
/// noticed.
const WAIT_AT_A_TIME_SECONDS: i64 = 20;

impl Dbus {
    /// Opens a stream.
    pub(super) async fn open(&self, call: StreamCall) -> Result<Messages, Error> {
        let (known, method) = found(&call.rpc.path)?;
        if !known.operation.is_streaming() {
            let problem = format!("{} has no stream", call.rpc);
            return Err(Failure::new(ErrorKind::InvalidArgument, problem).into());
        }
        let call_options = call.options.cancelling();
        let mut options = options::write(&call_options, self.client_name.as_deref())?;
        let choice = match call_options.on_disconnect {
            OnDisconnect::Unspecified => None,
            OnDisconnect::Continue => Some("continue"),
            OnDisconnect::Cancel => Some("cancel"),
        };
        if let Some(choice) = choice {
            options.push(("on-disconnect", Variant::from(choice)));
        }
        let (output, their_output) = new_pipe()?;
        options.push(("output-fd", Variant::Fd(Fd::from(their_output))));
        let (request, feed) = match call.requests {
            Requests::One(request) => (request, None),
            Requests::Many(requests) => {
                let (their_input, input) = new_pipe()?;
                options.push(("input-fd", Variant::Fd(Fd::from(their_input))));
                (Bytes::new(), Some((input, requests)))
            }
        };
        let interactive = call.options.interactive;
        let reply = self.send(&known, method, &request, &options, interactive).await?;
        // The other ends of the pipes are the service's alone.
        drop(options);
        let mut task = Task {
            dbus: self.clone(),
            id: task_id(&reply)?,
            feed: None,
            handle: Handle::current(),
            is_dropped_with_client: call.options.on_disconnect != OnDisconnect::Continue,
        };
        if let Some((input, requests)) = feed {
            let input = pipe::Sender::from_owned_fd(input).map_err(broken)?;
            task.feed = Some(tokio::spawn(write(input, requests)).abort_handle());
        }
        let output = pipe::Receiver::from_owned_fd(output).map_err(broken)?;
        let id = task.id.clone();
        let messages = try_unfold((BufReader::new(output), task), |(mut output, mut task)| async {
            match read(&mut output).await? {
                Some(message) => Ok(Some((message, (output, task)))),
                None => task.end().await.map(|()| None),
            }
        });
        Ok(Messages::new(Some(id), messages))
    }
}

/// A pipe: the end to read from and the end to write to.
fn new_pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    let (reader, writer) = io::pipe().map_err(broken)?;
    Ok((reader.into(), writer.into()))
}

fn broken(error: io::Error) -> Error {
    Failure::internal(format!("a pipe to the service: {error}")).into()
}

/// The id of the task that a reply names.
fn task_id(reply: &zbus::Message) -> Result<String, Error> {
    let body = reply.body();
    let named: Result<(zbus::ObjectPath<'_>, HashMap<String, zbus::OwnedVariant>), _> =
        body.deserialize();
    let id = named.ok().and_then(|(path, _)| {
        let id = path.as_str().strip_prefix(TASKS_PATH)?.strip_prefix('/')?;
        Some(id.to_owned())
    });
    id.ok_or_else(|| Failure::internal("the service's answer names no task").into())
}

/// The task that a stream is. Dropped before its end, it is cancelled, unless it was to go on.
struct Task {
    dbus: Dbus,
    id: String,
    /// What sends the requests.
    feed: Option<AbortHandle>,
    handle: Handle,
    is_dropped_with_client: bool,
}

impl Task {
    /// Waits until the task has ended, whose messages have all come.
    async fn end(&mut self) -> Result<(), Error> {
        loop {
            let timeout = prost_types::Duration { seconds: WAIT_AT_A_TIME_SECONDS, nanos: 0 };
            let request = WaitTaskRequest { id: self.id.clone(), timeout: Some(timeout) };
            let request = request.encode_to_vec().into();
            let answer = self.dbus.unary(WAIT_TASK, &request, &CallOptions::default()).await?;
            let answer: WaitTaskResponse = decoded(answer)?;
            if let Some(outcome) = answer.task.as_ref().and_then(outcome) {
                self.is_dropped_with_client = false;
                return outcome.map_err(Error::Failed);
            }
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(feed) = &self.feed {
            feed.abort();
        }
        if self.is_dropped_with_client {
            let dbus = self.dbus.clone();
            let request = CancelTaskRequest { id: std::mem::take(&mut self.id) };
            self.handle.spawn(async move {
                let request = request.encode_to_vec().into();
                // A task that has ended meanwhile, or a service that is gone, is as well.
                drop(dbus.unary(CANCEL_TASK, &request, &CallOptions::default()).await);
            });
        }
    }
}

/// Sends requests until the last, or until the service wants no more.
async fn write(mut input: pipe::Sender, mut requests: BoxStream<'static, Bytes>) {
    while let Some(request) = requests.next().await {
        let mut prefix = Vec::with_capacity(10);
        wire::push_varint(&mut prefix, request.len() as u64);
        if input.write_all(&prefix).await.is_err() || input.write_all(&request).await.is_err() {
            return;
        }
    }
}

/// The next message; `None` after the last.
async fn read(output: &mut BufReader<pipe::Receiver>) -> Result<Option<Bytes>, Error> {
    delimited::next(output, MAX_ANSWER_BYTES).await.map_err(|broken| match broken {
        Broken::Io(error) => Failure::lost(error).into(),
        Broken::Half => Failure::lost("a message broke off").into(),
        Broken::Length => Failure::internal("the service's message has no valid length").into(),
        Broken::TooLarge => {
            let problem = format!("a message of more than {MAX_ANSWER_BYTES} bytes came");
            Failure::new(ErrorKind::LimitExceeded, problem).into()
        }
    })
}
