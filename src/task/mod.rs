//! The record of a call that may outlive its connection: its state, its last messages, who reads them,
//! and how it ended. What the call does and whether it may is not known here.

mod archive;
mod index;
mod life;
mod memory;
mod origin;
mod readers;
mod record;
mod ring;
mod service;
mod state;
mod subscription;
mod table;
mod tasks;

pub use life::Task;
pub use ring::{Bounds, Message};
pub use service::Service;
pub use state::{End, Progress, State};
pub use subscription::{Event, PROGRESS_PAUSE, Reading, Subscription};
pub use tasks::{Config, Tasks};

use life::Look;

#[cfg(test)]
mod tests;
