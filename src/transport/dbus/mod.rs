//! The D-Bus transport: every object of the service on one connection, served from the stream of
//! messages. It translates; what a call may do and how long is the executor's to decide.
//!
//! Names on the bus that do not exist (objects, interfaces, members) get the errors of
//! `org.freedesktop.DBus.Error`, as every D-Bus tool expects; everything about a call of an operation
//! is `org.opdbus.Error`. Calls of one client run side by side, so replies may overtake each other.

#![expect(clippy::disallowed_types, reason = "this is where D-Bus is spoken")]

mod begin;
mod by_client;
mod call;
mod caller;
mod connection;
mod delivery;
mod descriptor;
mod dispatch;
mod error;
#[cfg(feature = "testing")]
pub mod fuzzing;
mod input;
mod introspect;
mod legacy;
mod managed;
mod objects;
mod options;
mod outgoing;
mod output;
mod pings;
mod properties;
mod session;
mod session_signals;
mod signals;
mod standard;
mod task;

use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::error::Error;
use crate::executor::Executor;
use crate::status::Status;
use crate::wire::dbus::{decode, encode, plan, text, wire};

pub use introspect::{
    agent_interface_document, interface_document, legacy_interface_document,
    session_interface_document, task_interface_document,
};
pub use legacy::LegacyName;

use connection::Link;

/// The transport's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which bus.
    pub bus: Bus,
    /// The well-known name to own (`[dbus] name`).
    pub name: String,
    /// The largest body of a method call, in bytes (`[dbus] max_body_bytes`).
    pub max_body_bytes: usize,
    /// The older names to be served (`[dbus] legacy_names`); none if older clients are not (`legacy`).
    pub legacy: Vec<LegacyName>,
}

/// A message bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    /// The system bus.
    System,
    /// The session bus of the user.
    Session,
    /// The bus at a D-Bus address.
    Address(String),
}

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("the system bus"),
            Self::Session => f.write_str("the session bus"),
            Self::Address(address) => write!(f, "the bus at {address}"),
        }
    }
}

/// The running transport. Dropping it stops it too, but waits for nothing.
pub struct Server {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Connects, serves every object and then takes the name.
///
/// # Errors
/// `Unavailable` if the bus cannot be reached, `AlreadyExists` if another process owns the name,
/// `AccessDenied` if the bus's policy does not let this process own it.
pub async fn start(
    config: Config,
    executor: Arc<Executor>,
    status: Arc<Status>,
) -> Result<Server, Error> {
    let link = Link { config, executor, status };
    let session = link.open().await?;
    let (stop, stopped) = oneshot::channel();
    Ok(Server { stop, task: tokio::spawn(link.keep(session, stopped)) })
}

impl Server {
    /// Gives the name back, so that no new call comes, lets replies that are under way leave, and
    /// disconnects.
    pub async fn stop(self) {
        let Self { stop, task } = self;
        stop.send(()).ok();
        if let Err(error) = task.await {
            tracing::error!("D-Bus: the transport failed: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
