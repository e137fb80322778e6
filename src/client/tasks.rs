//! Tasks and sessions for a client: they are started, listed, awaited and ended here. Following a
//! task message by message is `watch.rs`.

use std::time::Duration;

use serde_json::{Value, json};

use super::{AgentClient, Answer, CallOptions, Error, Failure};
use crate::error::ErrorKind;
use crate::proto::opdbus::v1::{
    CancelTaskResponse, EndSessionResponse, GetSessionResponse, GetTaskResponse,
    ListSessionsResponse, ListTasksResponse, OnDisconnect, StartCallResponse, Task, TaskState,
    WaitTaskResponse,
};

/// The agent ids of op-dbus's own services.
const CALLS: &str = "calls";
pub(super) const TASKS: &str = "tasks";
const SESSIONS: &str = "sessions";

/// A call to start as a task.
#[derive(Clone, Debug)]
pub struct NewTask<'a> {
    /// The agent's id.
    pub agent: &'a str,
    /// The operation, as `Export` or `export`; not one that takes a stream of requests.
    pub operation: &'a str,
    /// The request as a JSON object; an empty text is an empty object.
    pub arguments: &'a str,
    /// How long the task may take; as long as the service allows if `None`.
    pub runtime: Option<Duration>,
    /// What becomes of it when this client goes away; unless it is said, what the service does with tasks.
    pub on_disconnect: OnDisconnect,
}

/// Which tasks to list.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    /// Only those in these states; empty: in any.
    pub states: Vec<TaskState>,
    /// Only those of this agent.
    pub agent: Option<String>,
}

/// Which page of a list to give.
#[derive(Clone, Copy, Debug, Default)]
pub struct Page<'a> {
    /// How many at most; the service's default when 0.
    pub size: u32,
    /// The token that the page before gave; empty: the first page.
    pub token: &'a str,
}

impl AgentClient {
    /// Starts a call as a task, and answers as soon as it has begun.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`].
    ///
    /// # Cancel safety
    /// The call is given up; the task may have been started.
    pub async fn start_call(
        &self,
        task: &NewTask<'_>,
        options: &CallOptions,
    ) -> Result<Answer<StartCallResponse>, Error> {
        let mut request = json!({
            "agent": task.agent, "operation": task.operation, "arguments": task.arguments,
        });
        if let Some(runtime) = task.runtime {
            request["timeout"] = duration(runtime);
        }
        if task.on_disconnect != OnDisconnect::Unspecified {
            request["on_disconnect"] = json!(task.on_disconnect.as_str_name());
        }
        let json = self.call_json(CALLS, "StartCall", &request.to_string(), options).await?;
        Answer::new("StartCallResponse", json)
    }

    /// One task.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`]; `NotFound` for what is not the caller's.
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn task(
        &self,
        id: &str,
        options: &CallOptions,
    ) -> Result<Answer<GetTaskResponse>, Error> {
        let request = json!({ "id": id }).to_string();
        let json = self.call_json(TASKS, "GetTask", &request, options).await?;
        Answer::new("GetTaskResponse", json)
    }

    /// A page of the caller's tasks, the newest first.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`].
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn list_tasks(
        &self,
        filter: &TaskFilter,
        page: Page<'_>,
        options: &CallOptions,
    ) -> Result<Answer<ListTasksResponse>, Error> {
        let states: Vec<&str> = filter.states.iter().map(TaskState::as_str_name).collect();
        let request = json!({
            "states": states,
            "agent": filter.agent.as_deref().unwrap_or_default(),
            "page_size": page.size,
            "page_token": page.token,
        });
        let json = self.call_json(TASKS, "ListTasks", &request.to_string(), options).await?;
        Answer::new("ListTasksResponse", json)
    }

    /// Waits until a task has ended, at most for `patience`.
    ///
    /// # Errors
    /// As [`AgentClient::task`].
    ///
    /// # Cancel safety
    /// The wait is given up; the task goes on.
    pub async fn wait_task(
        &self,
        id: &str,
        patience: Duration,
        options: &CallOptions,
    ) -> Result<Answer<WaitTaskResponse>, Error> {
        let request = json!({ "id": id, "timeout": duration(patience) }).to_string();
        let timeout = options.timeout.unwrap_or(self.request_timeout).saturating_add(patience);
        let options = CallOptions { timeout: Some(timeout), ..options.clone() };
        let json = self.call_json(TASKS, "WaitTask", &request, &options).await?;
        Answer::new("WaitTaskResponse", json)
    }

    /// Cancels a task; one that has ended stays as it is.
    ///
    /// # Errors
    /// As [`AgentClient::task`].
    ///
    /// # Cancel safety
    /// The call is given up; the task may have been cancelled.
    pub async fn cancel_task(
        &self,
        id: &str,
        options: &CallOptions,
    ) -> Result<Answer<CancelTaskResponse>, Error> {
        let request = json!({ "id": id }).to_string();
        let json = self.call_json(TASKS, "CancelTask", &request, options).await?;
        Answer::new("CancelTaskResponse", json)
    }

    /// A page of the caller's sessions, the newest first.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`].
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn list_sessions(
        &self,
        page: Page<'_>,
        options: &CallOptions,
    ) -> Result<Answer<ListSessionsResponse>, Error> {
        let request = json!({ "page_size": page.size, "page_token": page.token }).to_string();
        let json = self.call_json(SESSIONS, "ListSessions", &request, options).await?;
        Answer::new("ListSessionsResponse", json)
    }

    /// One session.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`]; `NotFound` for what is not the caller's.
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn session(
        &self,
        id: &str,
        options: &CallOptions,
    ) -> Result<Answer<GetSessionResponse>, Error> {
        let request = json!({ "session_id": id }).to_string();
        let json = self.call_json(SESSIONS, "GetSession", &request, options).await?;
        Answer::new("GetSessionResponse", json)
    }

    /// Ends a session, and with it what is kept for it only.
    ///
    /// # Errors
    /// As [`AgentClient::session`].
    ///
    /// # Cancel safety
    /// The call is given up; the session may have been ended.
    pub async fn end_session(
        &self,
        id: &str,
        options: &CallOptions,
    ) -> Result<Answer<EndSessionResponse>, Error> {
        let request = json!({ "session_id": id }).to_string();
        let json = self.call_json(SESSIONS, "EndSession", &request, options).await?;
        Answer::new("EndSessionResponse", json)
    }
}

/// What became of a task that has ended; `None` while it has not.
///
/// # Errors
/// (Inner.) Why it did not complete.
#[must_use]
pub fn outcome(task: &Task) -> Option<Result<(), Failure>> {
    match task.state() {
        TaskState::Unspecified
        | TaskState::Submitted
        | TaskState::Working
        | TaskState::InputRequired => None,
        TaskState::Completed => Some(Ok(())),
        TaskState::Cancelled => Some(Err(failure(task)
            .unwrap_or_else(|| Failure::new(ErrorKind::Cancelled, "the task was cancelled")))),
        TaskState::Failed | TaskState::Rejected => Some(Err(failure(task).unwrap_or_else(|| {
            Failure::internal("the task failed, and the service did not say why")
        }))),
    }
}

fn failure(task: &Task) -> Option<Failure> {
    task.failure.as_ref().map(Failure::from)
}

/// A time in the JSON form of protobuf.
fn duration(time: Duration) -> Value {
    json!(format!("{}.{:09}s", time.as_secs(), time.subsec_nanos()))
}
