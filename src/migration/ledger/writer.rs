//! Writes what was counted: finds out who the clients are, adds the counts to the file and forgets what
//! is old. It runs beside the calls and answers nobody.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};

use rusqlite::Connection;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::clients::{Clients, Room, others};
use super::pending::{Row, Source};
use super::schema::{self, DAY, Line, Names, Numbered, Operations};
use super::{Ledger, Shared, way_name};
use crate::contract::Operation;
use crate::error::Error;
use crate::migration::identity;
use crate::proto::opdbus::v1::{ClientIdentity, Way};
use crate::storage::{Failure, time};

/// After so many rounds of writing what is old is forgotten and the clients of each way are counted.
const TIDY_ROUNDS: u32 = 12;

/// How the warning about a ledger that cannot be written begins.
const UNWRITTEN: &str = "migration: the ledger cannot be written: ";

/// What is known of the file, and what is to be written into it. Used by its writing thread only.
pub(super) struct Books {
    clients: Clients,
    operations: Operations,
    /// What is not written yet.
    lines: Vec<Line>,
    /// The clients that these lines are about.
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

    /// Writes the lines. They stay until [`Books::written`], should it fail.
    fn write(&mut self, database: &Connection) -> Result<(), Failure> {
        self.lines.sort_unstable_by_key(Line::key);
        self.lines.dedup_by(|next, line| {
            let same = next.key() == line.key();
            if same {
                line.counts.merge(&next.counts);
                line.lost = line.lost.saturating_add(next.lost);
            }
            same
        });
        self.write_names(database)?;
        schema::write_lines(database, &self.lines)
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

    /// Notes that the lines are written.
    fn written(&mut self) {
        self.lines = Vec::new();
        self.named.clear();
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
        for row in self.pending.take() {
            let (client, is_others) = *seen
                .entry(row.source.clone())
                .or_insert_with(|| books.client(identity_of(&row), room));
            let Row { operation, way, counts, source, .. } = row;
            if is_others && matches!(source, Source::Client { .. }) {
                self.metrics.lumped(counts.calls);
            }
            let number = numbers.entry(Arc::as_ptr(&operation));
            let operation = *number.or_insert_with(|| books.operation(&operation));
            books.lines.push(Line { client, operation, way, counts, lost: 0 });
        }
    }

    /// Notes that what is in the books is in the file.
    fn written(&self) {
        self.books().written();
        self.is_behind.store(false, Ordering::Relaxed);
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

fn identity_of(row: &Row) -> ClientIdentity {
    match &row.source {
        Source::Client { uid, token, name, .. } => {
            identity::of(*uid, token.as_deref(), row.process.as_deref(), name.as_deref())
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
        let after = Arc::clone(&self.shared);
        let write = move |database: &Connection| {
            let mut books = shared.books();
            shared.enter(&mut books);
            shared.is_behind.store(true, Ordering::Relaxed);
            let outcome = books.write(database);
            if outcome.is_err() {
                shared.shed(&mut books);
            }
            outcome
        };
        let outcome = self.store.write(write, move |()| after.written()).await;
        let warnings = match &outcome {
            Ok(()) => Vec::new(),
            Err(error) => {
                tracing::error!(%error, "the ledger cannot be written");
                vec![format!("{UNWRITTEN}{error}")]
            }
        };
        self.status.replace_warnings(UNWRITTEN, warnings);
        outcome
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
