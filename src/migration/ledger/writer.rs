//! Writes what was counted: finds out who the clients are, adds the counts to the file and forgets what
//! is old. It runs beside the calls and answers nobody.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError, Weak};

use rusqlite::Connection;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::clients::{Clients, Room, others};
use super::pending::{Row, Source};
use super::schema::{self, DAY, Line, Names, Numbered, Operations};
use super::{Ledger, Shared, way_name};
use crate::call::Process;
use crate::contract::Operation;
use crate::error::Error;
use crate::migration::identity;
use crate::proto::opdbus::v1::{ClientIdentity, Way};
use crate::storage::{Failure, time};

/// After so many rounds of writing what is old is forgotten and the clients of each way are counted.
const TIDY_ROUNDS: u32 = 12;

/// How the warning about a ledger that cannot be written begins.
const UNWRITTEN: &str = "migration: the ledger cannot be written: ";

/// What is known of the file, and what is to be written into it. Held by its writing thread, and for a
/// moment by whoever puts lines back.
pub(super) struct Books {
    clients: Clients,
    operations: Operations,
    /// What is not written yet.
    lines: Vec<Line>,
    /// The clients that lines are about which may not be written.
    named: HashMap<i64, ClientIdentity>,
}

impl Books {
    pub(super) fn new((clients, operations): (Clients, Operations)) -> Self {
        Self { clients, operations, lines: Vec::new(), named: HashMap::new() }
    }

    /// The number of a client, or of those among whom it is counted, and whom it stands for.
    pub(super) fn client(&mut self, client: ClientIdentity, room: Room) -> (i64, bool) {
        let (id, stands_for) = self.clients.id(client, room);
        let is_others = stands_for.others;
        self.named.insert(id, stands_for);
        (id, is_others)
    }

    /// The number of an operation.
    pub(super) fn operation(&mut self, operation: &Operation) -> i64 {
        let Operation { agent, name, is_agents, .. } = operation;
        // None is ever removed.
        let next = i64::try_from(self.operations.len()).map_or(i64::MAX, |count| count + 1);
        let name = (agent.as_str().into(), name.as_str().into());
        let known = self.operations.entry(name);
        let known = known.or_insert(Numbered { id: next, is_agents: *is_agents });
        known.is_agents = *is_agents;
        known.id
    }

    /// Takes out what is to be written, what belongs together as one line.
    fn take(&mut self) -> Vec<Line> {
        let mut lines = std::mem::take(&mut self.lines);
        lines.sort_unstable_by_key(Line::key);
        lines.dedup_by(|next, line| {
            let same = next.key() == line.key();
            if same {
                line.counts.merge(&next.counts);
                line.lost = line.lost.saturating_add(next.lost);
            }
            same
        });
        lines
    }

    /// Writes the names that lines refer to.
    pub(super) fn write_names(&self, database: &Connection) -> Result<(), Failure> {
        let operations = self.operations.iter();
        let names = Names {
            clients: self.named.iter().map(|(id, client)| (*id, client)).collect(),
            operations: operations.map(|(name, numbered)| (name, *numbered)).collect(),
        };
        schema::write_names(database, &names)
    }
}

/// Lines on their way into the file. They go back into the books unless they are noted to be there.
struct Sent {
    shared: Arc<Shared>,
    lines: Vec<Line>,
    named: HashMap<i64, ClientIdentity>,
    is_written: AtomicBool,
}

impl Drop for Sent {
    fn drop(&mut self) {
        if self.is_written.load(Ordering::Relaxed) {
            return;
        }
        let mut books = self.shared.books();
        books.lines.append(&mut self.lines);
        books.named.extend(self.named.drain());
        self.shared.shed(&mut books);
        self.shared.is_behind.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        // What a panic leaves is lines that are not written yet.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn room(&self) -> Room {
        let config = self.config.load();
        Room { all: config.clients, per_uid: config.clients_per_uid }
    }

    /// Enters what waits into the books.
    fn enter(&self, books: &mut Books) {
        let room = self.room();
        let mut seen: HashMap<Source, (i64, bool)> = HashMap::new();
        let mut numbers: HashMap<*const Operation, i64> = HashMap::new();
        for (source, way, Row { process, operation, counts }) in self.pending.take() {
            let is_client = matches!(source, Source::Client { .. });
            let (client, is_others) = *seen.entry(source).or_insert_with_key(|source| {
                books.client(identity_of(source, process.as_deref()), room)
            });
            if is_others && is_client {
                self.metrics.lumped(counts.calls);
            }
            let number = numbers.entry(Arc::as_ptr(&operation));
            let operation = *number.or_insert_with(|| books.operation(&operation));
            books.lines.push(Line { client, operation, way, counts, lost: 0 });
        }
    }

    /// Keeps no more lines than there is room for, when they cannot be written.
    fn shed(&self, books: &mut Books) {
        let room = self.config.load().unwritten;
        if books.lines.len() > room {
            let shed = books.lines.split_off(room);
            self.metrics.dropped(shed.iter().map(|line| line.counts.calls).sum());
        }
    }
}

fn identity_of(source: &Source, process: Option<&Process>) -> ClientIdentity {
    match source {
        Source::Client { uid, token, name, .. } => {
            identity::of(*uid, token.as_deref(), process, name.as_deref())
        }
        Source::Others { uid } => others(*uid),
    }
}

impl Ledger {
    /// Writes what was counted until now.
    ///
    /// # Errors
    /// Why it cannot be written; then it is kept, as far as there is room, and tried again.
    ///
    /// # Cancel safety
    /// Nothing is lost; it may have been written.
    pub async fn flush(&self) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let write = move |database: &Connection| {
            let mut books = shared.books();
            shared.enter(&mut books);
            shared.is_behind.store(false, Ordering::Relaxed);
            let outcome = books.write_names(database);
            let sent = Sent {
                shared: Arc::clone(&shared),
                lines: books.take(),
                named: std::mem::take(&mut books.named),
                is_written: AtomicBool::new(false),
            };
            // Before the lines may go back.
            drop(books);
            outcome?;
            schema::write_lines(database, &sent.lines)?;
            Ok(sent)
        };
        let written = |sent: &Sent| sent.is_written.store(true, Ordering::Relaxed);
        let outcome = self.store.write(write, written).await.map(drop);
        self.warn(outcome.as_ref().err());
        outcome
    }

    /// Notes for the administrator whether the ledger can be written. Only what changed is told, since
    /// whoever follows the status hears of each note.
    fn warn(&self, error: Option<&Error>) {
        if let Some(error) = error {
            tracing::error!(%error, "the ledger cannot be written");
        }
        if self.has_warned.swap(error.is_some(), Ordering::Relaxed) != error.is_some() {
            let warning = error.map(|error| format!("{UNWRITTEN}{error}"));
            self.status.replace_warnings(UNWRITTEN, warning.into_iter().collect());
        }
    }

    /// Forgets what is old, puts together what is not recent, and counts the clients of each way.
    async fn tidy(&self) -> Result<(), Error> {
        let now = time::now();
        let oldest = now.saturating_sub(time::micros(self.shared.config.load().keep));
        let mut more = true;
        while more {
            let shared = Arc::clone(&self.shared);
            let step = move |database: &Connection| {
                let (gone, more) = schema::forget(database, oldest)?;
                // Even if this is undone: who is not known gets another number.
                shared.books().forget(&gone);
                Ok(more | schema::fold(database, now)?)
            };
            more = self.store.write(step, |_| ()).await?;
        }
        let clients = self.store.scan(move |database| schema::clients_since(database, now - DAY));
        let clients = clients.await?;
        for way in [Way::Dbus, Way::Legacy, Way::Grpc] {
            let count = clients.get(&i32::from(way)).copied().unwrap_or_default();
            self.shared.metrics.clients(way_name(way), count);
        }
        Ok(())
    }
}

impl Books {
    fn forget(&mut self, clients: &[i64]) {
        self.clients.forget(clients);
    }
}

/// Writes from time to time, earlier if `full`, for as long as there is the ledger.
pub(super) async fn run(ledger: Weak<Ledger>, full: Arc<Notify>) {
    let mut last = Instant::now();
    let mut rounds = 0_u32;
    loop {
        let Some(flush) = ledger.upgrade().map(|ledger| ledger.shared.config.load().flush) else {
            return;
        };
        // Nothing is held meanwhile, so that the ledger can end.
        timeout_at(last + flush, full.notified()).await.ok();
        let Some(ledger) = ledger.upgrade() else { return };
        let is_behind = ledger.shared.is_behind.load(Ordering::Relaxed);
        if is_behind || !ledger.shared.pending.is_empty() {
            // A failure has been told.
            ledger.flush().await.ok();
        }
        if rounds.is_multiple_of(TIDY_ROUNDS)
            && let Err(error) = ledger.tidy().await
        {
            tracing::warn!(%error, "the ledger could not be tidied");
        }
        rounds = rounds.wrapping_add(1);
        last = Instant::now();
    }
}
