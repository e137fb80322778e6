//! The integration tests, one binary. Each file drives the product through its public boundary.

#![expect(clippy::unwrap_used, unreachable_pub, reason = "a test that fails may panic")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests start a bus, daemons and clients, and are clients themselves"
)]

mod across;
mod activation;
mod architecture;
mod audit;
mod calls;
mod client;
mod client_resilience;
mod commands;
mod commands_functions;
mod commands_shells;
mod context_manager;
mod crash;
mod ctl;
mod ctl_legacy;
mod ctl_live;
mod ctl_parity;
mod ctl_restart;
mod ctl_run;
mod ctl_tasks;
mod daemon;
mod daemon_access;
mod daemon_policy;
mod dbus;
mod executor;
mod fixture;
mod fuzz;
mod grpc;
mod hostile;
mod lifecycle;
mod memory;
mod migration;
mod parity;
mod policy;
mod polkit;
mod process;
mod process_runner;
mod sequential_thinking;
mod sessions;
mod shares;
mod streams;
mod tasks;
mod threat_model;
mod worker;
