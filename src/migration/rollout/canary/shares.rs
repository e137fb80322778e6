//! How often something bad happened over both ways: since the beginning, and lately. Whether gRPC is worse
//! is found here; what is bad, and what is done about it, is not known.
//!
//! What was seen since the beginning tells small differences, but the longer all went well, the later it
//! tells that something has broken. So the calls over gRPC also stand in windows of [`WINDOW`] calls, with
//! the calls over D-Bus of the same time, and with each window a test begins that knows nothing of the
//! calls before. What breaks is then found at the latest when the next window has as many bad calls as a
//! canary needs that has just begun.
//!
//! Every window is one more chance to be wrong. The `j`-th gets `1 / (j (j + 1))` of the probability that
//! all of them together may have, which is used up by no number of them; what a window needs as evidence
//! grows with the logarithm of its number.

use super::sequential::Tally;
use crate::call::Transport;

/// How many calls over gRPC are in a window.
pub(super) const WINDOW: u64 = 1000;

/// With what probability one operation's bounds may be wrong, each of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alpha {
    /// A bound of all calls, ever.
    pub all: f64,
    /// Those of all windows together.
    pub windows: f64,
}

/// The bad calls of one operation, over both ways.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares {
    all: Both,
    /// The window that is being filled.
    current: Both,
    /// The one before.
    last: Both,
    /// How many windows are full.
    full: u64,
}

/// By [`Transport::index`].
type Both = [Tally; Transport::ALL.len()];

const DBUS: usize = Transport::Dbus.index();
const GRPC: usize = Transport::Grpc.index();

/// Where gRPC is worse: what both ways have shown there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Worse {
    pub dbus: Tally,
    pub grpc: Tally,
    /// True if it is so in the last calls and was not from the beginning.
    pub is_late: bool,
}

impl Shares {
    /// Adds `calls` calls over the way with this index, all of them bad or none.
    pub(super) fn add(&mut self, way: usize, calls: u64, bad: bool) {
        if way == GRPC && self.current[GRPC].calls >= WINDOW {
            self.last = std::mem::take(&mut self.current);
            self.full = self.full.saturating_add(1);
        }
        self.all[way].add(calls, bad);
        self.current[way].add(calls, bad);
    }

    /// What D-Bus has shown since the beginning, and nothing of gRPC.
    #[must_use]
    pub(super) fn of_dbus(&self) -> Self {
        let mut of_dbus = Self::default();
        of_dbus.all[DBUS] = self.all[DBUS];
        of_dbus
    }

    /// Where calls over gRPC are more often bad than those over D-Bus, by more than `margin`: than all of
    /// these, and for a window also than those of its time, since what breaks behind both ways is no fault
    /// of gRPC. Where fewer than `least` calls took D-Bus in the time of a whole window, those say too
    /// little, and all of them stand for them.
    pub(super) fn worse(&self, alpha: Alpha, margin: f64, least: u64) -> Option<Worse> {
        let [dbus, grpc] = self.all;
        if grpc.bad == 0 {
            return None;
        }
        let most = dbus.at_most(alpha.all);
        if grpc.at_least(alpha.all) > most + margin {
            return Some(Worse { dbus, grpc, is_late: false });
        }
        // The first window is what was seen since the beginning.
        if self.full == 0 {
            return None;
        }
        let uses_dbus = self.last[DBUS].calls >= least.min(WINDOW);
        let windows = [(self.full, &self.last), (self.full + 1, &self.current)];
        windows.into_iter().find_map(|(number, [lately, grpc])| {
            let alpha = alpha.windows / (number as f64 * (number as f64 + 1.0));
            let share = grpc.at_least(alpha);
            // First what is known already.
            let is_worse =
                share > most + margin && (!uses_dbus || share > lately.at_most(alpha) + margin);
            let dbus = if uses_dbus { *lately } else { dbus };
            is_worse.then_some(Worse { dbus, grpc: *grpc, is_late: true })
        })
    }
}
