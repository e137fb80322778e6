//! The typed settings, each module its own, and the checks that lead to them. Every problem is
//! collected, so that an administrator sees all of them at once.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::keys::{self, Key, Keys};
use super::problem::Problems;
use crate::agents;
use crate::audit;
use crate::call::LoginSources;
use crate::executor;
use crate::migration as moves;
use crate::polkit;
use crate::session;
use crate::storage::{self, Durability};
use crate::task;
use crate::transport::{dbus, grpc};

mod access;
mod agent_bounds;
mod agent_lists;
mod checker;
mod client;
mod commands;
mod dbus_transport;
mod migration;
mod policy;
mod rollout;
mod worker;

use crate::files::Source;
use checker::Checker;

pub(crate) use dbus_transport::bus;
pub(super) use rollout::from_text;
pub use worker::{Starter, Worker};

/// The longest time for a call, in milliseconds: a day.
const MAX_TIMEOUT_MS: i64 = 86_400_000;

/// The longest time for a task and for its record, in milliseconds: 30 days.
const MAX_RUNTIME_MS: i64 = 30 * 86_400_000;

/// The longest time that a session or an agent lives without being used, in milliseconds: a week.
const MAX_IDLE_MS: i64 = 7 * MAX_TIMEOUT_MS;

/// What the configuration says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The D-Bus transport; none if it is disabled.
    pub dbus: Option<dbus::Config>,
    /// The gRPC transport; none if it is disabled.
    pub grpc: Option<Grpc>,
    /// The executor.
    pub executor: executor::Config,
    /// How polkit is asked; none if it is not.
    pub polkit: Option<polkit::Config>,
    /// The audit log; none if it is disabled.
    pub audit: Option<audit::Config>,
    /// Where and how state is kept.
    pub storage: storage::Config,
    /// The bounds of what each agent keeps.
    pub agent_settings: agents::Settings,
    /// What the agents in workers are told.
    pub worker_settings: agents::WorkerSettings,
    /// The processes that act as callers.
    pub worker: Worker,
    /// How calls move to gRPC.
    pub migration: moves::Config,
    /// Where the metrics are served over HTTP.
    pub metrics: MetricsEndpoint,
    /// The log.
    pub log: Log,
    /// How long calls that run may go on when the service stops.
    pub drain_grace: Duration,
    /// When agents start and stop.
    pub agents: Agents,
}

/// The gRPC transport's settings, without the sockets that only the running process has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grpc {
    /// The Unix socket to bind.
    pub unix: Option<grpc::UnixSocket>,
    /// The loopback address to bind.
    pub tcp: Option<SocketAddr>,
    /// The address on which TLS is spoken.
    pub tls: Option<SocketAddr>,
    /// How clients are known whom the kernel does not name.
    pub access: grpc::Rules,
    /// The largest request, in bytes.
    pub max_request_bytes: usize,
    /// The largest response, in bytes.
    pub max_response_bytes: usize,
    /// How many connections there may be at once.
    pub max_connections: usize,
    /// How many of them one user may have.
    pub max_connections_per_uid: usize,
}

/// Where the metrics are served over HTTP; nowhere if both are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsEndpoint {
    /// A Unix socket.
    pub unix: Option<PathBuf>,
    /// A loopback address.
    pub tcp: Option<SocketAddr>,
}

/// The log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least severe level that is logged.
    pub level: LevelFilter,
    /// Where the log goes.
    pub target: LogTarget,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LevelFilter::INFO, target: LogTarget::Auto }
    }
}

/// Where the log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// To the journal if systemd connected standard error with it, else to standard error.
    Auto,
    /// To the journal.
    Journald,
    /// To standard error.
    Stderr,
}

/// When agents start and stop. One that neither list names starts when its build says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agents {
    /// To be ready when a session has started.
    pub run_on_connection: Vec<String>,
    /// To start with the first call.
    pub on_demand: Vec<String>,
    /// After what time without use agents stop; `None`: never.
    pub idle_stop: Option<Duration>,
}

/// Checks all keys.
pub(super) fn check(keys: &Keys, sources: &[Source]) -> Result<Settings, Problems> {
    let mut c = Checker::new(sources);
    let (access, tls) = access::access(&mut c, keys);
    let known = access::Known::by(&access);
    let settings = Settings {
        dbus: dbus_transport::dbus(&mut c, &keys.dbus),
        grpc: grpc_transport(&mut c, keys, access, tls),
        executor: executor(&mut c, keys, &known),
        polkit: policy::polkit(&mut c, keys),
        audit: audit_log(&mut c, keys),
        storage: storage::Config {
            path: c.path(&keys.storage.path).unwrap_or_else(|| {
                c.reject(&keys.storage.path, "it must name a folder, as \"/var/lib/op-dbus\"");
                PathBuf::new()
            }),
            durability: c.one_of(
                &keys.storage.durability,
                [("full", Durability::Full), ("normal", Durability::Normal)],
            ),
        },
        agent_settings: agents::Settings {
            memory: agent_bounds::memory(&mut c, &keys.memory),
            functions: commands::functions(&mut c, &keys.commands),
            context_manager: agent_bounds::context_manager(&mut c, &keys.context_manager),
            sequential_thinking: agent_bounds::sequential_thinking(
                &mut c,
                &keys.sequential_thinking,
            ),
        },
        worker_settings: agents::WorkerSettings {
            commands: commands::commands(&mut c, &keys.commands),
        },
        worker: worker::workers(&mut c, &keys.worker),
        migration: migration::migration(&mut c, keys),
        metrics: metrics(&mut c, keys),
        log: log(&mut c, &keys.log),
        drain_grace: c.millis(&keys.daemon.drain_grace_ms, 0..=600_000),
        agents: agent_lists::agents(&mut c, &keys.agents),
    };
    client::check(&mut c, &keys.client);
    if !keys.dbus.enabled.value && !keys.grpc.enabled.value {
        c.reject(&keys.grpc.enabled, "dbus.enabled and grpc.enabled are both false, so nobody could call; enable one of them");
    }
    c.finish(settings)
}

fn grpc_transport(
    c: &mut Checker<'_>,
    all: &Keys,
    access: grpc::Rules,
    tls: Option<SocketAddr>,
) -> Option<Grpc> {
    let keys = &all.grpc;
    let path = c.socket_path(&keys.unix);
    let mode = u32::from_str_radix(&keys.unix_mode.value, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .unwrap_or_else(|| {
            c.reject(
                &keys.unix_mode,
                "it must be an octal number from \"0000\" to \"0777\", as \"0660\"",
            );
            0
        });
    let group = Some(keys.unix_group.value.clone()).filter(|group| !group.is_empty());
    let tcp = c.loopback(&keys.tcp);
    let config = Grpc {
        unix: path.map(|path| grpc::UnixSocket { path, mode, group }),
        tcp,
        tls,
        access,
        max_request_bytes: c.size(&keys.max_request_bytes, 1024..=1 << 30, "bytes"),
        max_response_bytes: c.size(&keys.max_response_bytes, 1024..=1 << 30, "bytes"),
        max_connections: c.size(&keys.max_connections, 1..=1_000_000, "connections"),
        max_connections_per_uid: c.size(
            &keys.max_connections_per_uid,
            1..=1_000_000,
            "connections",
        ),
    };
    c.not_above(&keys.max_connections_per_uid, &keys.max_connections);
    if keys.unix.value.is_empty() {
        for key in [&keys.unix_mode, &keys.unix_group] {
            if key.is_set() && !key.value.is_empty() {
                c.reject(
                    key,
                    "it has no meaning while grpc.unix is empty; set grpc.unix or remove this key",
                );
            }
        }
        if keys.enabled.value && keys.tcp.value.is_empty() && all.tls.listen.value.is_empty() {
            c.reject(
                &keys.unix,
                "grpc.unix, grpc.tcp and tls.listen are all empty; set one of them, or grpc.enabled = false",
            );
        }
    }
    keys.enabled.value.then_some(config)
}

fn executor(c: &mut Checker<'_>, all: &Keys, known: &access::Known) -> executor::Config {
    let keys = &all.executor;
    let timeouts = 1..=MAX_TIMEOUT_MS;
    let config = executor::Config {
        max_in_flight: c.size(&keys.max_in_flight, 1..=65_536, "calls"),
        max_in_flight_per_agent: c.size(&keys.max_in_flight_per_agent, 1..=65_536, "calls"),
        queue: c.size(&keys.queue, 0..=1_000_000, "calls"),
        default_timeout: c.millis(&keys.default_timeout_ms, timeouts.clone()),
        max_timeout: c.millis(&keys.max_timeout_ms, timeouts.clone()),
        policy: policy::rules(c, &all.policy, known),
        logins: LoginSources::default(),
        approvals: policy::approvals(c, &all.approvals),
        request_id_ttl: c.millis(&keys.request_id_ttl_ms, timeouts),
        request_id_max: c.size(&keys.request_id_max, 1..=1_000_000, "results"),
        tasks: tasks(c, &all.tasks),
        sessions: sessions(c, &all.sessions),
        batch: batch(c, &all.batch),
        share: share(c, &all.limits),
    };
    c.not_above(&keys.default_timeout_ms, &keys.max_timeout_ms);
    c.not_above(&keys.max_in_flight_per_agent, &keys.max_in_flight);
    config
}

fn share(c: &mut Checker<'_>, keys: &keys::limits::Section) -> executor::ShareConfig {
    let rates = [
        &keys.read_per_second,
        &keys.write_per_second,
        &keys.execute_per_second,
        &keys.deploy_per_second,
        &keys.admin_per_second,
    ];
    let rates = rates.map(|key| c.size(key, 0..=10_000_000, "calls in a second"));
    executor::ShareConfig {
        per_second: rates.map(|rate| u32::try_from(rate).ok().and_then(NonZeroU32::new)),
        max_in_flight: c.size(&keys.max_in_flight, 1..=65_536, "calls"),
        queue: c.size(&keys.queue, 0..=1_000_000, "calls"),
        max_waits: c.size(&keys.max_waits, 1..=1_000_000, "calls"),
        max_batches: c.size(&keys.max_batches, 1..=65_536, "batches"),
        max_streams: c.size(&keys.max_streams, 1..=1_000_000, "requests"),
        request_bytes: c.size(&keys.request_bytes, 1024..=1 << 40, "bytes"),
        unread_bytes: c.size(&keys.unread_bytes, 1024..=1 << 40, "bytes"),
        request_ids: c.size(&keys.request_ids, 1..=1_000_000, "calls"),
        request_id_bytes: c.size(&keys.request_id_bytes, 1024..=1 << 40, "bytes"),
        stretch: stretch(c, &keys.stretch_us),
    }
}

/// The time for which a call may hold up others.
fn stretch(c: &mut Checker<'_>, key: &Key<i64>) -> Duration {
    if (1..10).contains(&key.value) {
        c.reject(key, format!("{} is too short: 0, or at least 10 microseconds", key.value));
    }
    let microseconds = c.size(key, 0..=1_000_000, "microseconds");
    Duration::from_micros(u64::try_from(microseconds).unwrap_or_default())
}

fn batch(c: &mut Checker<'_>, keys: &keys::batch::Section) -> executor::BatchConfig {
    executor::BatchConfig {
        max_items: c.size(&keys.max_items, 1..=5000, "calls"),
        max_parallel: c.size(&keys.max_parallel, 1..=1024, "calls"),
        max_result_bytes: c.size(&keys.max_result_bytes, 1024..=1 << 30, "bytes"),
        max_running: c.size(&keys.max_running, 1..=65_536, "batches"),
    }
}

fn tasks(c: &mut Checker<'_>, keys: &keys::tasks::Section) -> task::Config {
    let config = task::Config {
        ring: task::Bounds {
            messages: c.size(&keys.ring_messages, 1..=65_536, "messages"),
            bytes: c.size(&keys.ring_bytes, 1024..=1 << 30, "bytes"),
        },
        memory_bytes: c.size(&keys.memory_bytes, 1024..=1 << 40, "bytes"),
        memory_bytes_per_caller: c.size(&keys.memory_bytes_per_caller, 1024..=1 << 40, "bytes"),
        max_runtime: c.millis(&keys.max_runtime_ms, 1..=MAX_RUNTIME_MS),
        max_running: c.size(&keys.max_running, 1..=1_000_000, "tasks"),
        max_running_per_caller: c.size(&keys.max_running_per_caller, 1..=1_000_000, "tasks"),
        keep: c.millis(&keys.keep_ms, 0..=MAX_RUNTIME_MS),
        keep_max: c.size(&keys.keep_max, 0..=1_000_000, "tasks"),
    };
    c.not_above(&keys.max_running_per_caller, &keys.max_running);
    c.not_above(&keys.ring_bytes, &keys.memory_bytes_per_caller);
    c.not_above(&keys.memory_bytes_per_caller, &keys.memory_bytes);
    config
}

fn sessions(c: &mut Checker<'_>, keys: &keys::sessions::Section) -> session::Config {
    let config = session::Config {
        max: c.size(&keys.max, 1..=1_000_000, "sessions"),
        max_per_caller: c.size(&keys.max_per_caller, 1..=1_000_000, "sessions"),
        idle: c.millis(&keys.idle_ms, 1..=MAX_IDLE_MS),
        grace: c.millis(&keys.grace_ms, 0..=MAX_TIMEOUT_MS),
    };
    c.not_above(&keys.max_per_caller, &keys.max);
    config
}

fn audit_log(c: &mut Checker<'_>, all: &Keys) -> Option<audit::Config> {
    let keys = &all.audit;
    let config = audit::Config {
        folder: PathBuf::from(&all.storage.path.value).join(audit::FOLDER),
        file_bytes: c.size(&keys.file_bytes, 65_536..=1 << 30, "bytes") as u64,
        files: c.size(&keys.files, 2..=10_000, "files"),
        queue: c.size(&keys.queue, 1..=1_000_000, "records"),
        durability: c.one_of(
            &keys.durability,
            [
                ("soon", audit::Durability::Soon),
                ("written", audit::Durability::Written),
                ("synced", audit::Durability::Synced),
            ],
        ),
        on_failure: c.one_of(
            &keys.on_failure,
            [("refuse", audit::OnFailure::Refuse), ("continue", audit::OnFailure::Continue)],
        ),
        journal: keys.journal.value,
    };
    keys.enabled.value.then_some(config)
}

fn metrics(c: &mut Checker<'_>, keys: &Keys) -> MetricsEndpoint {
    let endpoint = MetricsEndpoint {
        unix: c.socket_path(&keys.metrics.unix),
        tcp: c.loopback(&keys.metrics.tcp),
    };
    if keys.grpc.enabled.value {
        let pairs = [(&keys.metrics.unix, &keys.grpc.unix), (&keys.metrics.tcp, &keys.grpc.tcp)];
        for (ours, theirs) in pairs {
            if !ours.value.is_empty() && ours.value == theirs.value {
                c.reject(ours, format!("{} has the same address; choose another", theirs.name));
            }
        }
    }
    endpoint
}

fn log(c: &mut Checker<'_>, keys: &keys::log::Section) -> Log {
    Log {
        level: c.one_of(
            &keys.level,
            [
                ("error", LevelFilter::ERROR),
                ("warn", LevelFilter::WARN),
                ("info", LevelFilter::INFO),
                ("debug", LevelFilter::DEBUG),
                ("trace", LevelFilter::TRACE),
            ],
        ),
        target: c.one_of(
            &keys.target,
            [
                ("auto", LogTarget::Auto),
                ("journald", LogTarget::Journald),
                ("stderr", LogTarget::Stderr),
            ],
        ),
    }
}
