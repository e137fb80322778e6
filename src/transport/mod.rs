//! How calls arrive: one folder for each transport, with the same file names in both. A transport
//! translates between its wire and the executor; it decides nothing and never knows the other.

pub mod dbus;
pub mod grpc;
