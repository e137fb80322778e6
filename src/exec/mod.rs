//! How worker processes come to be: a child of the front under its own uid, or, through a small root
//! service, one with the uid of a caller. What workers do is not known here.

mod become_worker;
mod cgroup;
mod child;
mod message;
mod service;
mod socket;

pub use become_worker::Worker;
pub use child::{Child, Exit, THIS_PROGRAM, environment, spawn, worker_arguments};
pub use message::{Reply, Request};
pub use service::{Config, serve};
pub use socket::Messages;

/// What each worker may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory, its programs included, in bytes (`[worker] memory_bytes`).
    pub memory_bytes: u64,
    /// Processes and threads (`[worker] tasks`).
    pub tasks: u64,
    /// Its share of the CPU, beside 100 for others (`[worker] cpu_weight`).
    pub cpu_weight: u64,
    /// The most of the CPU, in hundredths of one processor; 0: all there is (`[worker] cpu_percent`).
    pub cpu_percent: u64,
    /// Open files of each process (`[worker] files`).
    pub files: u64,
}
