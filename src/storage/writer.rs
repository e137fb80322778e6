//! The thread that writes: it takes what waits, runs each piece in a savepoint of its own, commits
//! once and then answers all. What a piece does is not its business.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::Failure;
use super::answers::Answers;
use super::failure::Faults;
use super::keeper::Waker;
use super::readers::Progress;
use crate::error::Error;

/// How many writes share a commit at most, so that none waits long for the others.
const MAX_BATCH: usize = 256;

/// When the log has grown by so many pages (16 MiB), the keeper moves it into the file.
pub(super) const LOG_PAGES: u32 = 4096;

/// When it has grown by so many (64 MiB) although the keeper tries, the writer does it itself.
const LOG_PAGES_MAX: u32 = 16_384;

/// A write that waits for its turn.
pub(super) trait Job: Send {
    /// False if nobody waits for the answer any more.
    fn is_wanted(&self) -> bool;

    /// Does the work; false if its changes must be undone.
    fn run(&mut self, database: &Connection, faults: &Faults) -> bool;

    /// What the work failed with.
    fn error(&self) -> Option<&Error>;

    /// Answers, given the outcome of the commit; false if the caller is gone.
    fn answer(self: Box<Self>, commit: Result<(), &Error>) -> bool;
}

/// The one implementation of [`Job`].
pub(super) struct Write<W, C, T> {
    work: Option<W>,
    committed: C,
    outcome: Result<T, Error>,
    answer: oneshot::Sender<Result<T, Error>>,
}

impl<W, C, T> Write<W, C, T>
where
    W: FnOnce(&Connection) -> Result<T, Failure> + Send,
    C: FnOnce(&T) + Send,
    T: Send,
{
    pub(super) fn new(work: W, committed: C, answer: oneshot::Sender<Result<T, Error>>) -> Self {
        Self { work: Some(work), committed, outcome: Err(super::stopped()), answer }
    }
}

impl<W, C, T> Job for Write<W, C, T>
where
    W: FnOnce(&Connection) -> Result<T, Failure> + Send,
    C: FnOnce(&T) + Send,
    T: Send,
{
    fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    fn run(&mut self, database: &Connection, faults: &Faults) -> bool {
        if let Some(work) = self.work.take() {
            self.outcome = catch_unwind(AssertUnwindSafe(|| work(database)))
                .unwrap_or_else(|_panic| {
                    Err(Error::internal("a write panicked; the service's log says where").into())
                })
                .map_err(|failure| faults.error(failure));
        }
        self.outcome.is_ok()
    }

    fn error(&self) -> Option<&Error> {
        self.outcome.as_ref().err()
    }

    fn answer(self: Box<Self>, commit: Result<(), &Error>) -> bool {
        let outcome = match (self.outcome, commit) {
            (Ok(_), Err(error)) => Err(error.clone()),
            (outcome, _) => outcome,
        };
        if let Ok(answer) = &outcome {
            (self.committed)(answer);
        }
        self.answer.send(outcome).is_ok()
    }
}

pub(super) struct Writer {
    database: Connection,
    queue: mpsc::Receiver<Box<dyn Job>>,
    batch: Vec<Box<dyn Job>>,
    answers: Arc<Answers>,
    faults: Arc<Faults>,
    keeper: Waker,
    progress: Arc<Progress>,
    /// Its length when the keeper was last woken, and when the writer last moved it.
    woken_at: u32,
    moved_at: u32,
}

impl Writer {
    pub(super) fn new(
        mut database: Connection,
        queue: mpsc::Receiver<Box<dyn Job>>,
        answers: Arc<Answers>,
        faults: Arc<Faults>,
        keeper: Waker,
        progress: Arc<Progress>,
    ) -> Result<Self, Error> {
        let log = Arc::clone(&progress);
        database
            .wal_hook(Some(move |_: &mut _, pages| {
                log.log_pages.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
                Ok(())
            }))
            .map_err(|error| faults.sqlite(&error))?;
        let batch = Vec::with_capacity(MAX_BATCH);
        Ok(Self {
            database,
            queue,
            batch,
            answers,
            faults,
            keeper,
            progress,
            woken_at: 0,
            moved_at: 0,
        })
    }

    /// Writes until every sender is gone and the queue is empty.
    pub(super) fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            let outcome = self.write_batch(first);
            if outcome.is_err() {
                self.undo();
            }
            self.answers.take(&mut self.batch, outcome);
            self.tend_log();
        }
    }

    /// Runs `first` and what else waits, and commits.
    fn write_batch(&mut self, first: Box<dyn Job>) -> Result<(), Error> {
        let mut begun = false;
        let mut next = Some(first);
        while let Some(job) = next {
            if job.is_wanted() {
                self.batch.push(job);
                if !begun {
                    self.statement("BEGIN IMMEDIATE")?;
                    begun = true;
                }
                self.attempt()?;
            }
            next = if self.batch.len() < MAX_BATCH { self.queue.try_recv().ok() } else { None };
        }
        if begun {
            self.statement("COMMIT")?;
            self.progress.commits.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    /// Runs the last piece of the batch, all of it or nothing.
    fn attempt(&mut self) -> Result<(), Error> {
        self.statement("SAVEPOINT piece")?;
        let Some(job) = self.batch.last_mut() else { return Ok(()) };
        let keep = job.run(&self.database, &self.faults);
        if self.database.is_autocommit() {
            // A full disk or an I/O failure made SQLite undo the pieces before this one as well.
            let error = job.error().cloned();
            return Err(error.unwrap_or_else(|| Error::internal("a write ended the transaction")));
        }
        if !keep {
            self.statement("ROLLBACK TO piece")?;
        }
        self.statement("RELEASE piece")
    }

    fn undo(&mut self) {
        if !self.database.is_autocommit()
            && let Err(error) = self.statement("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be undone");
        }
        // The likely cause is a full disk, and the log may hold room that can be used again.
        self.keeper.wake();
    }

    /// Keeps the log from growing without bound.
    fn tend_log(&mut self) {
        let length = self.progress.log_pages.load(Ordering::Relaxed);
        if length < self.woken_at {
            (self.woken_at, self.moved_at) = (0, 0);
        }
        if length.saturating_sub(self.moved_at) >= LOG_PAGES_MAX {
            let moved = self
                .database
                .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, bool>(0));
            match moved {
                // The keeper is moving it. It may have begun before the last writes, so that the next one
                // looks again.
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    let error = self.faults.sqlite(&error);
                    tracing::warn!(%error, "the log of a database could not be moved into its file");
                }
            }
            (self.woken_at, self.moved_at) = (length, length);
        } else if length.saturating_sub(self.woken_at) >= LOG_PAGES {
            self.keeper.wake();
            self.woken_at = length;
        }
    }

    fn statement(&self, sql: &str) -> Result<(), Error> {
        self.database
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute([]))
            .map(drop)
            .map_err(|error| self.faults.sqlite(&error))
    }
}
