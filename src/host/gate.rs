//! Counts the calls in an agent and closes only when there is none. What a call costs is here: two
//! atomic additions, and a look at a flag when it is the first or the last one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Set while the gate is open; the other bits count the calls.
const OPEN: u64 = 1 << 63;

/// The gate of one agent.
pub(super) struct Gate {
    word: AtomicU64,
    /// True while somebody wants to know when calls begin or end.
    armed: AtomicBool,
}

/// What became of a try to enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// The gate is closed.
    Closed,
    /// The call is in. `tell`: who armed the gate must be told.
    Open { tell: bool },
}

impl Gate {
    /// A closed gate.
    pub(super) fn new() -> Self {
        Self { word: AtomicU64::new(0), armed: AtomicBool::new(true) }
    }

    /// Begins a call.
    pub(super) fn enter(&self) -> Entry {
        let before = self.word.fetch_add(1, Ordering::SeqCst);
        if before & OPEN == 0 {
            self.word.fetch_sub(1, Ordering::SeqCst);
            return Entry::Closed;
        }
        Entry::Open { tell: before == OPEN && self.disarm() }
    }

    /// Ends a call; true if who armed the gate must be told.
    pub(super) fn leave(&self) -> bool {
        self.word.fetch_sub(1, Ordering::SeqCst) == (OPEN | 1) && self.disarm()
    }

    pub(super) fn open(&self) {
        self.word.fetch_or(OPEN, Ordering::SeqCst);
    }

    /// Closes the gate unless a call is in; true if it did.
    pub(super) fn close_if_empty(&self) -> bool {
        self.word.compare_exchange(OPEN, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Asks to be told, once, when the next call begins or the last one ends; true if a call did
    /// since the last time this was asked. A later [`Gate::is_busy`] misses nothing.
    pub(super) fn arm(&self) -> bool {
        !self.armed.swap(true, Ordering::SeqCst)
    }

    /// True if calls are in.
    pub(super) fn is_busy(&self) -> bool {
        self.word.load(Ordering::SeqCst) & !OPEN != 0
    }

    fn disarm(&self) -> bool {
        self.armed.load(Ordering::SeqCst) && self.armed.swap(false, Ordering::SeqCst)
    }
}
