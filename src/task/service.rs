//! `opdbus.v1.TasksService`: what a user can see of the own tasks, and how they are stopped. Starting
//! one is a call of the operation itself.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::{Event, Message, Reading, Task, Tasks};
use crate::call::Context;
use crate::contract::{Replies, message_to_json};
use crate::error::Error;
use crate::proto::opdbus::v1::{
    CancelTaskRequest, CancelTaskResponse, GetTaskRequest, GetTaskResponse, ListTasksRequest,
    ListTasksResponse, ReadTaskRequest, ReadTaskResponse, TaskGap, TaskMessage, TaskState,
    TasksService, WaitTaskRequest, WaitTaskResponse, WatchTaskRequest, WatchTaskResponse,
    watch_task_response,
};

/// How many tasks or messages one answer holds unless the request says otherwise.
const DEFAULT_COUNT: u32 = 100;

/// How many it holds at most.
const MAX_COUNT: u32 = 1000;

/// When the messages of an answer have so many bytes, no further one is added: with the rest of the
/// answer they fit into what the transports carry by default.
const READ_BYTES: usize = 768 * 1024;

/// How long `CancelTask` waits for the task's end.
const CANCEL_PATIENCE: Duration = Duration::from_millis(100);

/// The implementation of `opdbus.v1.TasksService`.
pub struct Service(Arc<Tasks>);

impl Service {
    /// Shows `tasks`.
    #[must_use]
    pub fn new(tasks: Arc<Tasks>) -> Self {
        Self(tasks)
    }

    fn find(&self, context: &Context, id: &str) -> Result<Arc<Task>, Error> {
        if id.is_empty() {
            return Err(Error::invalid("id", "must not be empty"));
        }
        self.0.find(id, context.caller.identity)
    }
}

impl TasksService for Service {
    async fn get_task(
        &self,
        context: &Context,
        request: GetTaskRequest,
    ) -> Result<GetTaskResponse, Error> {
        Ok(GetTaskResponse { task: Some(self.find(context, &request.id)?.record()) })
    }

    async fn list_tasks(
        &self,
        context: &Context,
        request: ListTasksRequest,
    ) -> Result<ListTasksResponse, Error> {
        let states = wanted_states(&request.states)?;
        let count = count("page_size", request.page_size)?;
        let before =
            match &*request.page_token {
                "" => None,
                token => Some(i64::from_str_radix(token, 16).map_err(|_| {
                    Error::invalid("page_token", "is none that ListTasks has given")
                })?),
            };
        let (tasks, next) = self.0.list(context.caller.identity, before, count, |task| {
            (states.is_empty() || states.contains(&task.state().contract()))
                && (request.agent.is_empty() || task.operation().agent == request.agent)
                && (request.session.is_empty()
                    || task.session().map(|id| &**id) == Some(&request.session))
        });
        Ok(ListTasksResponse {
            tasks: tasks.iter().map(|task| task.record()).collect(),
            next_page_token: next.map(|key| format!("{key:x}")).unwrap_or_default(),
        })
    }

    async fn read_task(
        &self,
        context: &Context,
        request: ReadTaskRequest,
    ) -> Result<ReadTaskResponse, Error> {
        let task = self.find(context, &request.id)?;
        let count = count("max_messages", request.max_messages)?;
        let mut reader = task.read(Reading { from: request.from_seq, ..Reading::default() })?;
        let mut response = ReadTaskResponse::default();
        let mut bytes = 0;
        while response.messages.len() < count {
            match reader.next().now_or_never().flatten() {
                Some(Event::Message(message)) => {
                    let message = shown(&task, message, request.json)?;
                    bytes += message.payload.len() + message.json.len();
                    if bytes > READ_BYTES && !response.messages.is_empty() {
                        break;
                    }
                    response.messages.push(message);
                }
                // Messages that go while they are read are the next answer's gap.
                Some(Event::Gap { .. }) if !response.messages.is_empty() => break,
                Some(Event::Gap { from, to }) => response.gap = Some(TaskGap { from, to }),
                Some(Event::Ended(_) | Event::Changed) | None => break,
            }
        }
        reader.is_whole()?;
        response.task = Some(task.record());
        Ok(response)
    }

    async fn watch_task(
        &self,
        context: &Context,
        request: WatchTaskRequest,
        replies: Replies<WatchTaskResponse>,
    ) -> Result<(), Error> {
        use watch_task_response::Event as Shown;
        let task = self.find(context, &request.id)?;
        let reading = Reading { from: request.from_seq, changes: true, ..Reading::default() };
        let mut reader = task.read(reading)?;
        let send = async |event| replies.send(WatchTaskResponse { event: Some(event) }).await;
        send(Shown::Task(task.record())).await?;
        while let Some(event) = reader.next().await {
            send(match event {
                Event::Message(message) => Shown::Message(shown(&task, message, request.json)?),
                Event::Gap { from, to } => Shown::Gap(TaskGap { from, to }),
                Event::Changed => Shown::Task(task.record()),
                Event::Ended(_) => {
                    reader.is_whole()?;
                    Shown::Task(task.record())
                }
            })
            .await?;
        }
        Ok(())
    }

    async fn wait_task(
        &self,
        context: &Context,
        request: WaitTaskRequest,
    ) -> Result<WaitTaskResponse, Error> {
        let task = self.find(context, &request.id)?;
        let timeout = request.timeout.map(Duration::try_from).transpose();
        let timeout = timeout.map_err(|error| Error::invalid("timeout", error))?;
        let time = async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = task.over() => {}
            () = time => {}
            // The service would wait for this call.
            () = self.0.draining() => {}
        }
        Ok(WaitTaskResponse { ended: task.state().is_final(), task: Some(task.record()) })
    }

    async fn cancel_task(
        &self,
        context: &Context,
        request: CancelTaskRequest,
    ) -> Result<CancelTaskResponse, Error> {
        let task = self.find(context, &request.id)?;
        task.cancel();
        tokio::time::timeout(CANCEL_PATIENCE, task.over()).await.ok();
        let ended = task.state().is_final();
        let reason = if ended {
            String::new()
        } else {
            format!(
                "agent {} is busy with something that cannot be interrupted; the task ends as soon \
                 as that is done",
                task.operation().agent
            )
        };
        Ok(CancelTaskResponse { task: Some(task.record()), ended, reason })
    }
}

fn wanted_states(states: &[i32]) -> Result<Vec<TaskState>, Error> {
    let state = |(index, number): (usize, &i32)| {
        TaskState::try_from(*number)
            .ok()
            .filter(|state| *state != TaskState::Unspecified)
            .ok_or_else(|| Error::invalid(format!("states[{index}]"), "is no state of a task"))
    };
    states.iter().enumerate().map(state).collect()
}

fn count(field: &str, asked: u32) -> Result<usize, Error> {
    match asked {
        0 => Ok(DEFAULT_COUNT as usize),
        1..=MAX_COUNT => Ok(asked as usize),
        _ => Err(Error::invalid(field, format!("must be at most {MAX_COUNT}"))),
    }
}

fn shown(task: &Task, message: Message, json: bool) -> Result<TaskMessage, Error> {
    let Message { seq, offset, payload } = message;
    if json {
        let json = message_to_json(&task.operation().output, &payload)?;
        return Ok(TaskMessage { seq, offset, json, ..TaskMessage::default() });
    }
    Ok(TaskMessage { seq, offset, payload, ..TaskMessage::default() })
}
