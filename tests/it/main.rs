//! The integration tests, one binary. Each file drives the product through its public boundary.

mod fixture;
