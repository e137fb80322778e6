//! The agents of this build: one folder each and one line each in [`ALL`]. What they may use is
//! handed to them; they know neither each other nor who calls them by which way.

pub mod context_manager;
pub mod memory;
pub mod sequential_thinking;

use std::sync::Arc;

use crate::contract::Agent;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::status::Status;
use crate::storage;

/// What an agent is built from.
pub struct Setup {
    /// Where and how databases are kept.
    pub storage: storage::Config,
    /// Where it records what it holds.
    pub metrics: Arc<Metrics>,
    /// Where it notes what an administrator should know.
    pub status: Arc<Status>,
}

/// An agent of this build.
pub struct Installed {
    /// The full name of its protobuf service.
    pub service: &'static str,
    /// Builds it.
    pub build: fn(&Setup) -> Result<Arc<dyn Agent>, Error>,
}

/// Every agent of this build, sorted by service.
pub const ALL: &[Installed] = &[
    Installed {
        service: "opdbus.agent.context_manager.v1.ContextManagerService",
        build: context_manager::build,
    },
    Installed { service: "opdbus.agent.memory.v1.MemoryService", build: memory::build },
    #[cfg(feature = "testing")]
    Installed {
        service: "opdbus.agent.probe.v1.ProbeService",
        build: |_| Ok(crate::testing::probe()),
    },
    Installed {
        service: "opdbus.agent.sequential_thinking.v1.SequentialThinkingService",
        build: sequential_thinking::build,
    },
];
