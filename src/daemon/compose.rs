//! Builds the agents and the executor that runs them. Nothing here is started.

use std::sync::Arc;

use crate::agents::{self, Start};
use crate::contract::Contract;
use crate::error::Error;
use crate::executor::{self, Executor};
use crate::host::{Host, Local, OnDemand};
use crate::proto::opdbus::v1::{AgentsServiceAgent, SessionsServiceAgent, TasksServiceAgent};
use crate::registry::{Agents, Registry};
use crate::session::{self, Sessions};
use crate::task::{self, Tasks};

/// Which agents the configuration has started at another time than the build, by id.
#[derive(Clone, Debug, Default)]
pub struct Starts {
    /// With the daemon (`[agents] run_on_connection`).
    pub with_daemon: Vec<String>,
    /// With their first call (`[agents] on_demand`).
    pub at_first_call: Vec<String>,
}

impl Starts {
    fn of(&self, id: &str, agent: &agents::Installed) -> Start {
        let names = |list: &[String]| list.iter().any(|name| name == id);
        match () {
            () if names(&self.with_daemon) => Start::WithDaemon,
            () if names(&self.at_first_call) => Start::AtFirstCall,
            () => agent.start,
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
) -> Result<Arc<Executor>, Error> {
    let contract = Contract::built_in()?;
    let registry = Arc::new(Registry::default());
    for agent in agents::ALL {
        let id = &contract.service(agent.service)?.id;
        let host: Arc<dyn Host> = match starts.of(id, agent) {
            Start::WithDaemon => Arc::new(Local::new((agent.build)(setup)?)),
            Start::AtFirstCall => {
                let setup = setup.clone();
                Arc::new(OnDemand::new(move || (agent.build)(&setup)))
            }
        };
        registry.register(&contract, agent.service, host)?;
    }
    let own = Agents::new(&registry, Arc::clone(&setup.metrics), Arc::clone(&setup.status));
    let host = Arc::new(Local::new(Arc::new(AgentsServiceAgent(Arc::new(own)))));
    registry.register(&contract, "opdbus.v1.AgentsService", host)?;
    let tasks =
        Tasks::open(config.tasks.clone(), &setup.storage, &contract, &setup.metrics, &setup.status);
    let own = task::Service::new(Arc::clone(&tasks));
    let host = Arc::new(Local::new(Arc::new(TasksServiceAgent(Arc::new(own)))));
    registry.register(&contract, "opdbus.v1.TasksService", host)?;
    let sessions = sessions(&config, setup, &registry)?;
    let own = session::Service::new(Arc::clone(&sessions));
    let host = Arc::new(Local::new(Arc::new(SessionsServiceAgent(Arc::new(own)))));
    registry.register(&contract, "opdbus.v1.SessionsService", host)?;
    Ok(Executor::new(config, registry, Arc::clone(&setup.metrics), tasks, sessions))
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
