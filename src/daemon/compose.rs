//! Builds the agents and the executor that runs them. Nothing here is started.

use std::sync::Arc;

use crate::agents::{self, Start};
use crate::contract::Contract;
use crate::error::Error;
use crate::executor::{self, Calls, Executor};
use crate::host::{Host, Local, OnDemand};
use crate::proto::opdbus::v1::{AgentsServiceAgent, CallsServiceAgent};
use crate::registry::{Agents, Registry};

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

/// The executor with every agent of this build and op-dbus's own services.
///
/// # Errors
/// An agent's error if it cannot be built, as when its database cannot be opened.
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
    let calls = Arc::new(Calls::default());
    let host = Arc::new(Local::new(Arc::new(CallsServiceAgent(Arc::clone(&calls)))));
    registry.register(&contract, "opdbus.v1.CallsService", host)?;
    let executor = Executor::new(config, registry, Arc::clone(&setup.metrics));
    calls.serve(&executor);
    Ok(executor)
}
