//! Looks after one agent from the side: says when calls run in it, stops it when nobody wants it, and
//! tries a failed start again while sessions want it. No call waits for it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::life::{Life, Phase};
use super::state::State;

/// The least time between two looks at whether calls run: so often at most is a change between running
/// and busy told.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What was last seen of an agent that runs.
struct Seen {
    looked_at: Instant,
    used_at: Instant,
    busy: bool,
    wanted: bool,
}

/// Looks after `life` until it is dropped. `wake` says that calls began or ended.
pub(super) async fn keep(life: Weak<Life>, wake: Arc<Notify>) {
    let (mut phase, mut sessions) = match life.upgrade() {
        Some(life) => (life.phases(), life.roster().sessions()),
        None => return,
    };
    let mut seen = None;
    loop {
        let next = {
            let Some(life) = life.upgrade() else { return };
            phase.mark_unchanged();
            let any = !sessions.borrow_and_update().is_empty();
            look(&life, &mut seen, any).await
        };
        tokio::select! {
            changed = phase.changed() => if changed.is_err() { return },
            changed = sessions.changed() => if changed.is_err() { return },
            () = wake.notified() => {}
            () = until(next) => {}
        }
    }
}

/// Does what is due, and says when to look again even if nothing happens.
async fn look(life: &Arc<Life>, seen: &mut Option<Seen>, sessions: bool) -> Option<Instant> {
    let wanted = sessions && life.starts_with_session();
    let phase = life.phase();
    match phase {
        Phase::Running { .. } => look_at_running(life, seen, wanted).await,
        Phase::Failed(failure) => {
            *seen = None;
            if !wanted {
                return None;
            }
            if failure.wait().is_zero() {
                life.begin();
            }
            Some(failure.retry_at).filter(|at| *at > Instant::now())
        }
        Phase::Stopped | Phase::Starting { .. } | Phase::Stopping => {
            *seen = None;
            None
        }
    }
}

async fn look_at_running(
    life: &Arc<Life>,
    seen: &mut Option<Seen>,
    wanted: bool,
) -> Option<Instant> {
    let now = Instant::now();
    let before = seen.get_or_insert(Seen {
        // It may be looked at as soon as it has started.
        looked_at: now.checked_sub(LOOK_EVERY).unwrap_or(now),
        used_at: now,
        busy: false,
        wanted,
    });
    let look_at = before.looked_at + LOOK_EVERY;
    if now < look_at {
        before.wanted |= wanted;
        return Some(look_at);
    }
    // Armed first: what begins after that comes back here.
    let was_used = life.gate().arm();
    let busy = life.gate().is_busy();
    if busy != before.busy {
        life.publish(if busy { State::Busy } else { State::Running });
    }
    let used_at = match was_used || busy || wanted || before.wanted {
        true => now,
        false => before.used_at,
    };
    *before = Seen { looked_at: now, used_at, busy, wanted };
    let stop_at = used_at + life.idle_stop()?;
    if busy || wanted {
        return None;
    }
    if now < stop_at {
        return Some(stop_at);
    }
    *seen = None;
    life.stop().await;
    None
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
