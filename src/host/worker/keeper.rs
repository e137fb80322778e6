//! Keeps one worker from its start to its end: tells it the settings, and ends it when it is idle, not
//! wanted any more, gone, or silent. Which calls are in it is not known here.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{sleep, timeout};

use super::link::{Link, Pings, Wire};
use super::pool::Workers;
use super::slot::Slot;
use super::starter::Leash;
use crate::agents::WorkerSettings;
use crate::error::Error;
use crate::events;
use crate::metrics::WorkerEnd;

/// How long a worker has to end once its socket is closed.
pub(super) const END_GRACE: Duration = Duration::from_secs(2);

/// How long the end of a process may come after that of its socket.
const EXIT_GRACE: Duration = Duration::from_millis(100);

/// The settings, as they change.
pub(super) type Settings = watch::Receiver<Arc<WorkerSettings>>;

/// What is kept.
pub(super) struct Kept {
    pub(super) link: Arc<Link>,
    pub(super) wire: Wire,
    pub(super) pings: Pings,
    pub(super) leash: Leash,
    /// What it has been told is seen.
    pub(super) settings: Settings,
    /// Given up when the process has ended.
    pub(super) place: OwnedSemaphorePermit,
}

/// Keeps a worker to its end.
pub(super) async fn keep(workers: Arc<Workers>, slot: Arc<Slot>, kept: Kept) {
    let Kept { link, wire, mut pings, leash, settings, place } = kept;
    let mut wire = Box::pin(wire);
    let reason = tokio::select! {
        biased;
        _ = wire.as_mut() => WorkerEnd::Lost,
        () = pings.until_silent() => WorkerEnd::Lost,
        () = link.given_up.notified() => WorkerEnd::Lost,
        () = link.closed.notified() => WorkerEnd::Closed,
        reason = look_after(&workers, &slot, &link, settings) => reason,
    };
    let name = link.name();
    match reason {
        WorkerEnd::Lost => {
            link.set_gone();
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

/// Tells the worker every change of the settings, and asks what goes on in it. Gives the reason for which
/// it is to end.
async fn look_after(
    workers: &Workers,
    slot: &Slot,
    link: &Link,
    mut settings: Settings,
) -> WorkerEnd {
    let config = &workers.config;
    // Settings are not told before the first ones are taken up.
    link.ready.notified().await;
    let mut asked = link.uses();
    loop {
        let left = config.idle.map(|idle| idle.saturating_sub(link.idle()));
        let is_due = tokio::select! {
            // Never closed: the workers are held here.
            _ = settings.changed() => {
                let next = Arc::clone(&settings.borrow_and_update());
                if !takes_up(link, timeout(config.check_timeout, link.configure(&next)).await) {
                    return WorkerEnd::Lost;
                }
                false
            }
            () = sleep(left.unwrap_or(config.check).min(config.check)) => {
                config.idle.is_some_and(|idle| link.idle() >= idle)
            }
        };
        let uses = link.uses();
        if is_due || uses != asked || link.going_on() > 0 {
            let asking = workers.ask_what_goes_on(link);
            match timeout(config.check_timeout, asking).await {
                Ok(Ok(_)) => asked = uses,
                Ok(Err(_)) | Err(_) => return WorkerEnd::Lost,
            }
        }
        if link.going_on() > 0 || workers.is_wanted(&slot.key) {
            link.touch();
        } else if is_due && link.close_if_unused(uses) {
            return WorkerEnd::Idle;
        }
    }
}

/// Whether a worker has taken changed settings up; says so if not.
fn takes_up<E: std::fmt::Display>(link: &Link, told: Result<Result<(), Error>, E>) -> bool {
    let why = match told {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error.to_string(),
        Err(late) => late.to_string(),
    };
    tracing::warn!("{} does not take up the changed settings and is ended: {why}", link.name());
    false
}
