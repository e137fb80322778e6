//! Moving clients from D-Bus to gRPC.

mod ledger;
mod ledger_bounds;
mod ledger_reports;
