//! Idempotency: the first call with a request id runs, later ones with the same id get its result.
//! Results are kept in memory, so they do not outlive the daemon.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use prost_reflect::DynamicMessage;
use tokio::sync::watch;
use tokio::time::Instant;

use super::share::{Remembered, Share};
use super::{Config, Route};
use crate::call::Caller;
use crate::error::{Error, ErrorKind};

/// What makes two calls the same: the client's name for it, who calls, and what.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    id: Box<str>,
    /// The user on whichever transport: what else one of them attests of him does not count.
    uid: Option<u32>,
    path: String,
}

impl Key {
    pub(super) fn new(id: Box<str>, caller: &Caller, route: &Route) -> Self {
        Self { id, uid: caller.uid(), path: route.operation.grpc_path.clone() }
    }
}

/// The result, and what is counted of it for as long as it is kept.
type Outcome = Option<(Result<Bytes, Error>, Remembered)>;

/// A call with a request id that runs or has run.
#[derive(Clone)]
struct Entry {
    request: Bytes,
    outcome: watch::Receiver<Outcome>,
    since: Instant,
}

/// The calls with request ids.
#[derive(Default)]
pub(super) struct Repeats(Arc<Mutex<HashMap<Key, Entry>>>);

impl Repeats {
    /// Runs `work` unless a call with this key runs or has run, and gives that one's result.
    ///
    /// # Errors
    /// The result of the work; `InvalidArgument` if the request is not the one that the id was first
    /// used for; `LimitExceeded` if too many results are kept already, of everybody or of this caller.
    ///
    /// # Cancel safety
    /// Once started, the work goes on if this is dropped.
    pub(super) async fn run(
        &self,
        key: Key,
        config: &Config,
        route: &Route,
        share: &Share,
        request: Bytes,
        work: impl Future<Output = Result<Bytes, Error>> + Send + 'static,
    ) -> Result<Bytes, Error> {
        let mut outcome = match self.find(&key, config) {
            Some(entry) => {
                same_request(route, &entry.request, &request)?;
                entry.outcome
            }
            None => self.start(key, config, share, request, work)?,
        };
        match outcome.wait_for(Option::is_some).await.as_deref() {
            Ok(Some((result, _))) => result.clone(),
            Ok(None) | Err(_) => {
                Err(Error::internal("the call with this request id ended without a result"))
            }
        }
    }

    /// Forgets results that are older than the configured time.
    pub(super) fn sweep(&self, config: &Config) {
        let now = Instant::now();
        self.entries().retain(|_, entry| {
            entry.outcome.borrow().is_none() || now - entry.since < config.request_id_ttl
        });
    }

    fn find(&self, key: &Key, config: &Config) -> Option<Entry> {
        let entry = self.entries().get(key).cloned()?;
        let over =
            entry.outcome.borrow().is_some() && entry.since.elapsed() >= config.request_id_ttl;
        (!over).then_some(entry)
    }

    fn start(
        &self,
        key: Key,
        config: &Config,
        share: &Share,
        request: Bytes,
        work: impl Future<Output = Result<Bytes, Error>> + Send + 'static,
    ) -> Result<watch::Receiver<Outcome>, Error> {
        if self.entries().len() >= config.request_id_max {
            self.sweep(config);
        }
        let bytes = request.len();
        let mut remembered = share.remember(bytes).or_else(|_full| {
            self.sweep(config);
            share.remember(bytes)
        })?;
        let mut entries = self.entries();
        if entries.len() >= config.request_id_max {
            return Err(Error::limit(
                "executor.request_id_max",
                config.request_id_max,
                "too many calls with request ids are remembered",
            ));
        }
        let (sender, receiver) = watch::channel(None);
        let entry = Entry { request, outcome: receiver.clone(), since: Instant::now() };
        entries.insert(key.clone(), entry);
        drop(entries);

        let repeats = Arc::clone(&self.0);
        tokio::spawn(async move {
            let result = work.await;
            if result.as_ref().is_err_and(had_no_effect) {
                repeats.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            }
            remembered.response(result.as_ref().map_or(0, Bytes::len));
            sender.send_replace(Some((result, remembered)));
        });
        Ok(receiver)
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Entry>> {
        // A panic while the lock is held cannot leave the map half-changed: each use is one operation.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True if the call was turned away before it did anything, so that sending it again is to run it.
fn had_no_effect(error: &Error) -> bool {
    error.kind().is_retryable() || error.kind() == ErrorKind::ApprovalRequired
}

/// Checks that a repeated id comes with the same request. Two encodings of one message differ in
/// order and defaults (D-Bus and gRPC encode apart), so the messages are compared, not the bytes.
pub(super) fn same_request(route: &Route, first: &Bytes, second: &Bytes) -> Result<(), Error> {
    let decode =
        |bytes: &Bytes| DynamicMessage::decode(route.operation.input.clone(), bytes.clone());
    let same = first == second
        || matches!((decode(first), decode(second)), (Ok(first), Ok(second)) if first == second);
    if same {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidArgument,
        "request-id: was used for a different request; use a new id for a new request",
    )
    .with_fact("field", "request-id"))
}
