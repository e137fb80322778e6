//! The scopes of clients' work: who has which session, what holds it, when it ends, and who is told.
//! Whether a call may name a session is decided here; what agents keep for one is theirs.

mod connect;
mod ending;
mod hold;
mod keeper;
pub mod object_path;
mod records;
mod service;
mod source;
mod start;
mod table;
mod token;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore, broadcast};

use crate::call::{Context, SessionScope, Transport};
use crate::contract::Operation;
use crate::error::{Error, ErrorKind};
use crate::metrics::{Metrics, SessionEnd};
use crate::proto::opdbus::v1::Session;
use crate::status::Status;
use crate::storage;

pub use hold::Hold;
pub use service::Service;
pub use source::Agents;
pub use start::{Begun, Holder, Start};
pub use table::InSession;

use records::Records;
use table::Table;

/// How many changes a reader of [`Sessions::changes`] may be behind before it misses some.
const CHANGES_KEPT: usize = 256;

/// How many ended sessions are told to their agents at once.
const ENDINGS_AT_ONCE: usize = 32;

/// The settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many sessions there are at most (`[sessions] max`).
    pub max: usize,
    /// How many of them one user has at most (`[sessions] max_per_caller`).
    pub max_per_caller: usize,
    /// How long a session that nothing ever held lives without being used, unless its client asks
    /// for less (`[sessions] idle_ms`).
    pub idle: Duration,
    /// How long a session that nothing holds any more lives without being used
    /// (`[sessions] grace_ms`).
    pub grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max: 16_384,
            max_per_caller: 4096,
            idle: Duration::from_secs(1800),
            grace: Duration::from_secs(60),
        }
    }
}

/// What has happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has started.
    Started(SessionScope),
    /// What holds it, what its client says of itself or which agents it used is something else.
    Changed(SessionScope),
    /// It has ended.
    Ended {
        /// Which one it was.
        scope: SessionScope,
        /// Why.
        reason: SessionEnd,
        /// The bus connections that held it.
        clients: Vec<Arc<str>>,
    },
}

/// Hears of every session that ends.
type OnEnd = Box<dyn Fn(&SessionScope) + Send + Sync>;

/// All sessions of the service.
pub struct Sessions {
    config: ArcSwap<Config>,
    table: Mutex<Table>,
    records: Records,
    /// Weak, because the registry holds the service that holds this.
    agents: Weak<dyn Agents>,
    metrics: Arc<Metrics>,
    changes: broadcast::Sender<Change>,
    on_end: OnceLock<OnEnd>,
    /// Woken when a session may be due earlier than the keeper thinks.
    earlier: Arc<Notify>,
    /// Woken when there is something to record.
    unrecorded: Arc<Notify>,
    endings: Semaphore,
}

impl Sessions {
    /// Opens the records below `storage.path`.
    ///
    /// # Errors
    /// The store's, if its file cannot be opened.
    pub fn open(
        config: Config,
        storage: &storage::Config,
        metrics: Arc<Metrics>,
        status: &Arc<Status>,
        agents: Weak<dyn Agents>,
    ) -> Result<Arc<Self>, Error> {
        let records = Records::open(storage, status)?;
        Ok(Arc::new(Self {
            config: ArcSwap::from_pointee(config),
            table: Mutex::default(),
            records,
            agents,
            metrics,
            changes: broadcast::channel(CHANGES_KEPT).0,
            on_end: OnceLock::new(),
            earlier: Arc::default(),
            unrecorded: Arc::default(),
            endings: Semaphore::new(ENDINGS_AT_ONCE),
        }))
    }

    /// Takes up the sessions that were there when the service ended, once the agents are there which may
    /// have to hear that one is over. Must be called in a runtime, which keeps the sessions from then on.
    ///
    /// # Errors
    /// The store's, if they cannot be read.
    pub fn take_up(self: &Arc<Self>) -> Result<(), Error> {
        self.restore()?;
        keeper::start(self);
        Ok(())
    }

    /// Puts a new configuration in force. Sessions keep the idle time that they were started with.
    pub fn reconfigure(&self, config: Config) {
        self.table().queue_all(config.grace);
        self.config.store(Arc::new(config));
        self.earlier.notify_one();
    }

    /// Has `hear` called, at once and once for each, when a session ends. Only the first one counts.
    pub fn on_end(&self, hear: impl Fn(&SessionScope) + Send + Sync + 'static) {
        self.on_end.get_or_init(|| Box::new(hear));
    }

    /// Lets a call into the session that it names, in which it is for as long as the result lives. A
    /// session in which a call is does not run out.
    ///
    /// # Errors
    /// `NotFound` if the caller has no such session.
    pub fn enter(
        &self,
        context: &Context,
        id: &str,
        operation: &Operation,
    ) -> Result<InSession, Error> {
        let entered = context.caller.uid().and_then(|uid| {
            let mut table = self.table();
            let session = table.find(uid, id)?;
            let running = session.in_session();
            if session.enter(operation) {
                let scope = session.scope.clone();
                self.note_change(&mut table, scope);
            }
            Some(running)
        });
        entered.ok_or_else(|| unknown(id))
    }

    /// The session `id` of the user.
    ///
    /// # Errors
    /// `NotFound` if he has no such session.
    pub fn get(&self, uid: u32, id: &str) -> Result<Session, Error> {
        let config = self.config.load();
        let mut table = self.table();
        Ok(table.find(uid, id).ok_or_else(|| unknown(id))?.describe(&config))
    }

    /// At most `count` sessions of the user, the newest first, from behind `after` (when one was
    /// started, and its id) on; true if there are more.
    #[must_use]
    pub fn list(&self, uid: u32, after: Option<(i64, &str)>, count: usize) -> (Vec<Session>, bool) {
        let config = self.config.load();
        let table = self.table();
        let mut sessions: Vec<&table::Session> = table
            .of_user(uid)
            .filter(|session| after.is_none_or(|after| session.order() < after))
            .collect();
        sessions.sort_unstable_by_key(|session| std::cmp::Reverse(session.order()));
        let page = sessions.iter().take(count).map(|session| session.describe(&config)).collect();
        (page, sessions.len() > count)
    }

    /// The bus connections that hold a session; none if it is not there.
    #[must_use]
    pub fn clients(&self, scope: &SessionScope) -> Vec<Arc<str>> {
        let mut table = self.table();
        table.find(scope.uid, &scope.id).map_or_else(Vec::new, |session| session.clients.clone())
    }

    /// The sessions that bus connections hold.
    #[must_use]
    pub fn held_by_clients(&self) -> HashSet<SessionScope> {
        self.table().held_by_clients()
    }

    /// Notes that a session is still wanted, and gives it.
    ///
    /// # Errors
    /// `NotFound` if the user has no such session.
    pub fn keep_alive(&self, uid: u32, id: &str) -> Result<Session, Error> {
        let config = self.config.load();
        let mut table = self.table();
        let session = table.find(uid, id).ok_or_else(|| unknown(id))?;
        session.touch();
        Ok(session.describe(&config))
    }

    /// Notes that the client at `address` is gone: what it held, it holds no longer. Only bus
    /// connections hold by being there.
    pub fn client_gone(&self, transport: Transport, address: &str) {
        match transport {
            Transport::Grpc => {}
            Transport::Dbus => self.release(&[address.into()]),
        }
    }

    /// Notes that every client of a transport is gone, as when the bus was lost.
    pub fn clients_gone(&self, transport: Transport) {
        match transport {
            Transport::Grpc => {}
            Transport::Dbus => {
                let clients = self.table().clients();
                self.release(&clients);
            }
        }
    }

    fn release(&self, clients: &[Arc<str>]) {
        let grace = self.config.load().grace;
        let mut table = self.table();
        for client in clients {
            for scope in table.release_client(client, grace) {
                self.note_change(&mut table, scope);
            }
        }
        drop(table);
        self.earlier.notify_one();
    }

    /// Tells every change from now on. A reader that is [`CHANGES_KEPT`] behind is told that it has
    /// missed some, and looks at all sessions again.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Has the agents kept running while the user has sessions.
    fn want_agents(&self, table: &mut Table, uid: u32) {
        if table.count_of(uid) == 0 {
            table.agents.remove(&uid);
        } else if !table.agents.contains_key(&uid)
            && let Some(agents) = self.agents.upgrade()
        {
            table.agents.insert(uid, agents.wanted(uid));
        }
    }

    /// Notes that what is recorded of a session differs from what it is, and tells its readers.
    fn note_change(&self, table: &mut Table, scope: SessionScope) {
        self.must_record(table, scope.clone());
        // Nobody listens: then nobody misses it.
        self.changes.send(Change::Changed(scope)).ok();
    }

    fn must_record(&self, table: &mut Table, scope: SessionScope) {
        table.unrecorded.insert(scope);
        self.unrecorded.notify_one();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No use of it leaves it half-changed, whatever panics elsewhere.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        // Their keepers see that nothing is left to keep.
        self.earlier.notify_one();
        self.unrecorded.notify_one();
    }
}

fn unknown(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no session {id}")).with_fact("session_id", id)
}
