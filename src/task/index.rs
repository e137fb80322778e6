//! Which tasks there are, by id and by user, and which of those that have ended are kept. It starts
//! and ends none.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Task;

/// The tasks.
#[derive(Default)]
pub(super) struct Index {
    by_id: HashMap<Arc<str>, Arc<Task>>,
    users: HashMap<Option<u32>, User>,
    running: usize,
    kept: usize,
}

/// The tasks of one user.
#[derive(Default)]
struct User {
    running: usize,
    /// Those that have ended, in the order in which they did.
    ended: VecDeque<Arc<Task>>,
}

impl Index {
    pub(super) fn get(&self, id: &str) -> Option<&Arc<Task>> {
        self.by_id.get(id)
    }

    /// All tasks, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.by_id.values()
    }

    /// How many run.
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// How many of a user's run.
    pub(super) fn running_of(&self, uid: Option<u32>) -> usize {
        self.users.get(&uid).map_or(0, |user| user.running)
    }

    /// How many that have ended are kept.
    pub(super) fn kept(&self) -> usize {
        self.kept
    }

    /// Adds a task that runs.
    pub(super) fn add(&mut self, task: &Arc<Task>) {
        self.by_id.insert(Arc::clone(task.id()), Arc::clone(task));
        self.users.entry(task.caller().uid()).or_default().running += 1;
        self.running += 1;
    }

    /// Notes that a task which was added has ended.
    pub(super) fn has_ended(&mut self, task: &Arc<Task>) {
        let user = self.users.entry(task.caller().uid()).or_default();
        user.running = user.running.saturating_sub(1);
        user.ended.push_back(Arc::clone(task));
        self.running = self.running.saturating_sub(1);
        self.kept += 1;
    }

    /// Adds a task that ended before the service started.
    pub(super) fn add_ended(&mut self, task: &Arc<Task>) {
        self.by_id.insert(Arc::clone(task.id()), Arc::clone(task));
        let user = self.users.entry(task.caller().uid()).or_default();
        user.ended.push_back(Arc::clone(task));
        self.kept += 1;
    }

    /// Removes a task that has ended.
    pub(super) fn remove(&mut self, task: &Arc<Task>) {
        let uid = task.caller().uid();
        if let Some(user) = self.users.get_mut(&uid)
            && let Some(at) = user.ended.iter().position(|ended| Arc::ptr_eq(ended, task))
        {
            user.ended.remove(at);
            self.forget(task, uid);
        }
    }

    /// Removes those that are too old or too many, and gives them. When there are too many, the oldest
    /// of the user who has most goes, so that nobody pushes out the tasks of others.
    pub(super) fn prune(&mut self, keep: Duration, keep_max: usize) -> Vec<Arc<Task>> {
        let mut removed = Vec::new();
        let oldest = SystemTime::now().checked_sub(keep);
        let is_old = |task: &Arc<Task>| task.ended_at() < oldest;
        for user in self.users.values_mut() {
            while user.ended.front().is_some_and(is_old) {
                removed.extend(user.ended.pop_front());
            }
        }
        let mut surplus = (self.kept - removed.len()).saturating_sub(keep_max);
        while surplus > 0 {
            let most = self.users.values_mut().max_by_key(|user| user.ended.len());
            removed.extend(most.and_then(|user| user.ended.pop_front()));
            surplus -= 1;
        }
        for task in &removed {
            self.forget(task, task.caller().uid());
        }
        removed
    }

    fn forget(&mut self, task: &Arc<Task>, uid: Option<u32>) {
        self.kept -= 1;
        // Another task may have taken over its id.
        if self.by_id.get(task.id()).is_some_and(|known| Arc::ptr_eq(known, task)) {
            self.by_id.remove(task.id());
        }
        if self.users.get(&uid).is_some_and(|user| user.running == 0 && user.ended.is_empty()) {
            self.users.remove(&uid);
        }
    }
}
