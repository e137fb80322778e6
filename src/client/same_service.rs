//! Tells whether the service is still the process that a call was sent to. What it knows of request ids
//! ends with it, so that one started since would carry a repeated call out again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::ways::Ways;
use super::{AgentsClient, Error, Failure, Request, Way};
use crate::error::ErrorKind;
use crate::proto::opdbus::v1::GetStatusRequest;

/// How long the question may take.
const OWN_CALL: Duration = Duration::from_secs(5);

/// By how much the service's clock and this one may differ between two questions.
const SLACK: Duration = Duration::from_millis(100);

/// Which process the service was when it was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pid: u32,
    uptime: Duration,
    /// Between these two it said so.
    asked: Instant,
    answered: Instant,
}

impl Process {
    /// True if `later` is the same process.
    fn is(self, later: Self) -> bool {
        let passed = later.asked.saturating_duration_since(self.answered);
        self.pid == later.pid && later.uptime + SLACK >= self.uptime + passed
    }
}

/// The process that the service was last known to be.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Option<Process>>);

impl Known {
    /// The process that calls now reach; `None` if the service does not tell. It is asked over the first of
    /// these ways that gives an answer, since one that loses a call loses this question too.
    pub(super) async fn process(
        &self,
        ways: &Ways,
        asked: impl IntoIterator<Item = Way>,
    ) -> Option<Process> {
        let known = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_some() {
            return known;
        }
        let mut process = None;
        for way in asked {
            process = ask(ways, way).await;
            if process.is_some() {
                break;
            }
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = process;
        process
    }

    /// A connection broke: what is behind the next one has to be asked.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Checks that `way` leads to the process that the call was first sent to. It is asked right before the
/// call is made again: a service that is started anew in between is not noticed.
///
/// # Errors
/// `Conflict`, as a lost call, if it is another one or cannot be told.
pub(super) async fn check(first: Option<Process>, ways: &Ways, way: Way) -> Result<(), Error> {
    let now = ask(ways, way).await;
    match first.zip(now) {
        Some((first, now)) if first.is(now) => Ok(()),
        Some(_) | None => {
            let text = "the connection was lost before the answer came, so that the call may or may \
                        not have been carried out; it was not tried again, since the service that \
                        knew its request id has stopped or cannot be told from another";
            Err(Failure { lost: true, ..Failure::new(ErrorKind::Conflict, text) }.into())
        }
    }
}

async fn ask(ways: &Ways, way: Way) -> Option<Process> {
    let client = AgentsClient::new(ways.client(way).ok()?);
    let asked = Instant::now();
    let request = Request::new(GetStatusRequest::default()).timeout(OWN_CALL);
    let status = client.get_status(request).await.ok()?;
    let uptime = Duration::try_from(status.uptime?).ok()?;
    Some(Process { pid: status.pid, uptime, asked, answered: Instant::now() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_service_that_was_started_since_is_another() {
        let at = |seconds, pid, uptime| {
            let asked = Instant::now() + Duration::from_secs(seconds);
            Process { pid, uptime: Duration::from_secs(uptime), asked, answered: asked }
        };
        let first = at(0, 7, 100);
        assert!(first.is(at(0, 7, 100)));
        assert!(first.is(at(10, 7, 110)));
        assert!(!first.is(at(10, 8, 110)), "another process");
        assert!(!first.is(at(10, 7, 5)), "the same number, but it was started since");
    }
}
