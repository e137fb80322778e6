//! Moving clients from D-Bus to gRPC: how far each rule of the rollout is, and what the service knows of
//! who calls what over which way. Clients choose the way themselves.

mod client;
mod identity;
pub mod ledger;
pub mod rollout;
mod service;

pub use client::Client;
pub use identity::identity;
pub use ledger::Ledger;
pub use rollout::Rollout;
pub use service::{ReadRules, Service};

/// How calls move to gRPC (`[migration]`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The bounds of the ledger.
    pub ledger: ledger::Config,
    /// The rules.
    pub rollout: rollout::Config,
}
