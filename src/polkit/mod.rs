//! polkit as the authority that calls are left to: one question at a time to
//! `org.freedesktop.PolicyKit1`, bounded in number and time. Which calls are asked about, and what
//! follows from an answer, is the executor's.

#![expect(clippy::disallowed_types, reason = "this is where polkit is spoken to")]

mod actions;
mod answer;
mod link;
mod places;
mod subject;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use zbus::Connection;

use crate::contract::Running;
use crate::error::{Error, ErrorKind};
use crate::executor::{Answer, Authority, Question, risk_name};

pub use actions::{action, policy_file};

use answer::Trouble;
use link::Link;
use places::Places;

/// Where and how polkit is asked (`[polkit]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The bus that polkit is on (`bus`).
    pub bus: Bus,
    /// How long an answer may take that needs nobody (`timeout_ms`).
    pub timeout: Duration,
    /// How many questions are put at once (`max_questions`).
    pub max_questions: usize,
    /// How many of them for one user (`max_questions_per_caller`).
    pub max_questions_per_caller: usize,
}

/// A message bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    /// The system bus.
    System,
    /// The bus at a D-Bus address.
    Address(String),
}

/// polkit, to which a connection is made with the first question.
pub struct Polkit {
    config: Config,
    has_callers: bool,
    link: Link,
    places: Places,
    /// What was last said in the log, so that it is said once.
    said: Mutex<Option<String>>,
}

impl Polkit {
    /// polkit on the bus that `config` names. `has_callers`: clients that call over D-Bus do so on this
    /// very bus, so that polkit knows their names. Nothing is connected yet.
    #[must_use]
    pub fn new(config: Config, has_callers: bool) -> Self {
        let places = Places::new(config.max_questions, config.max_questions_per_caller);
        Self {
            link: Link::new(config.bus.clone()),
            places,
            said: Mutex::default(),
            has_callers,
            config,
        }
    }

    async fn answer(&self, question: Question) -> Result<Answer, Error> {
        let _place = self.places.take(question.uid)?;
        let soon = Instant::now() + self.config.timeout;
        let until = if question.interactive { question.until } else { question.until.min(soon) };
        match timeout_at(until, self.put(&question)).await {
            Ok(answer) => answer,
            Err(_) if question.interactive => Err(Error::new(
                ErrorKind::DeadlineExceeded,
                "the time for the call was over before anybody had authenticated",
            )),
            Err(_) => Err(Error::new(
                ErrorKind::BackendUnavailable,
                format!("polkit did not answer within {} ms", self.config.timeout.as_millis()),
            )),
        }
    }

    async fn put(&self, question: &Question) -> Result<Answer, Error> {
        let connection = match self.link.get().await {
            Ok(connection) => connection,
            Err(error) => {
                self.say(format!("the bus of polkit cannot be reached: {error}"));
                return Ok(Answer::Absent);
            }
        };
        match self.check(&connection, question).await {
            Ok(answer) => {
                self.unsay();
                Ok(answer)
            }
            Err(Trouble::Absent(problem)) => {
                self.say(format!("there is no polkit: {problem}"));
                Ok(Answer::Absent)
            }
            Err(Trouble::Refuses(problem)) => {
                self.say(format!("polkit does not decide on calls: {problem}"));
                Ok(Answer::Absent)
            }
            Err(Trouble::Silent(problem)) => Err(Error::new(
                ErrorKind::BackendUnavailable,
                format!("polkit does not answer: {problem}"),
            )),
        }
    }

    async fn check(&self, connection: &Connection, question: &Question) -> Result<Answer, Trouble> {
        let known = subject::of(connection, question, self.has_callers).await?;
        let Some(subject) = known else { return Ok(Answer::No) };
        let operation = &question.operation;
        let risk = risk_name(operation.risk);
        let mut details = HashMap::from([
            ("agent", operation.agent.as_str()),
            ("operation", operation.name.as_str()),
            ("risk", risk.as_str()),
        ]);
        if let Some(target) = &question.target {
            details.insert("target", target);
        }
        let flags = if question.interactive { ALLOW_INTERACTION } else { 0 };
        let asking = link::Asking::begin(connection);
        let body = (subject, action(operation.risk), details, flags, asking.id());
        let reply = link::call(connection, "CheckAuthorization", &body).await;
        asking.end();
        answer::read(reply)
    }

    /// Says what is wrong, unless that was said last.
    fn say(&self, problem: String) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.as_ref() != Some(&problem) {
            tracing::warn!("{problem}; calls that it would decide on are refused");
            *said = Some(problem);
        }
    }

    fn unsay(&self) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.take().is_some() {
            tracing::info!("polkit answers");
        }
    }
}

/// The flag of `CheckAuthorization` that lets polkit ask somebody to authenticate.
const ALLOW_INTERACTION: u32 = 1;

impl Authority for Polkit {
    fn ask(&self, question: Question) -> Running<'_, Answer> {
        Box::pin(self.answer(question))
    }
}
