//! Following a task: its messages as they come, Ctrl-C, and how it ended as the end of the command.
//! What follows is started or named elsewhere.

use std::io;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Outcome;
use super::messages::Messages;
use super::notes::Notes;
use super::problem::Problem;
use crate::client::{AgentClient, Answer, CallOptions, Error, Failure, outcome};
use crate::error::ErrorKind;
use crate::proto::opdbus::v1::watch_task_response::Event;
use crate::proto::opdbus::v1::{Task, WaitTaskResponse};

/// For how long the service is asked to wait at a time, so that a lost connection is noticed.
const WAIT_AT_A_TIME: Duration = Duration::from_secs(20);

/// The user's Ctrl-C. Once it is made, the process does not end by itself any more.
#[derive(Debug)]
pub(super) struct Interrupts(Signal);

impl Interrupts {
    pub(super) fn new() -> io::Result<Self> {
        signal(SignalKind::interrupt()).map(Self)
    }

    /// Resolves at the next one.
    pub(super) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

/// How following ended.
#[derive(Debug)]
pub(super) enum Watched {
    /// With the task.
    Ended(Box<Task>),
    /// By the user, before the message with this number.
    Interrupted { next: u64 },
}

/// Shows the messages of the task `id` from the number `from` on.
pub(super) async fn watch(
    client: &AgentClient,
    (id, from): (&str, u64),
    messages: &mut Messages<'_>,
    interrupts: &mut Interrupts,
    options: &CallOptions,
) -> Result<Watched, Problem> {
    let mut notes = Notes::new();
    let mut events = client.watch_task(id, from, options).await?;
    let (mut next, mut last) = (from, None);
    loop {
        let event = tokio::select! {
            () = interrupts.next() => return Ok(Watched::Interrupted { next }),
            event = events.next() => event?,
        };
        match event {
            Some(Event::Message(message)) => {
                next = message.seq.saturating_add(1);
                notes.clear();
                messages.show(&message.json)?;
            }
            Some(Event::Gap(gap)) => {
                next = gap.to.saturating_add(1);
                let text = match gap.from == gap.to {
                    true => format!("message {} is missing", gap.from),
                    false => format!("messages {} to {} are missing", gap.from, gap.to),
                };
                notes.say(&format!("gap: {text}; the service does not keep them any more"));
            }
            Some(Event::Task(task)) => {
                notes.progress(&task);
                last = Some(task);
            }
            None => {
                let ended = last.filter(|task| outcome(task).is_some());
                return ended.map(|task| Watched::Ended(Box::new(task))).ok_or_else(|| {
                    Problem::Local(format!(
                        "the service told nothing more of the task; op-dbusctl tasks show {id}"
                    ))
                });
            }
        }
    }
}

/// Shows a task that this command has started, which ends with it: Ctrl-C cancels it, and so does a
/// reader of standard output who has gone.
pub(super) async fn attend(
    client: &AgentClient,
    id: &str,
    messages: &mut Messages<'_>,
    interrupts: &mut Interrupts,
    options: &CallOptions,
) -> Result<Outcome, Problem> {
    match watch(client, (id, 0), messages, interrupts, options).await {
        Ok(Watched::Ended(task)) => ended(&task),
        Ok(Watched::Interrupted { .. }) => {
            Notes::new().say(&format!("cancelling task {id}; Ctrl-C again leaves it"));
            tokio::select! {
                task = cancel(client, id, options) => ended(&task?),
                () = interrupts.next() => Err(Problem::Local(format!(
                    "left the task before it had ended; op-dbusctl tasks show {id}"
                ))),
            }
        }
        Err(problem @ Problem::Io(_)) => {
            // What is wrong with the output is what the user wants to know.
            drop(client.cancel_task(id, options).await);
            Err(problem)
        }
        Err(problem) => {
            Notes::new().say(&format!("what became of the task: op-dbusctl tasks show {id}"));
            Err(problem)
        }
    }
}

async fn cancel(client: &AgentClient, id: &str, options: &CallOptions) -> Result<Task, Problem> {
    client.cancel_task(id, options).await?;
    let answer = until_ended(client, id, None, options).await?;
    answer.message.task.ok_or_else(|| Problem::Local("the service gave no task".to_owned()))
}

/// Waits until a task has ended, at most for `patience`.
pub(super) async fn until_ended(
    client: &AgentClient,
    id: &str,
    patience: Option<Duration>,
    options: &CallOptions,
) -> Result<Answer<WaitTaskResponse>, Problem> {
    let started = Instant::now();
    loop {
        let left = patience.map_or(Duration::MAX, |time| time.saturating_sub(started.elapsed()));
        let answer = client.wait_task(id, left.min(WAIT_AT_A_TIME), options).await?;
        if answer.message.ended || left <= WAIT_AT_A_TIME {
            return Ok(answer);
        }
    }
}

/// How the command ends with this task.
pub(super) fn ended(task: &Task) -> Result<Outcome, Problem> {
    match outcome(task) {
        Some(Ok(())) => Ok(Outcome::Done),
        Some(Err(failure)) => Err(Error::Failed(failure).into()),
        None => Ok(Outcome::Unfinished),
    }
}

/// What the user has called off.
pub(super) fn called_off(message: &str) -> Problem {
    Error::Failed(Failure {
        kind: ErrorKind::Cancelled,
        message: message.to_owned(),
        facts: std::collections::BTreeMap::new(),
        retry_after: None,
        lost: false,
    })
    .into()
}
