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
    Ok(at_caller(worker, &Runner::new(process::Config::default())))
}

/// The names of the profiles that there are.
#[must_use]
pub fn profiles() -> [&'static str; Profile::ALL.len()] {
    Profile::ALL.map(|profile| profile.rules().name)
}
