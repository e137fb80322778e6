//! op-dbus: agents on the D-Bus system bus and on gRPC, side by side, through one executor.

pub mod agents;
pub mod call;
pub mod contract;
pub mod daemon;
pub mod error;
pub mod executor;
pub mod host;
pub mod metrics;
pub mod proto;
pub mod registry;
pub mod status;
pub mod storage;
#[cfg(feature = "testing")]
pub mod testing;
pub mod transport;
