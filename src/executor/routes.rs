//! The operations that can be called, found by gRPC path or by name. Rebuilt as a whole, never
//! changed in place.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::Guard;
use tokio::sync::watch;

use super::access::Access;
use super::admit::{Gate, Gates};
use super::share::Shares;
use super::{Config, Executor};
use crate::contract::{Operation, Service};
use crate::error::{Error, ErrorKind};
use crate::host::Host;
use crate::metrics::{Metrics, OperationMetrics};
use crate::registry::Snapshot;

/// The operation that the executor itself answers, by calling another.
const CALL_JSON: &str = "/opdbus.v1.AgentsService/CallJson";

impl Executor {
    /// Puts a new configuration in force. Calls that run or wait keep the limits they came under.
    pub fn reconfigure(&self, config: Config) {
        let routes = Routes::new(&self.registry.snapshot(), &config, &self.metrics);
        // First, so that no operation is found that no rule is known for.
        self.access.store(Arc::new(Access::new(&config.policy, config.logins.clone(), &routes)));
        self.routes.store(Arc::new(routes));
        self.rerouted.send_replace(());
        if self.config.load().share != config.share {
            self.shares.store(Arc::new(Shares::new(config.share.clone())));
        }
        self.tasks.reconfigure(config.tasks.clone());
        self.sessions.reconfigure(config.sessions.clone());
        self.config.store(Arc::new(config));
    }

    /// Takes up what was registered since.
    pub fn refresh(&self) {
        self.reconfigure(Config::clone(&self.config.load()));
    }

    /// Tells when there may be other operations than before.
    #[must_use]
    pub fn rerouted(&self) -> watch::Receiver<()> {
        self.rerouted.subscribe()
    }

    /// The operations as they are now.
    pub fn routes(&self) -> Guard<Arc<Routes>> {
        self.routes.load()
    }
}

/// One operation with all that it takes to run it.
pub struct Route {
    /// The operation.
    pub operation: Arc<Operation>,
    pub(super) host: Arc<dyn Host>,
    pub(super) gates: Gates,
    pub(super) metrics: OperationMetrics,
}

impl Route {
    pub(super) fn is_call_json(&self) -> bool {
        self.operation.grpc_path == CALL_JSON
    }

    /// True if the work of the operation is that of other calls: it makes them, or waits for them.
    pub(super) fn makes_calls(&self) -> bool {
        self.is_call_json() || (self.operation.waits && !self.operation.is_agents)
    }
}

/// One service with its routes, by position of the operation.
pub struct Served {
    /// The service.
    pub service: Arc<Service>,
    /// Its routes.
    pub routes: Vec<Arc<Route>>,
}

/// All operations.
pub struct Routes {
    by_path: HashMap<String, Arc<Route>>,
    by_agent: HashMap<String, Served>,
}

impl Routes {
    pub(super) fn new(snapshot: &Snapshot, config: &Config, metrics: &Metrics) -> Self {
        let whole = Arc::new(Gate::service(config));
        // Apart, so that what agents do can be seen and stopped however busy they are.
        let own = Arc::new(Gate::service(config));
        let mut routes = Self { by_path: HashMap::new(), by_agent: HashMap::new() };
        for registration in snapshot.registrations() {
            let service = &registration.service;
            let agent = Arc::new(Gate::agent(config, &service.id));
            let served: Vec<Arc<Route>> = service
                .operations
                .iter()
                .map(|operation| {
                    Arc::new(Route {
                        operation: Arc::clone(operation),
                        host: Arc::clone(&registration.host),
                        gates: Gates {
                            agent: Arc::clone(&agent),
                            service: Arc::clone(if service.manager { &own } else { &whole }),
                        },
                        metrics: metrics.operation(&service.id, &operation.name),
                    })
                })
                .collect();
            for route in &served {
                routes.by_path.insert(route.operation.grpc_path.clone(), Arc::clone(route));
            }
            let served = Served { service: Arc::clone(service), routes: served };
            routes.by_agent.insert(service.id.clone(), served);
        }
        routes
    }

    /// Every service that is served, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Served> {
        self.by_agent.values()
    }

    pub(super) fn path(&self, path: &str) -> Result<Arc<Route>, Error> {
        self.by_path.get(path).cloned().ok_or_else(|| {
            Error::new(ErrorKind::UnknownOperation, format!("there is no operation at {path}"))
        })
    }

    pub(super) fn named(&self, agent: &str, operation: &str) -> Result<Arc<Route>, Error> {
        let served = self.by_agent.get(agent).ok_or_else(|| {
            let mut ids: Vec<&str> = self.by_agent.keys().map(String::as_str).collect();
            ids.sort_unstable();
            Error::new(
                ErrorKind::UnknownAgent,
                format!("there is no agent {agent}; there are {}", ids.join(", ")),
            )
        })?;
        let index = served.service.operation(operation)?.index;
        Ok(Arc::clone(&served.routes[index]))
    }
}
