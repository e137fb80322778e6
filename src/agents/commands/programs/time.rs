//! How long a call may wait: it answers a little before its deadline, so that what there is by then is
//! not lost.

use std::time::Duration;

use tokio::time::Instant;

use crate::call::Context;

/// How long before its deadline a call answers, for the way back; less if it has less than four times as
/// long.
const WAY_BACK: Duration = Duration::from_millis(250);

/// How long it takes to kill what did not end by itself.
const KILLING: Duration = Duration::from_millis(250);

/// The times of a call.
#[derive(Clone, Copy)]
pub(super) struct Times {
    begun: Instant,
    /// When it must answer; `None`: it has all the time.
    pub(super) answer: Option<Instant>,
}

impl Times {
    /// Those of a call that begins now.
    pub(super) fn of(context: &Context) -> Self {
        let begun = Instant::now();
        let answer = context.deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(begun);
            deadline.checked_sub(WAY_BACK.min(left / 4)).unwrap_or(deadline)
        });
        Self { begun, answer }
    }

    /// When a wait of `time` is over: by then, or when the call must answer.
    pub(super) fn after(&self, time: Option<Duration>) -> Option<Instant> {
        let asked = time.and_then(|time| self.begun.checked_add(time));
        [asked, self.answer].into_iter().flatten().min()
    }

    /// When a program must be asked to end, which then has so much `grace`.
    pub(super) fn stop(&self, grace: Duration) -> Option<Instant> {
        self.answer.map(|answer| {
            let left = answer.saturating_duration_since(self.begun);
            answer.checked_sub((grace + KILLING).min(left / 2)).unwrap_or(answer)
        })
    }

    /// How much time the call had until it must answer.
    pub(super) fn whole(&self) -> Duration {
        self.answer.map(|answer| answer.saturating_duration_since(self.begun)).unwrap_or_default()
    }
}

/// Waits until `at`; for ever if there is none.
pub(super) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
