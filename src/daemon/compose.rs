//! Builds the agents and the executor that runs them. Nothing here is started.

use std::sync::Arc;

use crate::agents::{self, Start};
use crate::contract::Contract;
use crate::error::Error;
use crate::executor::{self, Executor};
use crate::host::{Host, Local, OnDemand};
use crate::proto::opdbus::v1::AgentsServiceAgent;
use crate::registry::{Agents, Registry};
use crate::status::Status;

/// The executor with every agent of this build and op-dbus's own service.
///
/// # Errors
/// An agent's error if it cannot be built, as when its database cannot be opened.
pub fn executor(
    config: executor::Config,
    setup: &agents::Setup,
    status: &Arc<Status>,
) -> Result<Arc<Executor>, Error> {
    let contract = Contract::built_in()?;
    let registry = Arc::new(Registry::default());
    for agent in agents::ALL {
        let host: Arc<dyn Host> = match agent.start {
            Start::WithDaemon => Arc::new(Local::new((agent.build)(setup)?)),
            Start::AtFirstCall => {
                let setup = setup.clone();
                Arc::new(OnDemand::new(move || (agent.build)(&setup)))
            }
        };
        registry.register(&contract, agent.service, host)?;
    }
    let own = Agents::new(&registry, Arc::clone(&setup.metrics), Arc::clone(status));
    let host = Arc::new(Local::new(Arc::new(AgentsServiceAgent(Arc::new(own)))));
    registry.register(&contract, "opdbus.v1.AgentsService", host)?;
    Ok(Executor::new(config, registry, Arc::clone(&setup.metrics)))
}
