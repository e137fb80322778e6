//! What is done for all sessions without anybody asking: those that are due end, and what has changed
//! is recorded. One task each, however many sessions there are.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Sessions;

/// How long after a record could not be written it is tried again.
const RECORD_AGAIN: Duration = Duration::from_secs(5);

pub(super) fn start(sessions: &Arc<Sessions>) {
    tokio::spawn(end_due(Arc::downgrade(sessions), Arc::clone(&sessions.earlier)));
    tokio::spawn(record(Arc::downgrade(sessions), Arc::clone(&sessions.unrecorded)));
}

async fn end_due(sessions: Weak<Sessions>, earlier: Arc<Notify>) {
    loop {
        let Some(kept) = sessions.upgrade() else { return };
        let next = kept.end_due();
        drop(kept);
        match next {
            None => earlier.notified().await,
            Some(at) => tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                () = earlier.notified() => {}
            },
        }
    }
}

async fn record(sessions: Weak<Sessions>, unrecorded: Arc<Notify>) {
    loop {
        unrecorded.notified().await;
        let Some(kept) = sessions.upgrade() else { return };
        let Err(error) = kept.record().await else { continue };
        drop(kept);
        tracing::warn!(%error, "what sessions there are could not be recorded; it is tried again");
        tokio::time::sleep(RECORD_AGAIN).await;
        unrecorded.notify_one();
    }
}

impl Sessions {
    /// Ends the sessions whose time is over, and says when the next one may be.
    fn end_due(self: &Arc<Self>) -> Option<Instant> {
        loop {
            let grace = self.config.load().grace;
            let due = self.table().next_due(grace);
            match due {
                Err(next) => return next,
                Ok(scope) => self.end_over(&scope),
            }
        }
    }
}
