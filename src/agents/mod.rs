//! The agents of this build: one folder each and one line each in [`ALL`]. What they may use is
//! handed to them; they know neither each other nor who calls them by which way.

pub mod commands;
pub mod context_manager;
pub mod memory;
pub mod sequential_thinking;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::call::Context;
use crate::contract::{Agent, Running};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::status::Status;
use crate::storage;

/// What an agent is built from.
#[derive(Clone)]
pub struct Setup {
    /// Where and how databases are kept.
    pub storage: storage::Config,
    /// Where it records what it holds.
    pub metrics: Arc<Metrics>,
    /// Where it notes what an administrator should know.
    pub status: Arc<Status>,
    /// The bounds of each.
    pub settings: Settings,
}

/// The bounds of what each agent keeps.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The context manager's.
    pub context_manager: context_manager::Config,
    /// The sequential thinking agent's.
    pub sequential_thinking: sequential_thinking::Config,
    /// The memory's.
    pub memory: memory::Config,
}

/// An agent of this build.
pub struct Installed {
    /// The full name of its protobuf service.
    pub service: &'static str,
    /// When it is built, unless the configuration says otherwise.
    pub start: Start,
    /// Builds it.
    pub build: fn(&Setup) -> Result<Arc<dyn Agent>, Error>,
}

/// An agent of this build that runs in workers: with the rights of its caller, and apart from the
/// daemon's state.
pub struct ForWorkers {
    /// The full name of its protobuf service.
    pub service: &'static str,
    /// Builds it, in a worker.
    pub build: fn(&InWorker) -> Result<Arc<dyn Agent>, Error>,
    /// Builds the part of it that runs in the daemon, if it has one: the operations that say so.
    pub in_daemon: Option<BuildInDaemon>,
}

/// Builds the part of an agent that runs in the daemon, which may call the part in workers.
pub type BuildInDaemon = fn(&Setup, Arc<dyn AtCaller>) -> Result<Arc<dyn Agent>, Error>;

/// The part of an agent that runs in its callers' workers, as its part in the daemon sees it.
pub trait AtCaller: Send + Sync {
    /// Runs the operation `name` with one request and one response in the worker of the context's
    /// caller.
    fn call<'a>(
        &'a self,
        name: &'a str,
        context: &'a Context,
        request: Bytes,
    ) -> Running<'a, Bytes>;
}

/// What an agent in a worker is built from.
#[derive(Clone, Debug)]
pub struct InWorker {
    /// The sandbox profile of the operations that the worker serves; empty for those that name none.
    pub profile: String,
    /// The settings as they are, which the daemon may change while the worker runs.
    pub settings: Arc<ArcSwap<WorkerSettings>>,
}

/// What the configuration says about agents in workers. The daemon tells it to each worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSettings {
    /// The commands agent's.
    pub commands: commands::Config,
}

/// When an agent is built. A call never finds it missing: it is built for the call if it was not before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the daemon, which does not start without it. It stays to the daemon's end.
    WithDaemon,
    /// With a client's session, which finds it ready. It stays while any session is open.
    WithSession,
    /// With its first call.
    AtFirstCall,
}

/// Every agent of this build, sorted by service.
pub const ALL: &[Installed] = &[
    Installed {
        service: "opdbus.agent.context_manager.v1.ContextManagerService",
        start: Start::WithSession,
        build: context_manager::build,
    },
    Installed {
        service: "opdbus.agent.memory.v1.MemoryService",
        start: Start::WithDaemon,
        build: memory::build,
    },
    #[cfg(feature = "testing")]
    Installed {
        service: "opdbus.agent.probe.v1.ProbeService",
        start: Start::WithDaemon,
        build: |_| Ok(crate::testing::probe()),
    },
    Installed {
        service: "opdbus.agent.sequential_thinking.v1.SequentialThinkingService",
        start: Start::WithSession,
        build: sequential_thinking::build,
    },
];

/// Every agent of this build that runs in workers, sorted by service.
pub const FOR_WORKERS: &[ForWorkers] = &[
    ForWorkers {
        service: "opdbus.agent.commands.v1.CommandsService",
        build: commands::build,
        in_daemon: None,
    },
    #[cfg(feature = "testing")]
    ForWorkers {
        service: "opdbus.agent.worker_probe.v1.WorkerProbeService",
        build: |worker| Ok(crate::testing::worker_probe(&worker.profile)),
        in_daemon: None,
    },
];
