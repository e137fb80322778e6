//! The integration tests, one binary. Each file drives the product through its public boundary.

#![expect(clippy::unwrap_used, unreachable_pub, reason = "a test that fails may panic")]
#![expect(clippy::disallowed_methods, reason = "tests start a bus, daemons and clients")]

mod architecture;
mod ctl;
mod ctl_live;
mod daemon;
mod executor;
mod dbus;
mod fixture;
mod grpc;
mod memory;
mod lifecycle;
mod process;
mod streams;
