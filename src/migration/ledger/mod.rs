//! The ledger: who called what over which way, how often, how well and how fast, kept across restarts.
//! It decides nothing; what follows from it is the rollout's.
//!
//! Noting a call is counting in memory. Every few seconds (`migration.ledger_flush_ms`), earlier if many
//! rows wait, what was counted is added to `ledger.db`; a crash loses what was counted since. What is
//! asked is answered from the file after that was done, so it tells of every call that has ended.
//!
//! Everything is bounded: the rows in memory, the clients that are kept apart, in all and of each user,
//! and how long what was seen is kept. Whoever is beyond that is counted among the others of his user.

mod clients;
mod differences;
mod histogram;
mod pending;
mod report;
mod row;
mod schema;
mod uses;
mod writer;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::call::{Interface, Transport};
use crate::error::{Error, ErrorKind};
use crate::executor::{Observed, Observer};
use crate::metrics::{LedgerMetrics, Metrics};
use crate::proto::opdbus::v1::{ClientIdentity, Stage, Way};
use crate::status::Status;
use crate::storage::{self, Durability, NoChore, Store};

pub use histogram::{BUCKETS, Histogram};
pub use report::{Found, Report};
pub use row::Seen;

use pending::Pending;
use writer::Books;

/// The bounds of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often what was counted is written: a crash loses no more than that
    /// (`[migration] ledger_flush_ms`).
    pub flush: Duration,
    /// How long it is kept after it was last seen (`[migration] ledger_keep_ms`).
    pub keep: Duration,
    /// How many clients are kept apart (`[migration] ledger_clients`).
    pub clients: usize,
    /// How many of one user (`[migration] ledger_clients_per_uid`).
    pub clients_per_uid: usize,
    /// How many rows wait in memory to be written (`[migration] ledger_unwritten`).
    pub unwritten: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            flush: Duration::from_secs(5),
            keep: Duration::from_secs(90 * 86_400),
            clients: 16_384,
            clients_per_uid: 1024,
            unwritten: 32_768,
        }
    }
}

/// The rules of the rollout at one moment, as far as the ledger needs them.
pub trait Rules: Send + Sync {
    /// How many there are.
    fn count(&self) -> usize;

    /// The name of the rule at this position.
    fn name(&self, rule: usize) -> &str;

    /// Its stage.
    fn stage(&self, rule: usize) -> Stage;

    /// The position of the rule that holds for a client's calls of `operation` of `agent`.
    fn holding(&self, client: &ClientIdentity, agent: &str, operation: &str) -> usize;
}

/// The ledger.
pub struct Ledger {
    shared: Arc<Shared>,
    store: Store,
    /// Wakes the writer before its time.
    full: Arc<Notify>,
    /// True if the status tells that it cannot be written.
    has_warned: AtomicBool,
    status: Arc<Status>,
}

/// What the thread that writes needs too.
struct Shared {
    config: ArcSwap<Config>,
    pending: Pending,
    /// Held while something is written, so only by the thread that writes.
    books: Mutex<Books>,
    /// True if the books hold what is not in the file.
    is_behind: AtomicBool,
    metrics: LedgerMetrics,
}

impl Ledger {
    /// Opens `ledger.db` and begins to write what is noted. Must be called in a runtime.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(
        config: Config,
        storage: &storage::Config,
        metrics: &Metrics,
        status: &Arc<Status>,
    ) -> Result<Arc<Self>, Error> {
        // No answer rests on what is written here, so a power loss may take the last moments.
        let storage = storage::Config { durability: Durability::Normal, ..storage.clone() };
        let store = Store::open(&storage, &schema::SCHEMA, status, NoChore)?;
        let books = Books::new(store.read(schema::read_names)?);
        let metrics = metrics.ledger().clone();
        let shared = Arc::new(Shared {
            pending: Pending::new(config.unwritten, metrics.clone()),
            config: ArcSwap::from_pointee(config),
            books: Mutex::new(books),
            is_behind: AtomicBool::new(false),
            metrics,
        });
        let full = Arc::new(Notify::new());
        let status = Arc::clone(status);
        let has_warned = AtomicBool::new(false);
        let ledger = Arc::new(Self { shared, store, full: Arc::clone(&full), has_warned, status });
        drop(tokio::spawn(writer::run(Arc::downgrade(&ledger), full)));
        Ok(ledger)
    }

    /// Puts other bounds in force. Clients that are known already stay so.
    pub fn configure(&self, config: Config) {
        self.shared.pending.set_max(config.unwritten);
        self.shared.config.store(Arc::new(config));
        // It may have to be written sooner.
        self.full.notify_one();
    }
}

impl Drop for Ledger {
    /// Has the writer look, find nothing and end.
    fn drop(&mut self) {
        self.full.notify_one();
    }
}

impl Observer for Ledger {
    fn began(&self, call: &Observed<'_>) {
        self.note(call, None);
    }

    fn ended(&self, call: &Observed<'_>, error: Option<ErrorKind>, time: Duration) {
        self.note(call, Some((error, time)));
    }
}

/// The id of the service whose calls are not noted: those who look at the ledger are no users of a way.
const OWN: &str = "migration";

impl Ledger {
    fn note(&self, call: &Observed<'_>, ended: Option<(Option<ErrorKind>, Duration)>) {
        if call.operation.agent != OWN && self.shared.pending.note(call, way(call), ended) {
            self.full.notify_one();
        }
    }
}

/// The way that a call took.
const fn way(call: &Observed<'_>) -> Way {
    match (call.transport, call.interface) {
        (Transport::Grpc, Interface::Own | Interface::Legacy) => Way::Grpc,
        (Transport::Dbus, Interface::Own) => Way::Dbus,
        (Transport::Dbus, Interface::Legacy) => Way::Legacy,
    }
}

/// The name of a way in metrics and texts.
const fn way_name(way: Way) -> &'static str {
    match way {
        Way::Dbus => "dbus",
        Way::Legacy => "legacy",
        Way::Grpc => "grpc",
        Way::Unspecified => "",
    }
}

/// A time of the contract in microseconds since the epoch; `field` is where it stands.
fn micros(field: &str, time: prost_types::Timestamp) -> Result<i64, Error> {
    let seconds = time.seconds.checked_mul(1_000_000);
    let micros = seconds.and_then(|micros| micros.checked_add(i64::from(time.nanos) / 1000));
    micros
        .filter(|micros| *micros >= 0)
        .ok_or_else(|| Error::invalid(field, "must be a time after 1970"))
}
