//! The connections that read. They never write, and a long read never stands in the way of a short one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use super::Failure;
use super::failure::Faults;
use super::open::connect;
use super::writer::LOG_PAGES;
use crate::error::Error;

/// Connections for long reads, so as many run at once; others wait within their deadline.
const SCAN_READERS: usize = 2;

/// The page cache of a connection for reads on the calling thread, in KiB; it fills with use.
const POINT_CACHE_KIB: i64 = 8192;

/// The page cache of a connection for long reads, in KiB.
const SCAN_CACHE_KIB: i64 = 1024;

/// A query that may take longer, told why it cannot begin if it cannot. What it gives answers its caller.
type Scan = Box<dyn FnOnce(Result<&Connection, Failure>) -> Box<dyn FnOnce() + Send> + Send>;

/// How far the writer has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Commits since the start; counted before their writes are answered.
    pub(super) commits: AtomicU64,
    /// The length of the log after the last commit, in pages.
    pub(super) log_pages: AtomicU32,
}

pub(super) struct Readers {
    /// One is enough: one thread takes calls.
    point: Mutex<Point>,
    /// Each is opened when it is first needed.
    scans: [Mutex<Option<Connection>>; SCAN_READERS],
    path: PathBuf,
    places: Arc<Semaphore>,
    progress: Arc<Progress>,
}

/// The connection for reads on the calling thread. It keeps its snapshot from one read to the next
/// for as long as nothing was committed in between: beginning one takes two system calls, which is
/// more than the read.
struct Point {
    database: Connection,
    /// The commits that had been counted when the snapshot was begun.
    snapshot: Option<u64>,
}

impl Point {
    fn begin(&mut self, commits: u64) -> Result<(), rusqlite::Error> {
        if self.snapshot != Some(commits) {
            self.release()?;
            self.database.prepare_cached("BEGIN")?.execute([])?;
            self.snapshot = Some(commits);
        }
        Ok(())
    }

    fn release(&mut self) -> Result<(), rusqlite::Error> {
        if self.snapshot.take().is_some() {
            self.database.prepare_cached("ROLLBACK")?.execute([])?;
        }
        Ok(())
    }
}

impl Readers {
    pub(super) fn open(
        path: &Path,
        faults: &Faults,
        progress: Arc<Progress>,
    ) -> Result<Self, Error> {
        let point = reader(path, POINT_CACHE_KIB).map_err(|error| faults.sqlite(&error))?;
        Ok(Self {
            point: Mutex::new(Point { database: point, snapshot: None }),
            scans: Default::default(),
            path: path.to_owned(),
            places: Arc::new(Semaphore::new(SCAN_READERS)),
            progress,
        })
    }

    /// Runs a query in a snapshot that has every commit counted before.
    pub(super) fn point<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut point = self.lock();
        point.begin(self.progress.commits.load(Ordering::Acquire))?;
        let outcome = query(&point.database);
        // A log can start anew only while nobody holds a snapshot of it, so a long one is let go.
        if self.log_is_long() || outcome.is_err() {
            point.release()?;
        }
        outcome
    }

    /// Lets go of the snapshot that is kept between reads.
    pub(super) fn release(&self) -> Result<(), rusqlite::Error> {
        self.lock().release()
    }

    /// Notes that all of the log is in the file: then a snapshot does not need the log, which starts
    /// anew with the next commit whoever holds one. That commit notes its length again.
    pub(super) fn log_is_moved(&self) {
        self.progress.log_pages.store(0, Ordering::Relaxed);
    }

    /// True if the log holds enough that it is worth moving.
    pub(super) fn log_is_long(&self) -> bool {
        self.progress.log_pages.load(Ordering::Relaxed) >= LOG_PAGES
    }

    fn lock(&self) -> MutexGuard<'_, Point> {
        // A panic in a query drops its statements; the snapshot stays what `snapshot` says.
        self.point.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn scan<T: Send + 'static>(
        readers: &Arc<Self>,
        query: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let place = Arc::clone(&readers.places)
            .acquire_owned()
            .await
            .map_err(|_closed| Error::internal("the store takes no more reads"))?;
        let readers = Arc::clone(readers);
        let (answer, answered) = oneshot::channel();
        // In a box, so that the task is of one type for all queries: each type takes its place in the program.
        let scan: Scan = Box::new(move |snapshot| {
            let outcome = snapshot.and_then(query);
            // Nobody waits: then nobody misses it.
            Box::new(move || drop(answer.send(outcome)))
        });
        drop(tokio::task::spawn_blocking(move || {
            let answer = readers.run(scan);
            // Who has the answer finds nothing of the file still in use for it.
            drop((readers, place));
            answer();
        }));
        answered.await.unwrap_or_else(|_panic| {
            let text = "a read of the store broke off; the service's log says where";
            Err(Error::internal(text).into())
        })
    }

    /// Runs a scan on this thread.
    fn run(&self, scan: Scan) -> Box<dyn FnOnce() + Send> {
        let mut connection = free(&self.scans);
        let database = match &mut *connection {
            Some(database) => Ok(&*database),
            none => reader(&self.path, SCAN_CACHE_KIB).map(|database| &*none.insert(database)),
        };
        match database.and_then(|database| database.unchecked_transaction()) {
            Ok(snapshot) => scan(Ok(&snapshot)),
            Err(error) => scan(Err(error.into())),
        }
    }
}

/// A connection that nobody uses, or the first one as soon as it is free.
fn free<T>(connections: &[Mutex<T>]) -> MutexGuard<'_, T> {
    connections
        .iter()
        .find_map(|connection| connection.try_lock().ok())
        // A panic in a query drops its statements and transaction, so the connection is as good as new.
        .unwrap_or_else(|| connections[0].lock().unwrap_or_else(PoisonError::into_inner))
}

fn reader(path: &Path, cache_kib: i64) -> Result<Connection, rusqlite::Error> {
    let database = connect(path)?;
    database.pragma_update(None, "query_only", true)?;
    database.pragma_update(None, "cache_size", -cache_kib)?;
    Ok(database)
}
