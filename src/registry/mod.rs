//! Which services are served here, and by which host. It finds; it does not run anything.

mod service;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::contract::{Contract, Service};
use crate::error::{Error, ErrorKind};
use crate::host::Host;

pub use service::Agents;

/// The services that are served. Readers take a snapshot and are never blocked.
#[derive(Default)]
pub struct Registry {
    snapshot: ArcSwap<Snapshot>,
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
            if other.id == service.id
                || other.full_name == service.full_name
                || other.interface == service.interface
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
