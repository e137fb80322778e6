//! Keeps one worker from its start to its end: idle, not wanted any more, gone, or silent. Which calls
//! are in it is not known here.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

use super::link::{Link, Wire};
use super::pool::{Slot, Workers};
use super::starter::Leash;
use crate::events;
use crate::metrics::WorkerEnd;

/// How long a worker has to end once its socket is closed.
pub(super) const END_GRACE: Duration = Duration::from_secs(2);

/// How long the end of a process may come after that of its socket.
const EXIT_GRACE: Duration = Duration::from_millis(100);

/// What is kept.
pub(super) struct Kept {
    pub(super) link: Arc<Link>,
    pub(super) wire: Wire,
    pub(super) leash: Leash,
    /// Given up when the process has ended.
    pub(super) place: OwnedSemaphorePermit,
}

/// Keeps a worker to its end.
pub(super) async fn keep(workers: Arc<Workers>, slot: Arc<Slot>, kept: Kept) {
    let Kept { link, wire, leash, place } = kept;
    let mut wire = Box::pin(wire);
    let reason = until_end(&link, wire.as_mut(), workers.config.idle).await;
    let name = link.name();
    match reason {
        WorkerEnd::Lost => {
            let why = match timeout(EXIT_GRACE, leash.ended()).await {
                Ok(how) => how,
                Err(_) => "it does not answer and is killed".to_owned(),
            };
            workers.ended(&slot, &link, reason, &why);
            tracing::warn!(
                message_id = events::WORKER_LOST,
                worker_uid = slot.key.uid,
                "{name} is lost: {why}"
            );
        }
        WorkerEnd::Closed | WorkerEnd::Idle => {
            workers.ended(&slot, &link, reason, "");
            // The last handle but the connection itself; without it the connection says goodbye.
            drop(link);
            drop(slot);
            let ending = async {
                // However the connection ends, what counts is that the process does.
                wire.as_mut().await.ok();
                // It closes the socket only now.
                drop(wire);
                leash.ended().await
            };
            match timeout(END_GRACE, ending).await {
                Ok(how) => tracing::info!("{name} was not needed any more: {how}"),
                Err(_) => tracing::warn!("{name} does not end and is killed"),
            }
        }
    }
    leash.kill().await;
    drop(place);
}

/// Speaks to the worker until there is a reason for it to end.
async fn until_end(
    link: &Arc<Link>,
    mut wire: Pin<&mut Wire>,
    idle: Option<Duration>,
) -> WorkerEnd {
    loop {
        let rest = async {
            match idle {
                Some(idle) => sleep(idle.saturating_sub(link.idle())).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = &mut wire => return WorkerEnd::Lost,
            () = link.closed.notified() => return WorkerEnd::Closed,
            () = rest => {
                if idle.is_some_and(|idle| link.idle() >= idle) && link.close_if_idle() {
                    return WorkerEnd::Idle;
                }
            }
        }
    }
}
