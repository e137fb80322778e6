//! The real executor with every agent, for targets that call it. No program is ever started: there are no
//! workers.

use std::sync::Arc;
use std::time::Duration;

use op_dbus::agents::{self, Setup};
use op_dbus::daemon::compose;
use op_dbus::executor::{Config, Decision, Executor, Policy, Risks, Rule, Who};
use op_dbus::host::worker::Workers;
use op_dbus::metrics::Metrics;
use op_dbus::status::Status;
use op_dbus::storage::{self, Durability};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// How long a call or a task may take: so little that none is ever waited for in vain.
const TIMEOUT: Duration = Duration::from_millis(20);

/// How long something that must come is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// The name of the threads beside the one that tries the inputs.
pub const THREADS: &str = "fuzzed";

/// An executor, and a runtime that goes on while something is waited for.
pub(super) struct Service {
    pub(super) executor: Arc<Executor>,
    pub(super) status: Arc<Status>,
    pub(super) runtime: Runtime,
    pub(super) folder: TempDir,
}

impl Service {
    /// Lets everybody call everything that answers at once, or soon.
    pub(super) fn start() -> Self {
        let runtime = Builder::new_current_thread().enable_all().thread_name(THREADS).build();
        let runtime = runtime.expect("a runtime can be built");
        let folder = tempfile::tempdir().expect("a folder can be made");
        let status = Arc::new(Status::default());
        let setup = Setup {
            storage: storage::Config {
                path: folder.path().to_owned(),
                durability: Durability::Normal,
            },
            metrics: Arc::new(Metrics::new().expect("the metrics are built in")),
            status: Arc::clone(&status),
            settings: agents::Settings::default(),
        };
        let workers = Workers::disabled(Arc::clone(&setup.metrics));
        let starts = compose::Starts::default();
        let executor = {
            let _entered = runtime.enter();
            compose::executor(config(), &setup, &starts, &workers, None, None)
        };
        Self { executor: executor.expect("the executor starts"), status, runtime, folder }
    }
}

/// Short times, and a policy that lets nobody have as much as he likes of memory, which some operations of
/// the tests' own agent give.
pub(super) fn config() -> Config {
    let huge = Rule {
        agents: vec!["probe".to_owned()],
        operations: ["Fill", "Pace", "Blocks", "Drip"].map(str::to_owned).into(),
        risks: Risks::Any,
        ..Rule::for_all(Who::everybody(), Decision::Deny)
    };
    let mut config = Config {
        default_timeout: TIMEOUT,
        max_timeout: TIMEOUT,
        policy: Policy::new(vec![huge, Rule::for_all(Who::everybody(), Decision::Allow)]),
        ..Config::default()
    };
    config.tasks.max_runtime = TIMEOUT;
    config.tasks.keep = TIMEOUT;
    config
}
