//! How much memory the messages of all tasks take together, and which of them can go when it is too
//! much. What a single task keeps is its ring's business.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Task;

/// The memory of all rings.
pub(super) struct Memory {
    used: AtomicUsize,
    limit: AtomicUsize,
    /// Tasks that have ended and whose messages are in memory, those that ended first in front. Weak,
    /// because how long a task is kept is decided elsewhere.
    ended: Mutex<VecDeque<Weak<Task>>>,
}

impl Memory {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            ended: Mutex::default(),
        })
    }

    /// The most that all rings may take (`[tasks] memory_bytes`).
    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    pub(super) fn is_full(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.limit()
    }

    /// Notes a task that has ended: its messages may leave memory from now on.
    pub(super) fn may_leave(&self, task: &Arc<Task>) {
        let mut ended = self.ended();
        if ended.len() == ended.capacity() {
            // Those that are not kept any more are forgotten before the list grows.
            ended.retain(|task| task.strong_count() > 0);
        }
        ended.push_back(Arc::downgrade(task));
    }

    /// Takes messages of ended tasks out of memory until there is room, the oldest tasks' first. False
    /// if there is none even so.
    pub(super) fn make_room(&self) -> bool {
        while self.is_full() {
            // Its own statement: the lock of a task is never taken under this one.
            let oldest = self.ended().pop_front();
            let Some(oldest) = oldest else { return false };
            if let Some(task) = oldest.upgrade() {
                task.unload();
            }
        }
        true
    }

    fn ended(&self) -> MutexGuard<'_, VecDeque<Weak<Task>>> {
        // Each use is one operation, so a panic elsewhere leaves nothing half-done.
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one ring takes of the memory of all; dropping it gives it back.
pub(super) struct Share {
    memory: Arc<Memory>,
    used: usize,
}

impl Share {
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        Self { memory, used: 0 }
    }

    pub(super) fn set(&mut self, used: usize) {
        if used >= self.used {
            self.memory.used.fetch_add(used - self.used, Ordering::Relaxed);
        } else {
            self.memory.used.fetch_sub(self.used - used, Ordering::Relaxed);
        }
        self.used = used;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}
