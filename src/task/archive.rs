//! The tasks on disk: what is known of them at their start, and all of it once they have ended.
//! Nobody waits for it to be written; who finds it again, and for how long, is decided elsewhere.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use prost::Message as _;
use rusqlite::Connection;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::ring::Message;
use super::table::{self, Row};
use super::{Task, record};
use crate::error::Error;
use crate::status::Status;
use crate::storage::{self, Chore, Durability, Failure, Store, time};

/// How many tasks are written with one commit at most.
const BATCH: usize = 256;

/// How many wait to be written before new tasks are refused (`tasks.unwritten`).
pub(super) const UNWRITTEN_MAX: usize = 16_384;

/// What is to be written.
enum Job {
    /// Weak, because a task that is not kept any more need not be written.
    Save(Weak<Task>),
    Forget(i64),
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    is_writing: bool,
}

/// The tasks on disk.
pub(super) struct Archive {
    store: Store,
    status: Arc<Status>,
    queue: Mutex<Queue>,
    idle: Notify,
    keep: Arc<AtomicI64>,
}

/// Forgets what is too old to be kept.
struct Sweep {
    /// How long a task is kept, in microseconds.
    keep: Arc<AtomicI64>,
}

impl Chore for Sweep {
    type Done = ();

    const EVERY: Duration = Duration::from_secs(30);

    fn run(&self, database: &Connection) -> Result<((), bool), Failure> {
        let oldest = time::now().saturating_sub(self.keep.load(Ordering::Relaxed));
        Ok(((), table::forget_old(database, oldest)?))
    }

    fn committed(&self, (): &()) {}
}

impl Archive {
    /// Opens `tasks.db`.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(super) fn open(
        config: &storage::Config,
        keep: Duration,
        status: &Arc<Status>,
    ) -> Result<Arc<Self>, Error> {
        let keep = Arc::new(AtomicI64::new(time::micros(keep)));
        // No answer rests on what is written here, so a power loss may take the last moments.
        let config = storage::Config { durability: Durability::Normal, ..config.clone() };
        let sweep = Sweep { keep: Arc::clone(&keep) };
        Ok(Arc::new(Self {
            store: Store::open(&config, &table::SCHEMA, status, sweep)?,
            status: Arc::clone(status),
            queue: Mutex::default(),
            idle: Notify::new(),
            keep,
        }))
    }

    pub(super) fn set_keep(&self, keep: Duration) {
        self.keep.store(time::micros(keep), Ordering::Relaxed);
    }

    /// What was written before the service started.
    pub(super) fn tasks(&self) -> Result<Vec<Row>, Error> {
        self.store.read(table::tasks)
    }

    /// A message of the task with the number `key`; none if it is not kept any more.
    pub(super) fn message(&self, key: i64, seq: u64) -> Result<Option<Message>, Error> {
        self.store.read(|database| table::message(database, key, seq))
    }

    /// True if the disk is so far behind that it had better not be given more.
    pub(super) fn is_behind(&self) -> bool {
        self.queue().jobs.len() >= UNWRITTEN_MAX
    }

    /// Has a task written as it will be when its turn comes.
    pub(super) fn save(self: &Arc<Self>, task: &Arc<Task>) {
        self.push(Job::Save(Arc::downgrade(task)));
    }

    pub(super) fn forget(self: &Arc<Self>, key: i64) {
        self.push(Job::Forget(key));
    }

    /// Resolves when everything has been written.
    pub(super) async fn flush(&self) {
        loop {
            let idle = self.idle.notified();
            if !self.queue().is_writing {
                return;
            }
            idle.await;
        }
    }

    fn push(self: &Arc<Self>, job: Job) {
        let mut queue = self.queue();
        queue.jobs.push_back(job);
        if queue.is_writing {
            return;
        }
        // Outside of the runtime, as before the daemon serves, the next job takes this one along.
        if let Ok(runtime) = Handle::try_current() {
            queue.is_writing = true;
            drop(runtime.spawn(Arc::clone(self).write_all()));
        }
    }

    async fn write_all(self: Arc<Self>) {
        loop {
            let jobs: Vec<Job> = {
                let mut queue = self.queue();
                let count = queue.jobs.len().min(BATCH);
                if count == 0 {
                    queue.is_writing = false;
                    self.idle.notify_waiters();
                    return;
                }
                queue.jobs.drain(..count).collect()
            };
            self.write(jobs).await;
        }
    }

    async fn write(&self, jobs: Vec<Job>) {
        let mut ended = Vec::new();
        let mut changes: Vec<Change> = Vec::with_capacity(jobs.len());
        for job in jobs {
            match job {
                Job::Forget(key) => changes.push(Change::Forget(key)),
                Job::Save(task) => {
                    let Some(task) = task.upgrade() else { continue };
                    let now = task.snapshot();
                    let row = Row {
                        key: task.origin.key,
                        ended_at: now.ended_at.map(record::micros),
                        record: record::contract(&task.origin, &now).encode_to_vec(),
                    };
                    let is_over = now.state.is_final();
                    let messages = if is_over { task.loaded() } else { Vec::new() };
                    changes.push(Change::Save(row, messages));
                    if is_over {
                        ended.push(task);
                    }
                }
            }
        }
        let work = move |database: &Connection| {
            changes.iter().try_for_each(|change| change.apply(database))
        };
        match self.store.write(work, |()| ()).await {
            Ok(()) => ended.iter().for_each(|task| task.is_written()),
            Err(error) => {
                tracing::error!(%error, "tasks cannot be written to disk");
                self.status.warn(format!(
                    "tasks: some that have ended will not outlive a restart: {error}"
                ));
            }
        }
        for task in &ended {
            task.may_leave_memory();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Each use is one operation, so a panic elsewhere leaves nothing half-done.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One piece of a write.
enum Change {
    Save(Row, Vec<Message>),
    Forget(i64),
}

impl Change {
    fn apply(&self, database: &Connection) -> Result<(), Failure> {
        match self {
            Self::Save(row, messages) => table::save(database, row, messages),
            Self::Forget(key) => table::forget(database, *key),
        }
    }
}
