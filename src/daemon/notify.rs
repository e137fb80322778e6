//! What systemd is told (`sd_notify(3)`). Without systemd nothing is sent.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::events;
use crate::executor::Executor;
use crate::proto::opdbus::v1::GetStatusResponse;
use std::sync::Arc;

/// The service answers.
pub(super) fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The service is doing as `status` says.
pub(super) fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// The configuration is being read anew; [`ready`] ends that.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("systemd cannot be told of the reload: {error}"),
    }
}

/// The service stops and takes at most `time` for it, which systemd then waits even if the unit's
/// timeout is shorter.
pub(super) fn stopping(time: Duration, status: &str) {
    let time = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    send(&[
        NotifyState::Stopping,
        NotifyState::Status(status),
        NotifyState::ExtendTimeoutUsec(time),
    ]);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("systemd cannot be notified: {error}");
    }
}

/// One line for people: where the service can be reached, and what is wrong.
pub(super) fn summary(report: &GetStatusResponse) -> String {
    let mut parts = Vec::new();
    for transport in &report.transports {
        parts.push(match transport.serving {
            true => format!("{} at {}", transport.name, transport.addresses.join(", ")),
            false => format!("{} not serving: {}", transport.name, transport.problem),
        });
    }
    if !report.config_error.is_empty() {
        parts.push("the last reload was refused".to_owned());
    }
    if !report.warnings.is_empty() {
        parts.push(format!("warnings: {}", report.warnings.len()));
    }
    let text = if parts.is_empty() { "serving".to_owned() } else { parts.join("; ") };
    // A line break would begin another notification.
    text.replace(['\n', '\r'], " ")
}

/// Tells systemd that the service is alive, while it is.
pub(super) struct Watchdog {
    ticks: Option<Interval>,
}

impl Watchdog {
    /// The watchdog that the unit asks for (`WatchdogSec=`), fed twice in its time.
    pub(super) fn new() -> Self {
        let ticks = sd_notify::watchdog_enabled().map(|time| {
            let mut ticks = tokio::time::interval_at(Instant::now(), time / 2);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        Self { ticks }
    }

    /// Resolves when it is time for [`Watchdog::feed`]; never without a watchdog.
    pub(super) async fn tick(&mut self) -> Duration {
        match &mut self.ticks {
            Some(ticks) => {
                ticks.tick().await;
                ticks.period()
            }
            None => std::future::pending().await,
        }
    }
}

/// Tells systemd that the service is alive if the executor answers within `time`.
pub(super) async fn feed_watchdog(executor: &Arc<Executor>, time: Duration) {
    if tokio::time::timeout(time, executor.is_alive()).await == Ok(true) {
        send(&[NotifyState::Watchdog]);
    } else {
        tracing::error!(
            message_id = events::NOT_ALIVE,
            "the executor does not answer; the watchdog is not told that the service is alive"
        );
    }
}
