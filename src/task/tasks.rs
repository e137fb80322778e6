//! All tasks of the service: which may begin, where each is found, how long it is kept. What they do
//! and who may call them is not known here.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use prost::Message as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::archive::{Archive, UNWRITTEN_MAX};
use super::index::Index;
use super::memory::{Full, Memory};
use super::origin::{Origin, Surroundings};
use super::state::{End, Gauges};
use super::{Bounds, Task, record};
use crate::call::{Context, Identity, OnDisconnect, SessionScope, Transport};
use crate::contract::{Contract, Operation};
use crate::error::{Error, ErrorKind};
use crate::metrics::{Metrics, StreamMetrics};
use crate::proto::opdbus::v1 as proto;
use crate::status::Status;
use crate::storage::{self, time};

/// How long a client is told to wait before it tries again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a view keeps until its client takes it.
const VIEW: Bounds = Bounds { messages: 64, bytes: 1024 * 1024 };

/// The longest id that a client may choose, in bytes.
const MAX_ID_BYTES: usize = 200;

/// The settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// What one task keeps of its messages (`[tasks] ring_messages`, `ring_bytes`).
    pub ring: Bounds,
    /// What the messages of all tasks may take of memory, in bytes (`[tasks] memory_bytes`).
    pub memory_bytes: usize,
    /// What those of one user's may take, in bytes (`[tasks] memory_bytes_per_caller`).
    pub memory_bytes_per_caller: usize,
    /// The time for a task whose client names none, and the longest one (`[tasks] max_runtime_ms`).
    pub max_runtime: Duration,
    /// How many tasks run at once (`[tasks] max_running`).
    pub max_running: usize,
    /// How many of one user's do (`[tasks] max_running_per_caller`).
    pub max_running_per_caller: usize,
    /// How long a task is kept after its end (`[tasks] keep_ms`).
    pub keep: Duration,
    /// How many tasks that have ended are kept (`[tasks] keep_max`).
    pub keep_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ring: Bounds { messages: 1024, bytes: 1024 * 1024 },
            memory_bytes: 256 * 1024 * 1024,
            memory_bytes_per_caller: 64 * 1024 * 1024,
            max_runtime: Duration::from_secs(3600),
            max_running: 8192,
            max_running_per_caller: 2048,
            keep: Duration::from_secs(3600),
            keep_max: 4096,
        }
    }
}

/// The tasks.
pub struct Tasks {
    config: ArcSwap<Config>,
    index: Mutex<Index>,
    memory: Arc<Memory>,
    /// None if tasks live in memory only.
    archive: Option<Arc<Archive>>,
    gauges: Arc<Gauges>,
    next_key: AtomicI64,
    /// Cancelled when the service gives up waiting for tasks.
    stopping: CancellationToken,
    /// Cancelled as soon as the service begins to stop.
    draining: CancellationToken,
}

impl Tasks {
    /// Tasks that live in memory and end with the service.
    #[must_use]
    pub fn in_memory(config: Config, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self::new(config, metrics, None))
    }

    /// Tasks of which those that have ended outlive the service, in `tasks.db`. If that cannot be
    /// opened the status says so, and they live in memory.
    #[must_use]
    pub fn open(
        config: Config,
        storage: &storage::Config,
        contract: &Contract,
        metrics: &Metrics,
        status: &Arc<Status>,
    ) -> Arc<Self> {
        let opened = Archive::open(storage, config.keep, status)
            .and_then(|archive| Ok((archive.tasks()?, archive)));
        let (rows, archive) = match opened {
            Ok((rows, archive)) => (rows, Some(archive)),
            Err(error) => {
                tracing::error!(%error, "the tasks on disk cannot be reached; new ones live in memory only");
                status.warn(format!("tasks: they will not outlive a restart: {error}"));
                (Vec::new(), None)
            }
        };
        let tasks = Self::new(config, metrics, archive);
        let now = SystemTime::now();
        for row in rows {
            tasks.next_key.fetch_max(row.key + 1, Ordering::Relaxed);
            tasks.restore(row.key, &row.record, contract, now);
        }
        tasks.prune(&mut tasks.index());
        Arc::new(tasks)
    }

    fn new(config: Config, metrics: &Metrics, archive: Option<Arc<Archive>>) -> Self {
        let stopping = CancellationToken::new();
        Self {
            memory: Memory::new(config.memory_bytes, config.memory_bytes_per_caller),
            config: ArcSwap::from_pointee(config),
            index: Mutex::default(),
            archive,
            gauges: Arc::new(Gauges::new(metrics)),
            // Past every key of an earlier run, also of those that are not on disk any more.
            next_key: AtomicI64::new(time::now()),
            draining: stopping.child_token(),
            stopping,
        }
    }

    fn restore(&self, key: i64, record: &[u8], contract: &Contract, now: SystemTime) {
        let known = proto::Task::decode(record).ok().and_then(|task| {
            let service = contract.services.iter().find(|service| service.id == task.agent)?;
            let operation = service.operation(&task.operation).ok()?;
            let had_ended = task.ended_at.is_some();
            Some((record::restore(task, key, operation, now)?, had_ended))
        });
        let Some(((origin, snapshot), had_ended)) = known else {
            tracing::warn!(key, "a task on disk is of no operation that this build has");
            return;
        };
        let around = self.surroundings(&origin, None);
        let task = Task::restored(origin, around, snapshot);
        let mut index = self.index();
        // Of two with one id the later counts: its client has chosen the id again.
        let replaced = index.get(task.id()).cloned();
        if let Some(replaced) = replaced {
            self.drop_ended(&mut index, &replaced);
        }
        index.add_ended(&task);
        if !had_ended && let Some(archive) = &self.archive {
            archive.save(&task);
        }
    }

    /// Puts a new configuration in force. Tasks that run keep the bounds of their messages.
    pub fn reconfigure(&self, config: Config) {
        self.memory.set_limits(config.memory_bytes, config.memory_bytes_per_caller);
        if let Some(archive) = &self.archive {
            archive.set_keep(config.keep);
        }
        self.config.store(Arc::new(config));
        self.prune(&mut self.index());
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// A new task for a call of `operation`, whose deadline is in `context`; one of op-dbus's own
    /// services is a view, which is in no list.
    ///
    /// # Errors
    /// `LimitExceeded` if the caller, or everybody together, has too many, or if there is no memory
    /// for its messages; `InvalidArgument` or `AlreadyExists` if the chosen id cannot be had.
    pub fn start(
        &self,
        operation: &Arc<Operation>,
        context: &Context,
        stream: StreamMetrics,
    ) -> Result<Arc<Task>, Error> {
        let is_transient = !operation.is_agents;
        let left = context.deadline.map(|deadline| deadline - Instant::now());
        let started_at = SystemTime::now();
        let ends_with_client = operation.waits || is_transient;
        let default = if ends_with_client { OnDisconnect::Cancel } else { OnDisconnect::Continue };
        let origin = Origin {
            // A view has one only for the path that its messages bear on the bus.
            id: id(context.task_id.as_deref().filter(|_| !is_transient))?,
            key: self.next_key.fetch_add(1, Ordering::Relaxed),
            operation: Arc::clone(operation),
            caller: Arc::clone(&context.caller),
            transport: context.transport,
            session: context.session.clone(),
            on_disconnect: context.on_disconnect.unwrap_or(default),
            started_at,
            deadline: left.and_then(|left| started_at.checked_add(left)),
            is_transient,
        };
        if is_transient {
            return Ok(Task::new(origin, self.surroundings_of_view(operation, stream)));
        }
        let mut index = self.index();
        self.prune(&mut index);
        self.check_room(&index, context.caller.uid())?;
        if let Some(known) = index.get(&origin.id).cloned() {
            if !known.state().is_final() || known.caller().uid() != context.caller.uid() {
                let text = format!("there is a task {} already", origin.id);
                return Err(Error::new(ErrorKind::AlreadyExists, text));
            }
            self.drop_ended(&mut index, &known);
        }
        let around = self.surroundings(&origin, Some(stream));
        let task = Task::new(origin, around);
        index.add(&task);
        drop(index);
        self.save(&task);
        Ok(task)
    }

    fn surroundings(&self, origin: &Origin, stream: Option<StreamMetrics>) -> Surroundings {
        let waits = origin.operation.waits;
        Surroundings {
            bounds: self.config.load().ring,
            memory: Arc::clone(&self.memory),
            archive: self.archive.clone().filter(|_| !waits),
            gauges: Some(Arc::clone(&self.gauges)),
            stream,
            stopping: if waits { &self.draining } else { &self.stopping }.clone(),
        }
    }

    fn surroundings_of_view(&self, operation: &Operation, stream: StreamMetrics) -> Surroundings {
        Surroundings {
            bounds: VIEW,
            memory: Arc::clone(&self.memory),
            archive: None,
            gauges: None,
            stream: Some(stream),
            stopping: if operation.waits { &self.draining } else { &self.stopping }.clone(),
        }
    }

    fn check_room(&self, index: &Index, uid: Option<u32>) -> Result<(), Error> {
        let config = self.config.load();
        let limit = |name, value, problem| {
            Err(Error::limit(name, value, problem).with_retry_after(RETRY_AFTER))
        };
        if index.running_of(uid) >= config.max_running_per_caller {
            let limit_value = config.max_running_per_caller;
            return limit(
                "tasks.max_running_per_caller",
                limit_value,
                "too many tasks of yours run",
            );
        }
        if index.running() >= config.max_running {
            return limit("tasks.max_running", config.max_running, "too many tasks run");
        }
        match self.memory.make_room(&self.memory.of(uid)) {
            Ok(()) => {}
            Err(Full::User) => {
                let problem =
                    "the messages of your tasks that run take all the memory there is for them";
                let bytes = config.memory_bytes_per_caller;
                return limit("tasks.memory_bytes_per_caller", bytes, problem);
            }
            Err(Full::All) => {
                let problem =
                    "the messages of the tasks that run take all the memory there is for them";
                return limit("tasks.memory_bytes", config.memory_bytes, problem);
            }
        }
        if self.archive.as_ref().is_some_and(|archive| archive.is_behind()) {
            return limit("tasks.unwritten", UNWRITTEN_MAX, "too many tasks wait for the disk");
        }
        Ok(())
    }

    /// Notes how a task ended. Only the first end counts.
    pub fn end(&self, task: &Arc<Task>, end: End) {
        if !task.end(end) || task.is_transient() {
            return;
        }
        let mut index = self.index();
        index.has_ended(task);
        self.prune(&mut index);
        drop(index);
        self.save(task);
    }

    /// Has a task written, and lets its messages leave memory when it has ended and nobody writes it.
    fn save(&self, task: &Arc<Task>) {
        match &self.archive {
            Some(archive) if !task.operation().waits => archive.save(task),
            Some(_) | None if task.state().is_final() => task.may_leave_memory(),
            Some(_) | None => {}
        }
    }

    /// The task `id` of the caller, whichever transport it came by.
    ///
    /// # Errors
    /// `NotFound` if there is none, or if it is another user's.
    pub fn find(&self, id: &str, identity: Identity) -> Result<Arc<Task>, Error> {
        let uid = uid(identity);
        let mut index = self.index();
        self.prune(&mut index);
        // Of another user's tasks nobody hears that they exist.
        let task = index.get(id).filter(|task| uid.is_some() && task.caller().uid() == uid);
        task.cloned()
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no task {id}")))
    }

    /// The caller's tasks that are `wanted` and were started before the one with the key `before`, the
    /// newest first, `count` at most; and the key with which to ask for more, if there are more.
    pub(super) fn list(
        &self,
        identity: Identity,
        before: Option<i64>,
        count: usize,
        wanted: impl Fn(&Task) -> bool,
    ) -> (Vec<Arc<Task>>, Option<i64>) {
        let uid = uid(identity);
        let mut index = self.index();
        self.prune(&mut index);
        let own = index.iter().filter(|task| uid.is_some() && task.caller().uid() == uid);
        let earlier = own.filter(|task| before.is_none_or(|before| task.origin.key < before));
        let mut found: Vec<_> = earlier.cloned().collect();
        drop(index);
        found.retain(|task| wanted(task));
        found.sort_unstable_by_key(|task| std::cmp::Reverse(task.origin.key));
        let more = found.len() > count;
        found.truncate(count);
        let next = found.last().filter(|_| more).map(|task| task.origin.key);
        (found, next)
    }

    /// Cancels the tasks of a client that has gone and wanted that.
    pub fn client_gone(&self, transport: Transport, address: &str) {
        let cause = Error::new(ErrorKind::Cancelled, "the client went away");
        self.cancel_those(&cause, |task| {
            task.transport() == transport && *task.caller().address == *address
        });
    }

    /// Cancels what the clients of a transport want to end with them, when all of them are gone.
    pub fn clients_gone(&self, transport: Transport) {
        let cause = Error::new(ErrorKind::Cancelled, "the client went away");
        self.cancel_those(&cause, |task| task.transport() == transport);
    }

    /// Cancels the tasks of a session that has ended, but for those that go on without their client.
    pub fn session_ended(&self, session: &SessionScope) {
        let cause = Error::new(ErrorKind::Cancelled, "the session of the task ended");
        self.cancel_those(&cause, |task| {
            task.caller().uid() == Some(session.uid) && task.session() == Some(&session.id)
        });
    }

    fn cancel_those(&self, cause: &Error, chosen: impl Fn(&Task) -> bool) {
        let tasks: Vec<_> = {
            let index = self.index();
            let with_client =
                index.iter().filter(|task| task.on_disconnect() == OnDisconnect::Cancel);
            with_client.filter(|task| chosen(task)).cloned().collect()
        };
        tasks.iter().for_each(|task| task.cancel_because(cause.clone()));
    }

    /// Ends all that only waits, because the service begins to stop.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Resolves when the service begins to stop.
    pub(super) async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Cancels what still runs, gives it a moment to end, and has everything written.
    pub async fn stop(&self, patience: Duration) {
        self.stopping.cancel();
        let running: Vec<_> = {
            let index = self.index();
            index.iter().filter(|task| !task.state().is_final()).cloned().collect()
        };
        let ended = async {
            for task in running {
                task.over().await;
            }
            if let Some(archive) = &self.archive {
                archive.flush().await;
            }
        };
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::warn!(
                "some tasks did not end, or could not be written, before the service did"
            );
        }
    }

    fn prune(&self, index: &mut Index) {
        let config = self.config.load();
        for task in index.prune(config.keep, config.keep_max) {
            self.forget(&task);
        }
        self.gauges.kept.set(i64::try_from(index.kept()).unwrap_or(i64::MAX));
    }

    fn drop_ended(&self, index: &mut Index, task: &Arc<Task>) {
        index.remove(task);
        self.forget(task);
    }

    fn forget(&self, task: &Task) {
        if let Some(archive) = &self.archive
            && !task.operation().waits
        {
            archive.forget(task.origin.key);
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // Each use is one operation, so a panic elsewhere leaves nothing half-done.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tasks are a user's, not a connection's: what else a transport knows of him does not count.
fn uid(identity: Identity) -> Option<u32> {
    match identity {
        Identity::User { uid, .. } => Some(uid),
        Identity::Unknown => None,
    }
}

/// The id that a client has chosen, or one that is never given again.
fn id(chosen: Option<&str>) -> Result<Arc<str>, Error> {
    let Some(chosen) = chosen else {
        // Sorted by time.
        return Ok(Uuid::now_v7().simple().to_string().into());
    };
    let is_path = chosen.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if chosen.is_empty() || chosen.len() > MAX_ID_BYTES || !is_path {
        let problem = format!("must be 1 to {MAX_ID_BYTES} letters, digits and _");
        return Err(Error::invalid("task_id", problem));
    }
    Ok(chosen.into())
}
