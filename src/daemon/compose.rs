//! Builds the executor and the agents that it runs, and starts those that start with the daemon. How
//! calls arrive is not its business.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::apart::Apart;
use crate::agents::{self, Start};
use crate::audit::Audit;
use crate::compat::op_chat;
use crate::config;
use crate::contract::Contract;
use crate::error::Error;
use crate::executor::{self, ApprovalDesk, Authority, Calls, Executor, PolicyInForce};
use crate::host::worker::{InWorkers, Workers};
use crate::host::{Activated, Host, Life, Local, Parted, Plan};
use crate::migration::{self, Ledger, Rollout, rollout};
use crate::proto::opdbus::v1::{
    Activation, AgentsServiceAgent, ApprovalsServiceAgent, CallsServiceAgent,
    MigrationServiceAgent, PolicyServiceAgent, SessionsServiceAgent, TasksServiceAgent,
};
use crate::registry::{Agents, Registry};
use crate::session::{self, Sessions};
use crate::task::{self, Tasks};

/// When agents start and stop. The lists name those that start at another time than the build says.
#[derive(Clone, Debug, Default)]
pub struct Starts {
    /// With sessions (`[agents] run_on_connection`).
    pub with_session: Vec<String>,
    /// With their first call (`[agents] on_demand`).
    pub at_first_call: Vec<String>,
    /// After what time without use they stop (`[agents] idle_stop_ms`); `None`: never.
    pub idle_stop: Option<Duration>,
}

impl Starts {
    /// When the agent `id` starts; `otherwise` if neither list names it.
    fn of(&self, id: &str, otherwise: Start) -> Start {
        let names = |list: &[String]| list.iter().any(|name| name == id);
        match () {
            () if names(&self.with_session) => Start::WithSession,
            () if names(&self.at_first_call) => Start::AtFirstCall,
            () => otherwise,
        }
    }
}

/// The executor with every agent of this build and op-dbus's own services. Must be called in a runtime,
/// which keeps the sessions.
///
/// # Errors
/// An agent's error if it cannot be built, as when its database cannot be opened; that of the sessions
/// if their database cannot.
pub fn executor(
    config: executor::Config,
    setup: &agents::Setup,
    starts: &Starts,
    workers: &Arc<Workers>,
    audit: Option<Arc<Audit>>,
    authority: Option<Arc<dyn Authority>>,
) -> Result<Arc<Executor>, Error> {
    let contract = Contract::built_in()?;
    let registry = Arc::new(Registry::default());
    let (tasks, sessions) = open(&config, setup, starts, workers, &contract, &registry)?;
    let own = Agents::new(&registry, Arc::clone(&setup.metrics), Arc::clone(&setup.status));
    let host = Arc::new(Local::new(Arc::new(AgentsServiceAgent(Arc::new(own)))));
    registry.register(&contract, "opdbus.v1.AgentsService", host)?;
    let own = task::Service::new(Arc::clone(&tasks));
    let host = Arc::new(Local::new(Arc::new(TasksServiceAgent(Arc::new(own)))));
    registry.register(&contract, "opdbus.v1.TasksService", host)?;
    let own = session::Service::new(Arc::clone(&sessions));
    let host = Arc::new(Local::new(Arc::new(SessionsServiceAgent(Arc::new(own)))));
    registry.register(&contract, "opdbus.v1.SessionsService", host)?;
    let metrics = Arc::clone(&setup.metrics);
    let executor = Executor::new(config, registry, metrics, tasks, sessions, audit, authority);
    serve_callers(&executor, &contract)?;
    Ok(executor)
}

/// Registers the agents, and opens at the same time whatever has a database: that waits for the disk.
fn open(
    config: &executor::Config,
    setup: &agents::Setup,
    starts: &Starts,
    workers: &Arc<Workers>,
    contract: &Contract,
    registry: &Arc<Registry>,
) -> Result<(Arc<Tasks>, Arc<Sessions>), Error> {
    let lives = register_here(setup, starts, contract, registry)?;
    let (tasks, sessions) = thread::scope(|scope| -> Result<_, Error> {
        let tasks = Apart::begin(scope, || {
            let (tasks, storage) = (config.tasks.clone(), &setup.storage);
            Ok(Tasks::open(tasks, storage, contract, &setup.metrics, &setup.status))
        });
        let sessions = Apart::begin(scope, || sessions(config, setup, registry));
        let with_daemon = lives.iter().filter(|life| life.start() == Start::WithDaemon);
        let begun: Vec<_> =
            with_daemon.map(|life| Apart::begin(scope, || life.start_here())).collect();
        register_in_workers(setup, starts, workers, contract, registry)?;
        for life in begun {
            life.end()?;
        }
        Ok((tasks.end()?, sessions.end()?))
    })?;
    sessions.take_up()?;
    Ok((tasks, sessions))
}

/// Registers the agents of this process, of which none is started by that.
fn register_here(
    setup: &agents::Setup,
    starts: &Starts,
    contract: &Contract,
    registry: &Registry,
) -> Result<Vec<Arc<Life>>, Error> {
    let mut lives = Vec::new();
    for agent in agents::ALL {
        let id = contract.service(agent.service)?.id.as_str();
        let own = setup.clone();
        let plan = Plan {
            agent: id.into(),
            start: starts.of(id, agent.start),
            idle_stop: starts.idle_stop,
            build: Box::new(move || (agent.build)(&own)),
        };
        let life = Life::new(plan, registry.roster(), &setup.metrics);
        registry.register(contract, agent.service, Arc::new(Activated::new(Arc::clone(&life))))?;
        lives.push(life);
    }
    Ok(lives)
}

/// Registers the agents that run in workers, and builds what of them runs here.
fn register_in_workers(
    setup: &agents::Setup,
    starts: &Starts,
    workers: &Arc<Workers>,
    contract: &Contract,
    registry: &Registry,
) -> Result<(), Error> {
    for agent in agents::FOR_WORKERS {
        let service = contract.service(agent.service)?;
        let by_contract = match service.activation {
            Activation::RunOnConnection => Start::WithSession,
            Activation::OnDemand | Activation::Unspecified => Start::AtFirstCall,
        };
        let start = starts.of(&service.id, by_contract);
        let in_workers =
            Arc::new(InWorkers::new(service, Arc::clone(workers), start, registry.roster()));
        let host: Arc<dyn Host> = match agent.in_daemon {
            None => in_workers,
            Some(build) => {
                let here = build(setup, Arc::clone(&in_workers) as _)?;
                Arc::new(Parted::new(here, in_workers))
            }
        };
        registry.register(contract, agent.service, host)?;
    }
    Ok(())
}

/// The parts that move calls to gRPC.
pub struct Migration {
    /// Who called what over which way.
    pub ledger: Arc<Ledger>,
    /// How far which calls are.
    pub rollout: Arc<Rollout>,
}

impl Migration {
    /// Puts another configuration in force.
    ///
    /// # Cancel safety
    /// A part of it may be in force.
    pub async fn configure(&self, config: migration::Config) {
        self.ledger.configure(config.ledger);
        self.rollout.reconfigure(&config.rollout).await;
    }

    /// Keeps what is known, before the service ends.
    ///
    /// # Errors
    /// Why it cannot be kept.
    ///
    /// # Cancel safety
    /// It may have been kept.
    pub async fn close(&self) -> Result<(), Error> {
        self.ledger.flush().await
    }
}

/// Has the calls of `executor` moved to gRPC, as far as they are, and adds the service for that. Must be
/// called in a runtime, which writes down what is seen.
///
/// # Errors
/// That of the ledger or the rollout if its database cannot be opened.
pub fn migration(
    executor: &Arc<Executor>,
    config: migration::Config,
    setup: &agents::Setup,
    audit: Option<Arc<Audit>>,
) -> Result<Migration, Error> {
    let contract = Contract::built_in()?;
    let told = (&setup.metrics, &setup.status);
    let (ledger, rollout) = thread::scope(|scope| -> Result<_, Error> {
        let ledger = Apart::begin(scope, || {
            Ledger::open(config.ledger, &setup.storage, &setup.metrics, &setup.status)
        });
        let rollout = Rollout::open(&config.rollout, &setup.storage, &contract, audit, told)?;
        Ok((ledger.end()?, rollout))
    })?;
    executor.observe(Arc::clone(&ledger) as _);
    executor.observe(Arc::clone(&rollout) as _);
    executor.ask_moves(Arc::clone(&rollout) as _);
    let own = migration::Service::new(Arc::clone(&rollout), Arc::clone(&ledger), read_rules);
    let host = Arc::new(Local::new(Arc::new(MigrationServiceAgent(Arc::new(own)))));
    executor.registry().register(&contract, "opdbus.v1.MigrationService", host)?;
    executor.refresh();
    Ok(Migration { ledger, rollout })
}

fn read_rules(text: &str) -> Result<rollout::Config, Error> {
    config::rollout(text).map_err(|problems| Error::invalid("rules", problems))
}

/// Adds the services that make calls themselves or tell of them, and so need the executor.
fn serve_callers(executor: &Arc<Executor>, contract: &Contract) -> Result<(), Error> {
    let calls = CallsServiceAgent(Arc::new(Calls::new(executor)));
    let calls = Arc::new(Local::new(Arc::new(calls)));
    executor.registry().register(contract, "opdbus.v1.CallsService", calls)?;
    let approvals = ApprovalsServiceAgent(Arc::new(ApprovalDesk::new(executor)));
    let approvals = Arc::new(Local::new(Arc::new(approvals)));
    executor.registry().register(contract, "opdbus.v1.ApprovalsService", approvals)?;
    let policy = PolicyServiceAgent(Arc::new(PolicyInForce::new(executor)));
    let policy = Arc::new(Local::new(Arc::new(policy)));
    executor.registry().register(contract, "opdbus.v1.PolicyService", policy)?;
    for (service, agent) in op_chat::services(executor) {
        executor.registry().register(contract, service, Arc::new(Local::new(agent)))?;
    }
    executor.refresh();
    Ok(())
}

fn sessions(
    config: &executor::Config,
    setup: &agents::Setup,
    registry: &Arc<Registry>,
) -> Result<Arc<Sessions>, Error> {
    let agents: Arc<dyn session::Agents> = Arc::clone(registry) as _;
    Sessions::open(
        config.sessions.clone(),
        &setup.storage,
        Arc::clone(&setup.metrics),
        &setup.status,
        Arc::downgrade(&agents),
    )
}
