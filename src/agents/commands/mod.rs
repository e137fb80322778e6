//! The `commands` agent: runs programs with the rights of the caller. How a program is confined and ended
//! is `process`'s.

mod agent;
mod config;
pub mod functions;
mod policy;
mod programs;
mod record;
mod run;
mod shells;

use std::sync::Arc;

use super::InWorker;
use crate::contract::Agent;
use crate::error::Error;
use crate::process::{self, Profile, Runner};

pub use agent::at_caller;
pub use config::{Bound, Config, Confinement, Limits};
pub use policy::{Decision, Rule};

/// Builds the part that runs in workers.
///
/// # Errors
/// None today.
pub fn build(worker: &InWorker) -> Result<Arc<dyn Agent>, Error> {
    let config = process::Config { cgroup: worker.cgroup.clone(), ..process::Config::default() };
    // No call waits for it.
    let temporary = config.temporary.clone();
    tokio::task::spawn_blocking(move || process::remove_left_over(&temporary));
    Ok(at_caller(worker, &Runner::new(config)))
}

/// The names of the profiles that there are.
#[must_use]
pub fn profiles() -> [&'static str; Profile::ALL.len()] {
    Profile::ALL.map(|profile| profile.rules().name)
}
