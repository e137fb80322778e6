//! The rollout: which calls are to take gRPC by now, who says so, and that clients hear of it. What was
//! called over which way is the ledger's; clients choose the way themselves.
//!
//! A rule begins where the configuration puts it. People ([`Rollout::take`]) and the canary move it from
//! there; that is kept, and holds until the configuration puts the rule somewhere else.

mod canary;
mod gate;
mod keep;
mod plan;
mod position;
mod record;
mod routes;
mod rule;
mod simulate;
mod state;
mod step;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{Mutex, watch};

use crate::audit::Audit;
use crate::contract::{Contract, Operation, Service};
use crate::error::{Error, ErrorKind};
use crate::metrics::Metrics;
use crate::status::Status;
use crate::storage;

pub use canary::{ERROR_PROBABILITY, Tally, Verdict};
pub use position::{Position, WHOLE};
pub use routes::place;
pub use rule::{Config, DEFAULT, Margins, Rule, Who};
pub use state::{InForce, Ruled, State};
pub use step::{By, Step};

pub(in crate::migration) use simulate::Simulation;
pub(in crate::migration) use step::unknown;

use record::Records;

/// Who moves a rule that the configuration moves.
pub(crate) const CONFIGURATION: &str = "the configuration";

/// Who moves a rule that is taken back by itself.
pub(crate) const CANARY: &str = "the canary";

/// The rules in force, and all it takes to move them.
pub struct Rollout {
    in_force: ArcSwap<InForce>,
    changed: watch::Sender<()>,
    /// Held while rules are moved, so that two moves come one after the other.
    moving: Mutex<()>,
    records: Records,
    /// True if something was moved that is not kept yet.
    unsaved: AtomicBool,
    services: Vec<Arc<Service>>,
    /// The operation that steps are recorded under.
    set_stage: Arc<Operation>,
    audit: Option<Arc<Audit>>,
    metrics: Arc<Metrics>,
    status: Arc<Status>,
}

impl Rollout {
    /// Takes up the rules of `config` where they were left. Must be called in a runtime, in which the
    /// canary is watched for as long as this lives.
    ///
    /// # Errors
    /// The store's if what was left cannot be read.
    pub fn open(
        config: &Config,
        storage: &storage::Config,
        contract: &Contract,
        audit: Option<Arc<Audit>>,
        (metrics, status): (&Arc<Metrics>, &Arc<Status>),
    ) -> Result<Arc<Self>, Error> {
        let records = Records::open(storage, status)?;
        let kept = records.all()?;
        let in_force = InForce::configured(config, &contract.services, &kept, None);
        let moved = keep::moved(&kept, &in_force);
        let own = contract.service("opdbus.v1.MigrationService")?;
        let set_stage = Arc::clone(&own.operations[own.operation("SetStage")?.index]);
        let rollout = Arc::new(Self {
            in_force: ArcSwap::from_pointee(in_force),
            changed: watch::Sender::new(()),
            moving: Mutex::default(),
            records,
            unsaved: AtomicBool::new(true),
            services: contract.services.clone(),
            set_stage,
            audit,
            metrics: Arc::clone(metrics),
            status: Arc::clone(status),
        });
        rollout.show();
        for told in &moved {
            rollout.tell(told, &By::itself(CONFIGURATION), None);
        }
        tokio::spawn(keep::watch(Arc::downgrade(&rollout)));
        Ok(rollout)
    }

    /// The rules as they are now.
    pub fn in_force(&self) -> Guard<Arc<InForce>> {
        self.in_force.load()
    }

    /// Tells when rules are no longer as they were.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What would be in force with the rules of `config`.
    #[must_use]
    pub fn with(&self, config: &Config) -> InForce {
        let now = self.in_force();
        InForce::configured(config, &self.services, &now.records(), None)
    }

    /// The operation `name` of `agent`.
    ///
    /// # Errors
    /// `UnknownAgent`, `UnknownOperation`.
    pub fn operation(&self, agent: &str, name: &str) -> Result<Arc<Operation>, Error> {
        let service = self.services.iter().find(|service| service.id == agent);
        let service = service.ok_or_else(|| {
            Error::new(ErrorKind::UnknownAgent, format!("there is no agent {agent}"))
        })?;
        Ok(Arc::clone(&service.operations[service.operation(name)?.index]))
    }
}
