//! How much memory the messages of all tasks take together and those of each user's, and which of them
//! can go when it is too much. What a single task keeps is its ring's business.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Task;
use crate::error::Error;

/// Users beyond this number are forgotten when they have no tasks.
const REMEMBERED: usize = 1024;

/// The memory of all rings.
pub(super) struct Memory {
    used: AtomicUsize,
    limit: AtomicUsize,
    limit_of_user: AtomicUsize,
    users: Mutex<HashMap<Option<u32>, Arc<User>>>,
}

/// The memory of one user's rings.
#[derive(Default)]
pub(super) struct User {
    used: AtomicUsize,
    /// Tasks that have ended and whose messages are in memory, those that ended first in front. Weak,
    /// because how long a task is kept is decided elsewhere.
    ended: Mutex<VecDeque<Weak<Task>>>,
}

/// Whose memory is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// That of the user's tasks.
    User,
    /// That of all tasks.
    All,
}

impl Memory {
    pub(super) fn new(limit: usize, limit_of_user: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            limit_of_user: AtomicUsize::new(limit_of_user),
            users: Mutex::default(),
        })
    }

    pub(super) fn set_limits(&self, limit: usize, limit_of_user: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        self.limit_of_user.store(limit_of_user, Ordering::Relaxed);
    }

    /// The memory of the tasks of the user `uid`.
    pub(super) fn of(&self, uid: Option<u32>) -> Arc<User> {
        let mut users = self.users();
        if users.len() >= REMEMBERED {
            users.retain(|_, user| Arc::strong_count(user) > 1);
        }
        Arc::clone(users.entry(uid).or_default())
    }

    /// Takes messages of ended tasks out of memory until there is room for more of `user`'s, the oldest
    /// tasks' first: his own if he has too much, else of whoever has most.
    ///
    /// # Errors
    /// Whose memory is full even so.
    pub(super) fn make_room(&self, user: &User) -> Result<(), Full> {
        while user.used.load(Ordering::Relaxed) >= self.limit_of_user.load(Ordering::Relaxed) {
            user.unload_oldest().ok_or(Full::User)?;
        }
        while self.used.load(Ordering::Relaxed) >= self.limit.load(Ordering::Relaxed) {
            let most = {
                let users = self.users();
                let with_ended = users.values().filter(|user| !user.ended().is_empty());
                with_ended.max_by_key(|user| user.used.load(Ordering::Relaxed)).cloned()
            };
            most.and_then(|user| user.unload_oldest()).ok_or(Full::All)?;
        }
        Ok(())
    }

    /// Checks that a message of `length` bytes can be kept at all: one that took all of its user's memory
    /// would keep his other tasks from starting for as long as its own runs.
    ///
    /// # Errors
    /// `LimitExceeded` if it cannot.
    pub(super) fn admit(&self, length: usize) -> Result<(), Error> {
        let limit = self.limit_of_user.load(Ordering::Relaxed);
        if length < limit {
            return Ok(());
        }
        let problem = format_args!("a message of the stream has {length} bytes");
        Err(Error::limit("tasks.memory_bytes_per_caller", limit, problem))
    }

    fn users(&self) -> MutexGuard<'_, HashMap<Option<u32>, Arc<User>>> {
        // Each use is one operation, so a panic elsewhere leaves nothing half-done.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl User {
    /// Notes a task that has ended: its messages may leave memory from now on.
    pub(super) fn may_leave(&self, task: &Arc<Task>) {
        let mut ended = self.ended();
        if ended.len() == ended.capacity() {
            // Those that are not kept any more are forgotten before the list grows.
            ended.retain(|task| task.strong_count() > 0);
        }
        ended.push_back(Arc::downgrade(task));
    }

    /// Takes the messages of the task that ended first out of memory; `None` if there is none.
    fn unload_oldest(&self) -> Option<()> {
        // Its own statement: the lock of a task is never taken under this one.
        let oldest = self.ended().pop_front()?;
        if let Some(task) = oldest.upgrade() {
            task.unload();
        }
        Some(())
    }

    fn ended(&self) -> MutexGuard<'_, VecDeque<Weak<Task>>> {
        // Each use is one operation, so a panic elsewhere leaves nothing half-done.
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one ring takes of its user's memory and of that of all; dropping it gives it back.
pub(super) struct Share {
    memory: Arc<Memory>,
    user: Arc<User>,
    used: usize,
}

impl Share {
    pub(super) fn new(memory: Arc<Memory>, user: Arc<User>) -> Self {
        Self { memory, user, used: 0 }
    }

    pub(super) fn set(&mut self, used: usize) {
        for all in [&self.memory.used, &self.user.used] {
            if used >= self.used {
                all.fetch_add(used - self.used, Ordering::Relaxed);
            } else {
                all.fetch_sub(self.used - used, Ordering::Relaxed);
            }
        }
        self.used = used;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}
