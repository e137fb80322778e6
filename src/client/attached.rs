//! A stream that outlives its connection: when that breaks, what the task has given since is read on from
//! where it was, over whichever way reaches the service. No message comes twice, and none is left out
//! without a word. How a way is reached, the carrier knows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::time::Instant;

use super::call::{CallOptions, Request, Requests, Rpc};
use super::error::{Error, Failure};
use super::known;
use super::metrics::Operation as Figures;
use super::retry::Verdict;
use super::routed::Routed;
use super::stream::Messages;
use super::tasks::outcome;
use super::way::Way;
use super::{AgentClient, TasksClient};
use crate::error::ErrorKind;
use crate::proto::opdbus::v1::{
    CancelTaskRequest, OnDisconnect, ReadTaskRequest, ReadTaskResponse,
};

/// How long a task is looked for after the connection broke, with nothing heard of it.
const LOOKED_FOR: Duration = Duration::from_secs(30);

/// The first pause before a task that had nothing is asked again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How long one question may take.
const OWN_CALL: Duration = Duration::from_secs(5);

/// The options with which a stream is opened that this side cancels itself when it is dropped: to the
/// service, its task goes on when the connection breaks. Where the user said what is to become of it, or
/// sends a stream, which cannot be sent on over another connection, they are as they were.
pub(super) fn kept(rpc: &Rpc, options: &CallOptions, requests: &Requests) -> CallOptions {
    let mut kept = options.clone();
    if matches!(requests, Requests::One(_))
        && options.on_disconnect == OnDisconnect::Unspecified
        && !is_view(rpc)
    {
        kept.on_disconnect = OnDisconnect::Continue;
    }
    kept
}

/// True for a stream of op-dbus's own services and of gateways: it is no task, and opened anew instead.
fn is_view(rpc: &Rpc) -> bool {
    let known = known::at(&rpc.path).ok().flatten();
    known.is_some_and(|known| !known.operation.is_agents)
}

/// The messages of a stream that was opened over `way`, with `options` as the user gave them.
pub(super) fn attached(
    carrier: Routed,
    messages: Messages,
    way: Way,
    figures: Arc<Figures>,
    options: &CallOptions,
) -> Messages {
    let task = messages.task_id().map(|id| Task {
        carrier,
        id: id.to_owned(),
        session: options.session.clone(),
        is_cancelled_when_dropped: options.on_disconnect == OnDisconnect::Unspecified,
        // With `Cancel`, the service has cancelled it.
        goes_on: options.on_disconnect != OnDisconnect::Cancel,
    });
    let id = task.as_ref().map(|task| task.id.clone());
    Messages::new(id, read_on(task, messages, way, figures))
}

/// A task whose messages are read.
struct Task {
    carrier: Routed,
    id: String,
    session: Option<String>,
    is_cancelled_when_dropped: bool,
    goes_on: bool,
}

impl Task {
    /// What asks for it, over whichever way reaches the service.
    fn client(&self) -> TasksClient {
        let client = AgentClient::over(Arc::new(self.carrier.clone()));
        TasksClient::new(match &self.session {
            Some(session) => client.in_session(session),
            None => client,
        })
    }
}

/// Where the messages come from.
enum Source {
    /// The stream that was opened.
    Opened(Messages),
    /// Questions for what came since.
    Asked { pause: Duration, heard: Instant },
    /// Nowhere any more.
    Ended,
}

/// The messages as they come.
struct Reading {
    source: Source,
    task: Option<Task>,
    way: Way,
    figures: Arc<Figures>,
    /// The number of the last message that was given.
    last: u64,
    /// Messages that came and were not given yet.
    ready: VecDeque<Bytes>,
    /// How the task ended, once everything before is given.
    end: Option<Result<(), Error>>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        let Some(mut task) = self.task.take().filter(|task| task.is_cancelled_when_dropped) else {
            return;
        };
        // Outside a runtime there is nothing left that could send it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let source = std::mem::replace(&mut self.source, Source::Ended);
            let client = task.client();
            let request = CancelTaskRequest { id: std::mem::take(&mut task.id) };
            runtime.spawn(async move {
                // Where the service cannot be reached, the task ends with its own time.
                drop(client.cancel_task(Request::new(request).timeout(OWN_CALL)).await);
                // Only now: work that nobody holds up any more may be done before it is cancelled.
                drop(source);
            });
        }
    }
}

fn read_on(
    task: Option<Task>,
    messages: Messages,
    way: Way,
    figures: Arc<Figures>,
) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    let reading = Reading {
        source: Source::Opened(messages),
        task,
        way,
        figures,
        last: 0,
        ready: VecDeque::new(),
        end: None,
    };
    stream::unfold(reading, |mut reading| async move {
        let message = reading.next().await?;
        Some((message, reading))
    })
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                self.last += 1;
                self.figures.chunk(self.way);
                return Some(Ok(message));
            }
            if let Some(end) = self.end.take() {
                self.source = Source::Ended;
                // Where the task itself has ended, there is nothing to cancel.
                let may_run = end.as_ref().is_err_and(is_passing);
                if let Some(task) = &mut self.task {
                    task.is_cancelled_when_dropped &= may_run;
                }
                return end.err().map(Err);
            }
            match &mut self.source {
                Source::Ended => return None,
                Source::Opened(messages) => match messages.next().await {
                    Some(Ok(message)) => self.ready.push_back(message),
                    None => self.end = Some(Ok(())),
                    Some(Err(error)) => self.broken(error),
                },
                Source::Asked { pause, heard } => {
                    let (waited, heard) = (*pause, *heard);
                    tokio::time::sleep(waited).await;
                    self.read(waited, heard).await;
                }
            }
        }
    }

    /// The stream ended with an error: if it was the connection, the task is looked for.
    fn broken(&mut self, error: Error) {
        let goes_on = self.task.as_ref().is_some_and(|task| task.goes_on);
        if goes_on && Verdict::on(&error).is_ways {
            self.source = Source::Asked { pause: Duration::ZERO, heard: Instant::now() };
        } else {
            self.end = Some(Err(error));
        }
    }

    /// Asks once for what came since the last message.
    async fn read(&mut self, waited: Duration, heard: Instant) {
        let Some(task) = &self.task else { return };
        let from_seq = self.last + 1;
        let request =
            ReadTaskRequest { id: task.id.clone(), from_seq, ..ReadTaskRequest::default() };
        let longer = (waited * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        match task.client().read_task(Request::new(request).timeout(OWN_CALL)).await {
            Ok(answer) => {
                let pause = if answer.messages.is_empty() { longer } else { Duration::ZERO };
                self.source = Source::Asked { pause, heard: Instant::now() };
                self.take(answer);
            }
            Err(error) => {
                let may_come_back = is_passing(&error) && heard.elapsed() < LOOKED_FOR;
                match may_come_back {
                    true => self.source = Source::Asked { pause: longer, heard },
                    false => {
                        self.end = Some(Err(self.missing(from_seq, None, &error.to_string())));
                    }
                }
            }
        }
    }

    /// Takes in an answer.
    fn take(&mut self, answer: ReadTaskResponse) {
        if let Some(gap) = answer.gap {
            let text = "the service does not keep them any more";
            self.end = Some(Err(self.missing(self.last + 1, Some(gap.to), text)));
            return;
        }
        let all_there = answer.messages.is_empty();
        let mut next = self.last + 1;
        for message in answer.messages {
            if message.seq != next {
                let (to, text) = (message.seq.saturating_sub(1), "the service left them out");
                self.end = Some(Err(self.missing(next, Some(to), text)));
                return;
            }
            next += 1;
            self.ready.push_back(message.payload);
        }
        let ended = answer.task.as_ref().and_then(outcome);
        let last = answer.task.map_or(0, |task| task.last_seq);
        if let Some(ended) = ended
            && (all_there || last < next)
        {
            self.end = Some(ended.map_err(Error::from));
        }
    }

    /// That messages of the stream are missing: those from number `from` to `to`.
    fn missing(&self, from: u64, to: Option<u64>, problem: &str) -> Error {
        let which = match to {
            Some(to) => format!("messages {from} to {to}"),
            None => format!("all messages from number {from} on"),
        };
        let id = self.task.as_ref().map_or("", |task| task.id.as_str());
        let text = format!(
            "the connection was lost in the middle of the stream, and {which} of task {id} are \
             missing: {problem}"
        );
        let mut failure = Failure::new(ErrorKind::Unavailable, text);
        failure.lost = true;
        failure.facts.insert("task_id".to_owned(), id.to_owned());
        failure.facts.insert("from".to_owned(), from.to_string());
        if let Some(to) = to {
            failure.facts.insert("to".to_owned(), to.to_string());
        }
        failure.into()
    }
}

/// True for an error that may be over soon.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::Unreachable(_) => true,
        Error::Failed(failure) => failure.lost || failure.kind.is_retryable(),
    }
}
