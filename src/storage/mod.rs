//! SQLite for agents: one file each, one writer that commits in groups, readers beside it. It knows
//! no agent's tables and decides nothing about what is stored.
//!
//! A write is answered after its commit, so an answered write outlives a kill of the process; with
//! [`Durability::Full`] it outlives a power loss too. Writes that arrive while a commit runs share the
//! next one. Readers never wait for the writer.

mod answers;
mod failure;
mod keeper;
mod make;
mod open;
mod readers;
pub mod time;
mod writer;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, ErrorKind};
use crate::status::Status;

pub use failure::Failure;

use answers::{Answers, Waiting};
use failure::Faults;
use keeper::{Keeper, Waker};
use readers::{Progress, Readers};
use writer::{Job, Write, Writer};

/// How many writes wait at most (`storage.queue`); one more waits, within its call's deadline, for
/// one of them to begin.
const QUEUE: usize = 1024;

/// The settings of every store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The folder of the databases (`[storage] path`).
    pub path: PathBuf,
    /// What an answered write outlives (`[storage] durability`).
    pub durability: Durability,
}

/// What an answered write outlives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A kill of the process and a power loss: each commit waits for the disk.
    Full,
    /// A kill of the process. A power loss may take the last moments, and leaves the file whole.
    Normal,
}

/// What an agent's database looks like.
#[derive(Debug)]
pub struct Schema {
    /// The file's name without `.db`.
    pub name: &'static str,
    /// The number in the file's header that tells it from other programs' databases.
    pub application_id: i32,
    /// The steps from an empty file to today's tables; a file's `user_version` counts those it has
    /// had. Steps are only ever added.
    pub migrations: &'static [&'static str],
}

/// What is to be done in a database from time to time.
pub trait Chore: Send + Sync + 'static {
    /// What a round did.
    type Done: Send + 'static;

    /// The pause between two rounds.
    const EVERY: Duration;

    /// Does a bounded part of it, as a write; true if more is left to do at once.
    ///
    /// # Errors
    /// Whatever keeps it from its end; it is tried again after the pause.
    fn run(&self, database: &Connection) -> Result<(Self::Done, bool), Failure>;

    /// Sees what a round did, after its commit.
    fn committed(&self, done: &Self::Done);
}

/// The chore of a database in which there is nothing to do but what its owner asks for.
pub struct NoChore;

impl Chore for NoChore {
    type Done = ();

    const EVERY: Duration = Duration::from_secs(86_400);

    fn run(&self, _database: &Connection) -> Result<((), bool), Failure> {
        Ok(((), false))
    }

    fn committed(&self, _done: &()) {}
}

/// An open database.
pub struct Store {
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    answers: Arc<Answers>,
    readers: Arc<Readers>,
    faults: Arc<Faults>,
    stopping: Arc<AtomicBool>,
    waker: Waker,
    keeper: Option<JoinHandle<()>>,
    writer: Option<JoinHandle<()>>,
    /// Held for as long as the file is ours; declared last, so that it is dropped last.
    _lock: File,
}

impl Store {
    /// Opens the database of `schema` below `config.path`, making what is missing. A damaged file is
    /// set aside under another name, reported in the log and in `status`, and a new one is begun.
    ///
    /// # Errors
    /// `InvalidArgument` naming `storage.path` if the folder cannot be used or the file cannot be made,
    /// `BackendUnavailable` if another process has it open, `BackendFailed` if the file cannot be read
    /// and written, or is of a newer version of op-dbus or of another program.
    pub fn open(
        config: &Config,
        schema: &Schema,
        status: &Arc<Status>,
        chore: impl Chore,
    ) -> Result<Self, Error> {
        let open::Opened { database, path, lock } = open::open(config, schema, status)?;
        let faults = Arc::new(Faults::new(path.clone(), Arc::clone(status)));
        let progress = Arc::new(Progress::default());
        let readers = Arc::new(Readers::open(&path, &faults, Arc::clone(&progress))?);
        let (queue, jobs) = mpsc::channel(QUEUE);
        let answers = Arc::new(Answers::default());
        let stopping = Arc::new(AtomicBool::new(false));
        let (keeper, waker) = Keeper::open(
            &path,
            Arc::clone(&faults),
            Arc::clone(&stopping),
            chore,
            queue.downgrade(),
            Arc::clone(&answers),
            Arc::clone(&readers),
        )?;
        let writer = Writer::new(
            database,
            jobs,
            Arc::clone(&answers),
            Arc::clone(&faults),
            waker.clone(),
            progress,
        )?;
        Ok(Self {
            queue: Some(queue),
            answers,
            readers,
            faults,
            stopping,
            waker,
            keeper: Some(start(format!("{}-keeper", schema.name), move || keeper.run())?),
            writer: Some(start(format!("{}-writer", schema.name), move || writer.run())?),
            _lock: lock,
        })
    }

    /// Runs `work` as one write, all of it or nothing, and answers once it is durable. `committed`
    /// sees the answer after the commit, even when nobody waits for it any more.
    ///
    /// # Errors
    /// What `work` refuses with; `BackendUnavailable` if the disk is full, `BackendFailed` if the
    /// file is damaged or cannot be written. Then nothing of it is stored.
    ///
    /// # Cancel safety
    /// Dropped before `work` begins, it never begins; dropped later, it is carried to its end.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
        committed: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, Error> {
        // Before the channel, so that it is dropped after it: a caller counts as waiting for as long
        // as the channel is open.
        let _waiting = Waiting(&self.answers);
        let (answer, answered) = oneshot::channel();
        let job = Box::new(Write::new(work, committed, answer));
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue.send(job).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    /// Runs a query that takes microseconds on the calling thread, as of one moment. It sees every
    /// write that was answered before.
    ///
    /// # Errors
    /// What `query` refuses with; `BackendFailed` if the file is damaged or cannot be read.
    pub fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        self.readers.point(query).map_err(|failure| self.faults.error(failure))
    }

    /// Runs a query that may take longer on a thread for such, as of one moment. It sees every write
    /// that was answered before.
    ///
    /// # Errors
    /// As [`Store::read`].
    ///
    /// # Cancel safety
    /// Dropped while it waits for a place, the query never begins; dropped later, it is carried to
    /// its end and its result is thrown away.
    pub async fn scan<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        Readers::scan(&self.readers, query).await.map_err(|failure| self.faults.error(failure))
    }
}

impl Store {
    fn join(&self, thread: Option<JoinHandle<()>>) {
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(file = %self.faults.file(), "a thread of a store panicked");
        }
    }
}

impl Drop for Store {
    /// Lets the writer finish what is queued, then closes the file.
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        self.waker.wake();
        let keeper = self.keeper.take();
        self.join(keeper);
        self.queue = None;
        let writer = self.writer.take();
        self.join(writer);
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Unavailable, "the store is closed, because the service is stopping")
}

fn start(name: String, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    std::thread::Builder::new().name(name).spawn(work).map_err(|error| {
        Error::new(
            ErrorKind::BackendUnavailable,
            format!("no thread could be started for the store: {error}"),
        )
    })
}

#[cfg(test)]
mod tests;
