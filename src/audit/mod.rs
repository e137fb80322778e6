//! The audit log: an append-only chain of records in the state folder, of every call that was refused
//! and of every one above READ. Which calls those are, and what is said of them, the executor knows.

mod digest;
mod event;
mod files;
mod log;
mod record;
mod refusals;
mod search;
mod state;
mod verify;
mod writer;

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

pub use digest::Digester;
pub use event::{Event, Target};
pub use record::{Hash, Kind, Record};
pub use search::{Filter, Found, follow, search};
pub use verify::{Broken, Fault, Report, Verifier, verify};

use crate::error::{Error, ErrorKind};
use crate::status::Status;
use log::Bounds;
use refusals::Advice;
use state::State;
use writer::{Job, Writer};

/// The log's folder in the folder for state.
pub const FOLDER: &str = "audit";

/// How the warnings of the log begin.
const WARNING: &str = "[audit] ";

/// How long a call waits for a place, and its answer for its record, before the log counts as stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// What becomes of calls above READ while the log cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// They are refused.
    Refuse,
    /// They are made; those without a record are counted, and the count is recorded later.
    Continue,
}

/// When a record must have reached what, for its call to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The answer does not wait.
    Soon,
    /// The kernel: it outlives the end of the process.
    Written,
    /// The disk: it outlives a power cut.
    Synced,
}

/// The settings of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The folder of its files.
    pub folder: PathBuf,
    /// The bytes after which a file is followed by another (`[audit] file_bytes`).
    pub file_bytes: u64,
    /// How many files are kept (`[audit] files`).
    pub files: usize,
    /// How many records wait to be written (`[audit] queue`).
    pub queue: usize,
    /// What answers wait for (`[audit] durability`).
    pub durability: Durability,
    /// What happens while the log cannot be written (`[audit] on_failure`).
    pub on_failure: OnFailure,
    /// Whether the journal is told of each record as well (`[audit] journal`).
    pub journal: bool,
}

impl Config {
    /// The defaults, with the log in the folder for state `state`.
    #[must_use]
    pub fn in_state(state: &Path) -> Self {
        Self {
            folder: state.join(FOLDER),
            file_bytes: 16 * 1024 * 1024,
            files: 16,
            queue: 4096,
            durability: Durability::Written,
            on_failure: OnFailure::Refuse,
            journal: true,
        }
    }
}

/// The log, for those who record in it.
pub struct Audit {
    state: Arc<State>,
    jobs: Sender<Job>,
    places: Arc<Semaphore>,
    digester: Digester,
}

/// The place of a record that will come.
#[derive(Debug)]
#[must_use]
pub struct Place(Option<OwnedSemaphorePermit>);

impl Audit {
    /// Takes up the log, or begins one.
    ///
    /// # Errors
    /// `BackendFailed` if the folder or a file cannot be used, as when another process writes there.
    pub fn open(config: &Config, status: Arc<Status>) -> Result<Arc<Self>, Error> {
        let failed = |error: io::Error| {
            let folder = config.folder.display();
            Error::new(ErrorKind::BackendFailed, format!("the audit log in {folder}: {error}"))
        };
        let held = hold_folder(&config.folder).map_err(failed)?;
        let state = Arc::new(State {
            folder: config.folder.clone(),
            bounds: Bounds {
                file_bytes: config.file_bytes,
                files: config.files,
                synced: config.durability == Durability::Synced,
            },
            queue: config.queue,
            durability: config.durability,
            on_failure: config.on_failure,
            journal: config.journal,
            status,
            failing: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            refusals: Mutex::default(),
        });
        let digester = Digester::open(&config.folder).map_err(failed)?;
        let (log, owed) = state.resume().map_err(failed)?;
        let (jobs, received) = channel();
        let writer =
            Writer::new(received, Arc::clone(&state), held, (log, owed)).map_err(failed)?;
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run())
            .map_err(failed)?;
        let places = Arc::new(Semaphore::new(config.queue));
        Ok(Arc::new(Self { state, jobs, places, digester }))
    }

    /// The digest of a request, as records have it.
    #[must_use]
    pub fn digest(&self, request: &[u8]) -> Hash {
        self.digester.digest(request)
    }

    /// Takes a place for the record of a call that is to be made.
    ///
    /// # Errors
    /// `BackendUnavailable` if the log cannot be written, `LimitExceeded` if too many records wait, and
    /// calls are to be refused then.
    ///
    /// # Cancel safety
    /// Dropping it gives up waiting.
    pub async fn reserve(&self) -> Result<Place, Error> {
        if let Some(place) = self.free_place() {
            return Ok(place);
        }
        let waiting = Arc::clone(&self.places).acquire_owned();
        if !self.is_failing()
            && let Ok(Ok(place)) = timeout(PATIENCE, waiting).await
        {
            return Ok(Place(Some(place)));
        }
        match self.state.on_failure {
            OnFailure::Continue => Ok(Place(None)),
            OnFailure::Refuse => Err(self.refusal()),
        }
    }

    /// As [`Audit::reserve`] for what has happened already or cannot wait.
    ///
    /// # Errors
    /// As [`Audit::reserve`].
    pub fn reserve_now(&self) -> Result<Place, Error> {
        match (self.free_place(), self.state.on_failure) {
            (Some(place), _) => Ok(place),
            (None, OnFailure::Continue) => Ok(Place(None)),
            (None, OnFailure::Refuse) => Err(self.refusal()),
        }
    }

    /// Records `event`, and waits for what its answer is to wait for.
    ///
    /// # Cancel safety
    /// It is recorded even if this is dropped once it was polled.
    pub async fn record(&self, place: Place, event: Event) {
        if self.state.durability == Durability::Soon {
            return self.record_soon(place, event);
        }
        let (written, wait) = oneshot::channel();
        self.send(place, event, Some(written));
        // An error: the log cannot be written, of which the writer has told.
        drop(timeout(PATIENCE, wait).await);
    }

    /// Records `event` without waiting.
    pub fn record_soon(&self, place: Place, event: Event) {
        self.send(place, event, None);
    }

    /// Records what happened although nobody took a place for it before; if there is none, it is
    /// counted.
    pub fn record_late(&self, event: Event) {
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        self.send(Place(place), event, None);
    }

    /// Records a refusal; of many that are the same, how many.
    pub fn refused(&self, event: Event) {
        let (advice, begins) = self.state.refusals().add(&event);
        if begins {
            // A writer that is gone records nothing any more: the service has stopped.
            self.jobs.send(Job::Refusals).ok();
        }
        match advice {
            Advice::Nothing => {}
            Advice::Record => match self.free_place() {
                Some(place) => self.send(place, event, None),
                None => self.state.refusals().uncounted(&event),
            },
        }
    }

    /// Writes what there is to be written and ends the log.
    pub async fn close(&self) {
        let (closed, wait) = oneshot::channel();
        if self.jobs.send(Job::Close(closed)).is_ok() {
            drop(timeout(PATIENCE, wait).await);
        }
    }

    fn send(&self, place: Place, event: Event, written: Option<oneshot::Sender<()>>) {
        let sent = place.0.is_some_and(|place| {
            self.jobs.send(Job::Event { event: Box::new(event), place, written }).is_ok()
        });
        if !sent {
            self.state.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A place that is free now, unless the log cannot be written and calls are refused for it.
    fn free_place(&self) -> Option<Place> {
        if self.is_failing() && self.state.on_failure == OnFailure::Refuse {
            return None;
        }
        Arc::clone(&self.places).try_acquire_owned().ok().map(|place| Place(Some(place)))
    }

    fn is_failing(&self) -> bool {
        self.state.failing.load(Ordering::Acquire)
    }

    fn refusal(&self) -> Error {
        if self.is_failing() {
            return Error::new(
                ErrorKind::BackendUnavailable,
                "the audit log cannot be written, and until it can only reads are let through",
            );
        }
        Error::limit("audit.queue", self.state.queue, "too many records wait for the audit log")
    }
}

/// Makes the folder, for the service's user alone, and keeps other processes from writing there for as
/// long as the result is kept.
fn hold_folder(folder: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let held = File::open(folder)?;
    match held.try_lock() {
        Ok(()) => Ok(held),
        Err(TryLockError::WouldBlock) => Err(io::Error::other("another process writes there")),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests;
