//! The integration tests, one binary. Each file drives the product through its public boundary.

#![expect(clippy::unwrap_used, unreachable_pub, reason = "a test that fails may panic")]

mod executor;
mod fixture;
mod memory;
mod sequential_thinking;
mod streams;
