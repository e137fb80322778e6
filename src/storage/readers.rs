//! The connections that read. They never write, and a long read never stands in the way of a short one.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::Failure;
use super::failure::Faults;
use super::open::connect;
use crate::error::Error;

/// Connections for reads on the calling thread. More would help only if more threads took calls.
const POINT_READERS: usize = 2;

/// Connections for long reads, so as many run at once; others wait within their deadline.
const SCAN_READERS: usize = 2;

/// The page cache of a connection for reads on the calling thread, in KiB; it fills with use.
const POINT_CACHE_KIB: i64 = 8192;

/// The page cache of a connection for long reads, in KiB.
const SCAN_CACHE_KIB: i64 = 1024;

pub(super) struct Readers {
    points: Vec<Mutex<Connection>>,
    scans: Vec<Mutex<Connection>>,
    places: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn open(path: &Path, faults: &Faults) -> Result<Self, Error> {
        let open = |count: usize, cache_kib: i64| {
            let connections = (0..count).map(|_| reader(path, cache_kib).map(Mutex::new));
            connections.collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            points: open(POINT_READERS, POINT_CACHE_KIB).map_err(|error| faults.sqlite(&error))?,
            scans: open(SCAN_READERS, SCAN_CACHE_KIB).map_err(|error| faults.sqlite(&error))?,
            places: Arc::new(Semaphore::new(SCAN_READERS)),
        })
    }

    pub(super) fn point<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        query(&free(&self.points))
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
        tokio::task::spawn_blocking(move || {
            let _place = place;
            let database = free(&readers.scans);
            let snapshot = database.unchecked_transaction()?;
            query(&snapshot)
        })
        .await
        .unwrap_or_else(|error| {
            Err(Error::internal(format!("a read of the store broke off: {error}")).into())
        })
    }
}

/// A connection that nobody uses, or the first one as soon as it is free.
fn free(connections: &[Mutex<Connection>]) -> MutexGuard<'_, Connection> {
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
