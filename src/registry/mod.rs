//! Which services are served here, by which host, and what the agents among them do. It finds; it does
//! not run calls.

mod service;
mod states;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::join_all;

use crate::contract::{Contract, Service};
use crate::error::{Error, ErrorKind};
use crate::host::Host;
use crate::proto::opdbus::v1::Activation;

pub use crate::host::{Changes, Condition, Roster, SessionHold, Started, State};
pub use service::Agents;

/// The services that are served. Readers take a snapshot and are never blocked.
#[derive(Default)]
pub struct Registry {
    snapshot: ArcSwap<Snapshot>,
    roster: Arc<Roster>,
}

/// The services at one moment.
#[derive(Clone, Default)]
pub struct Snapshot {
    by_id: HashMap<String, Arc<Registration>>,
    /// The descriptor sets that reflection hands out, one for each contract.
    descriptor_sets: Vec<Bytes>,
}

/// A service and where it runs.
pub struct Registration {
    /// The service.
    pub service: Arc<Service>,
    /// Where it runs.
    pub host: Arc<dyn Host>,
}

impl Registry {
    /// Adds the service of `contract` with the full name `full_name`.
    ///
    /// # Errors
    /// `Internal` if the contract has no such service; `AlreadyExists` if another service has its id,
    /// its name or its D-Bus interface.
    pub fn register(
        &self,
        contract: &Contract,
        full_name: &str,
        host: Arc<dyn Host>,
    ) -> Result<(), Error> {
        let service = Arc::clone(contract.service(full_name)?);
        let mut next = Snapshot::clone(&self.snapshot.load());
        for other in next.by_id.values().map(|registration| &registration.service) {
            // A gateway is not on D-Bus, so its interface is in nobody's way.
            let on_bus = !service.gateway && !other.gateway;
            if other.id == service.id
                || other.full_name == service.full_name
                || (on_bus && other.interface == service.interface)
            {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    format!("{} is already served as agent {}", other.full_name, other.id),
                ));
            }
        }
        if !next.descriptor_sets.contains(&contract.descriptor_set) {
            next.descriptor_sets.push(contract.descriptor_set.clone());
        }
        next.by_id.insert(service.id.clone(), Arc::new(Registration { service, host }));
        self.snapshot.store(Arc::new(next));
        Ok(())
    }

    /// Where the agents that start and stop are to tell what they do.
    #[must_use]
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// What every agent does now, sorted by id.
    #[must_use]
    pub fn states(&self) -> Vec<Condition> {
        self.roster.conditions()
    }

    /// What one agent does now. What does not start and stop is always running.
    #[must_use]
    pub fn condition(&self, agent: &str) -> Condition {
        self.roster.condition(agent).unwrap_or_else(|| Condition {
            agent: agent.into(),
            state: State::Running,
            failure: None,
            took: None,
        })
    }

    /// What every agent does now, and then every change. Changes between running and busy are told at
    /// most ten times a second for each agent.
    #[must_use]
    pub fn changes(&self) -> Changes {
        self.roster.changes()
    }

    /// Notes that a session of the user is open, until the hold is dropped: the agents that start with
    /// sessions then do not stop, and after a failed start are tried again. It starts none; see
    /// [`Registry::warm`].
    pub fn session_opened(&self, uid: u32) -> SessionHold {
        self.roster.session_opened(uid)
    }

    /// Makes the agents ready that are to be ready with a session of the user, side by side, and says
    /// what came of each, sorted by id. Those that started with the daemon are named too, if their contract wants
    /// them with a session.
    ///
    /// # Cancel safety
    /// Starts that have begun are carried to their end.
    pub async fn warm(&self, uid: u32) -> Vec<Started> {
        let snapshot = self.snapshot();
        let services = snapshot.services();
        let warming = services.iter().filter_map(|service| {
            let by_contract = service.activation == Activation::RunOnConnection;
            snapshot.by_id.get(&service.id)?.host.warm(uid, by_contract)
        });
        join_all(warming).await
    }

    /// The services as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }
}

impl Snapshot {
    /// All services, agents and op-dbus's own, sorted by id.
    #[must_use]
    pub fn services(&self) -> Vec<Arc<Service>> {
        let mut services: Vec<_> =
            self.by_id.values().map(|registration| Arc::clone(&registration.service)).collect();
        services.sort_by(|a, b| a.id.cmp(&b.id));
        services
    }

    /// The agents, sorted by id.
    #[must_use]
    pub fn agents(&self) -> Vec<Arc<Service>> {
        let mut services = self.services();
        services.retain(|service| !service.manager && !service.gateway);
        services
    }

    /// Where the service with this id runs.
    #[must_use]
    pub fn host(&self, id: &str) -> Option<Arc<dyn Host>> {
        self.by_id.get(id).map(|registration| Arc::clone(&registration.host))
    }

    /// Every registration, in no order.
    pub fn registrations(&self) -> impl Iterator<Item = &Arc<Registration>> {
        self.by_id.values()
    }

    /// The encoded descriptor sets of all contracts.
    #[must_use]
    pub fn descriptor_sets(&self) -> &[Bytes] {
        &self.descriptor_sets
    }
}
