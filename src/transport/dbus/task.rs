//! The objects of tasks, with `org.opdbus.Task1`: found for their user alone, asked and answered. What
//! tasks send unasked is in `delivery.rs`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::timeout;
use zbus::Variant;
use zbus::message::{Header, Message};

use super::call::Shared;
use super::error::Failure;
use super::objects::Table;
use super::properties::{microseconds, string};
use super::signals::{self, MAX_INLINE_BYTES};
use super::standard::{self, Options, Shown, StandardMethod, arguments, no_options};
use super::{encode, introspect};
use crate::call::{Caller, Context, Transport};
use crate::contract::TASKS_PATH;
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::v1::TaskProgress;
use crate::task::{Event, Reading, Task};

/// The interface of tasks.
pub(super) const TASK_INTERFACE: &str = "org.opdbus.Task1";

/// How long `Cancel` waits for the end.
const CANCEL_WAIT: Duration = Duration::from_millis(100);

/// How many messages `ReadMessages` gives at most, and how many if the caller does not say.
const READ: (u32, u32) = (1000, 100);

/// The id of the task whose object would be at `path`.
pub(super) fn id_in(path: &str) -> Option<&str> {
    path.strip_prefix(TASKS_PATH)?
        .strip_prefix('/')
        .filter(|id| !id.is_empty() && !id.contains('/'))
}

/// Answers a call to the object of a task.
///
/// # Errors
/// `UnknownObject` if there is no such task of the caller's; `AccessDenied` if he may not do what the
/// same operation of `TasksService` does.
pub(super) async fn answer(
    shared: &Shared,
    message: &Message,
    table: &Table,
) -> Result<Message, Failure> {
    let call = message.header();
    shared.check_size(&call, &message.body()).await?;
    let context = Context::new(shared.caller(&call).await?, Transport::Dbus);
    let member = call.member().map_or("", |member| member.as_str());
    let operation = match member {
        "Cancel" => "CancelTask",
        "Wait" => "WaitTask",
        "ReadMessages" => "ReadTask",
        _ => "GetTask",
    };
    let trail = shared.executor.permit("tasks", operation, &context).await?;
    let answer = permitted(shared, message, &context.caller, table).await;
    trail.end(answer.as_ref().err().map(Failure::error).as_ref()).await;
    answer
}

/// Answers a call that the caller may make.
async fn permitted(
    shared: &Shared,
    message: &Message,
    caller: &Caller,
    table: &Table,
) -> Result<Message, Failure> {
    let call = message.header();
    let path = call.path().map_or("", |path| path.as_str());
    let member = call.member().map_or("", |member| member.as_str());
    let task = id_in(path).and_then(|id| shared.executor.tasks().find(id, caller.identity).ok());
    let Some(task) = task else {
        return Err(standard::no_object(path));
    };
    let interface = call.interface().map(|interface| interface.as_str());
    if interface.is_none_or(|interface| interface == TASK_INTERFACE) {
        match member {
            "Cancel" => return cancel(&task, &call, message).await,
            "Wait" => return wait(&task, &call, message).await,
            "ReadMessages" => return read_messages(&task, &call, message, table),
            _ => {}
        }
    }
    standard::answer(&TaskObject(&task), message, "a task", "Cancel, ReadMessages, Wait")
}

async fn cancel(
    task: &Arc<Task>,
    call: &Header<'_>,
    message: &Message,
) -> Result<Message, Failure> {
    let body = message.body();
    let (options,): (Options<'_>,) = arguments(&body, "a{sv}")?;
    no_options(&options)?;
    task.cancel();
    let ended = ended(task, CANCEL_WAIT).await;
    let mut extra = Options::new();
    if !ended {
        let reason = format!("it has not stopped within {} ms", CANCEL_WAIT.as_millis());
        extra.insert("reason", reason.into());
    }
    Ok(encode::built(Message::method_return(call).build(&(ended, extra)))?)
}

async fn wait(task: &Arc<Task>, call: &Header<'_>, message: &Message) -> Result<Message, Failure> {
    let body = message.body();
    let (microseconds, options): (u64, Options<'_>) = arguments(&body, "ta{sv}")?;
    no_options(&options)?;
    let ended = ended(task, Duration::from_micros(microseconds)).await;
    let state = signals::state(task.state());
    let reply = Message::method_return(call).build(&(ended, state, Options::new()));
    Ok(encode::built(reply)?)
}

/// Waits until the task has ended, but no longer than `time`; true if it has.
async fn ended(task: &Task, time: Duration) -> bool {
    timeout(time, task.over()).await.is_ok()
}

fn read_messages(
    task: &Arc<Task>,
    call: &Header<'_>,
    message: &Message,
    table: &Table,
) -> Result<Message, Failure> {
    let body = message.body();
    let (from, most, options): (u64, u32, Options<'_>) = arguments(&body, "tua{sv}")?;
    no_options(&options)?;
    let most = match most {
        0 => READ.1,
        1.. if most <= READ.0 => most,
        _ => {
            let problem = format!("must be at most {}", READ.0);
            return Err(Error::invalid("max", problem).into());
        }
    };
    let Some(typed) = table.typed(task.operation()) else {
        let text = format!("agent {} is not served any more", task.operation().agent);
        return Err(Error::new(ErrorKind::Unavailable, text).into());
    };
    let mut reader = task.read(Reading { from, is_client: false, changes: false })?;
    let (mut messages, mut bytes) = (Vec::new(), 0);
    let mut extra = Options::new();
    while messages.len() < most as usize {
        match reader.next().now_or_never().flatten() {
            Some(Event::Message(message)) => {
                bytes += message.payload.len();
                if bytes > MAX_INLINE_BYTES && !messages.is_empty() {
                    break;
                }
                messages.push(message);
            }
            Some(Event::Gap { from, to }) if messages.is_empty() => {
                extra.insert("gap", Variant::from((from, to)));
            }
            // A gap that opened meanwhile is told to who reads on.
            Some(Event::Gap { .. } | Event::Changed | Event::Ended(_)) | None => break,
        }
    }
    Ok(signals::read_reply(call, &typed.method, &messages, &extra)?)
}

/// A task as the standard interfaces show it.
struct TaskObject<'a>(&'a Task);

impl Shown for TaskObject<'_> {
    fn has_interface(&self, interface: &str) -> bool {
        interface == TASK_INTERFACE || StandardMethod::is_interface(interface, false)
    }

    fn interfaces(&self) -> Vec<&str> {
        vec![TASK_INTERFACE]
    }

    fn properties(&self, interface: &str) -> Vec<(&'static str, Variant<'static>)> {
        if interface == TASK_INTERFACE { properties(self.0) } else { Vec::new() }
    }

    fn introspection(&self) -> String {
        introspect::task_object()
    }
}

/// The properties of `org.opdbus.Task1`, sorted.
pub(super) fn properties(task: &Task) -> Vec<(&'static str, Variant<'static>)> {
    let record = task.record();
    let (error_name, error_message) = signals::failure(record.failure.as_ref());
    let operation = task.operation();
    let progress = record.progress.as_ref();
    vec![
        ("Agent", string(&operation.agent)),
        ("Bytes", record.bytes.into()),
        ("Cancelable", record.cancelable.into()),
        ("Deadline", microseconds(record.deadline).into()),
        ("EndTime", microseconds(record.ended_at).into()),
        ("ErrorMessage", error_message.into()),
        ("ErrorName", error_name.into()),
        ("ExpectedEndTime", microseconds(record.expected_end).into()),
        ("FirstSeq", record.first_seq.into()),
        ("Id", string(task.id())),
        ("LastSeq", record.last_seq.into()),
        ("Operation", string(&operation.name)),
        ("Progress", progress.map_or(0.0, fraction).into()),
        ("ProgressValid", progress.is_some().into()),
        ("Session", string(&record.session)),
        ("Signature", string(operation.output.full_name())),
        ("StartTime", microseconds(record.started_at).into()),
        ("StartedByUID", record.started_by_uid.into()),
        ("State", signals::state(task.state()).into()),
        ("Transport", string(&record.transport)),
    ]
}

/// How much of the whole is done, from 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "for people")]
fn fraction(progress: &TaskProgress) -> f64 {
    if progress.total == 0 { 1.0 } else { (progress.done as f64 / progress.total as f64).min(1.0) }
}
