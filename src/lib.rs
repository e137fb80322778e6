//! op-dbus: agents on the D-Bus system bus and on gRPC, side by side, through one executor.
//!
//! # A call, from end to end
//!
//! A client calls `org.opdbus.Memory1.Recall` on the bus, or
//! `/opdbus.agent.memory.v1.MemoryService/Recall` on gRPC. The transport ([`transport::dbus`] or
//! [`transport::grpc`]) finds out who calls, turns the arguments into the encoded protobuf request and
//! hands it to the [`executor`], which finds the operation, takes the earlier of two deadlines, and asks
//! the policy: the call may be made, is refused, or must be approved by somebody first. It gives each
//! caller his share and no more, waits for a place, runs the call and records it: in the metrics, and in
//! the [`audit`] log if the call was refused or may change something.
//!
//! A call runs on a [`host`]. An agent that has only its own state is in this process. One that acts as its
//! caller, as the commands agent does, is in a [`worker`], a process with the caller's rights, which is
//! started by [`exec`]; requests and messages are forwarded there as they are, in both directions. At
//! either place the adapter that `build.rs` generates decodes the request, calls the agent's method and
//! encodes the response, and the transport translates that back. Whatever program an agent starts is
//! confined, limited and ended by [`process`].
//!
//! A call with a stream, and any other on request, becomes a [`task`], which runs apart from its connection
//! and keeps its last messages for whoever reads on. A [`session`] is what several calls of a client
//! belong to; what agents keep for it, and what runs in it, ends with it.
//!
//! # The map
//!
//! From the top, which may import what is below it:
//!
//! * [`daemon`]: start, ready, reload, drain. The only place that knows everything. [`config`]: files to
//!   typed settings, for the daemon alone.
//! * [`transport`]: how calls arrive. [`compat`]: contracts of other systems, served by calling agents.
//!   [`ctl`] and [`client`]: the command and the library on the other side of the wire. The library needs
//!   only `contract`, `error`, `files`, `proto` and `wire`; the feature `client` alone builds no more.
//! * [`executor`], [`task`], [`session`], [`registry`], [`host`]: what happens to a call, what is left
//!   of it, for which client's work it is, what is served, where it runs.
//! * [`migration`]: how far clients have moved from D-Bus to gRPC, and who calls what over which way.
//! * [`worker`] and [`exec`]: the processes that act as callers, and how they come to be.
//! * [`polkit`]: asks polkit about calls on which the policy leaves the decision to it.
//! * [`audit`]: the log of calls that were refused or may change something.
//! * [`agents`]: what can be done. [`storage`]: SQLite, for agents that keep something. [`process`]:
//!   programs, confined and killed as a tree, for agents that start some.
//! * `wire`: messages, contexts and outcomes as gRPC and D-Bus write them down, for transports, clients and
//!   both sides of a worker's socket. `files`: the files of the configuration, for `config` and `client`.
//! * [`contract`] and [`proto`]: the descriptors and everything that is derived from them.
//! * [`metrics`], [`status`], [`events`], [`call`], [`error`]: the bottom.
//!
//! # Invariants
//!
//! * The contract is protobuf. Nothing about an operation is written down a second time: D-Bus
//!   signatures, introspection, JSON, schemas and reflection are derived from the descriptors.
//! * Authorization, limits, deadlines, idempotency, audit and metrics are in the executor and nowhere else. A
//!   transport decides nothing, and never knows the other one.
//! * An agent knows neither another agent nor how it was called. An agent that is added is one `.proto`,
//!   one folder and one line.
//! * Dropping a call's future cancels the call; an agent's state is then as before or as after it.
//! * Whatever grows has a bound, the bound has a name, and who meets it is told both.

#[cfg(not(feature = "client"))]
compile_error!("op-dbus without the feature `client` or `daemon` is nothing");

#[cfg(feature = "daemon")]
pub mod agents;
#[cfg(feature = "daemon")]
pub mod audit;
#[cfg(feature = "daemon")]
pub mod call;
pub mod client;
#[cfg(feature = "daemon")]
pub mod compat;
#[cfg(feature = "daemon")]
pub mod config;
pub mod contract;
#[cfg(feature = "daemon")]
pub mod ctl;
#[cfg(feature = "daemon")]
pub mod daemon;
pub mod error;
#[cfg(feature = "daemon")]
pub mod events;
#[cfg(feature = "daemon")]
pub mod exec;
#[cfg(feature = "daemon")]
pub mod executor;
mod files;
#[cfg(feature = "daemon")]
pub mod host;
#[cfg(feature = "daemon")]
pub mod metrics;
#[cfg(feature = "daemon")]
pub mod migration;
#[cfg(feature = "daemon")]
pub mod polkit;
#[cfg(feature = "daemon")]
pub mod process;
pub mod proto;
#[cfg(feature = "daemon")]
pub mod registry;
#[cfg(feature = "daemon")]
pub mod session;
#[cfg(feature = "daemon")]
pub mod status;
#[cfg(feature = "daemon")]
pub mod storage;
#[cfg(feature = "daemon")]
pub mod task;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "daemon")]
pub mod transport;
mod wire;
#[cfg(feature = "daemon")]
pub mod worker;
