//! The older names on the bus: asked for, held, given back. Another process may have one; then it is
//! waited for, and everybody else is served meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zbus::Connection;

use super::super::Config;
use super::super::connection::{ALREADY_OWNER, PRIMARY_OWNER, ask};
use super::{INTERFACE, LegacyName};
use crate::call::Transport;
use crate::status::Status;

/// How warnings about older names begin.
const WARNING: &str = "[dbus] legacy: ";

/// Take the name or wait for it; take it from nobody, and let nobody take it.
const QUEUE: u32 = 0;

/// The older names of one connection.
pub(in crate::transport::dbus) struct OlderNames {
    status: Arc<Status>,
    /// Where clients of the other interfaces find the service, for the status.
    address: String,
    bus: String,
    names: Mutex<Names>,
}

struct Names {
    phase: Phase,
    held: BTreeMap<String, Hold>,
}

/// What is done with the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Taking,
    Serving,
    Releasing,
}

/// How it stands with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hold {
    /// It was not asked for yet.
    Open,
    Held,
    /// Why it is not.
    Missing(String),
}

impl OlderNames {
    pub(in crate::transport::dbus) fn new(
        config: &Config,
        names: &[LegacyName],
        status: Arc<Status>,
    ) -> Self {
        let held = names.iter().map(|name| (name.on_bus(), Hold::Open)).collect();
        Self {
            status,
            address: format!("{} on {}", config.name, config.bus),
            bus: config.bus.to_string(),
            names: Mutex::new(Names { phase: Phase::Taking, held }),
        }
    }

    /// Asks for every name. One that cannot be had is noted.
    pub(in crate::transport::dbus) async fn take(&self, connection: &Connection) {
        for name in self.all() {
            let hold = match ask(connection, "RequestName", &(name.as_str(), QUEUE)).await {
                Ok(reply) => match reply.body().deserialize::<u32>() {
                    Ok(PRIMARY_OWNER | ALREADY_OWNER) => Hold::Held,
                    Ok(_) => Hold::Missing(owned_by(connection, &name).await),
                    Err(error) => Hold::Missing(format!("was not given: {error}")),
                },
                Err(error) => Hold::Missing(format!(
                    "cannot be owned: {error}; it needs a policy file, \
                     /usr/share/dbus-1/system.d/org.dbusmcp.Agent.conf"
                )),
            };
            self.locked().set(&name, hold);
        }
    }

    /// Says in the status that the service can be reached, and by which names.
    pub(in crate::transport::dbus) fn serving(&self) {
        let mut names = self.locked();
        names.phase = Phase::Serving;
        self.tell(&names);
    }

    /// Notes what the bus says of a name: it has been given to this connection, or taken from it.
    pub(in crate::transport::dbus) fn changed(&self, name: &str, is_held: bool) {
        let mut names = self.locked();
        if names.phase == Phase::Releasing {
            return;
        }
        let hold = match is_held {
            true => Hold::Held,
            false => Hold::Missing("was lost to another process".to_owned()),
        };
        names.set(name, hold);
        if names.phase == Phase::Serving {
            self.tell(&names);
        }
    }

    /// Gives every name back, so that no new call comes.
    pub(in crate::transport::dbus) async fn release(&self, connection: &Connection) {
        self.locked().phase = Phase::Releasing;
        for name in self.all() {
            if let Err(error) = ask(connection, "ReleaseName", &name).await {
                tracing::debug!("D-Bus: {name} was not given back: {error}");
            }
        }
    }

    fn all(&self) -> Vec<String> {
        self.locked().held.keys().cloned().collect()
    }

    fn tell(&self, names: &Names) {
        let (mut held, mut warnings) = (Vec::new(), Vec::new());
        for (name, hold) in &names.held {
            match hold {
                Hold::Open => {}
                Hold::Held => held.push(name.trim_start_matches(INTERFACE).trim_start_matches('.')),
                Hold::Missing(problem) => warnings.push(format!("{WARNING}{name} {problem}")),
            }
        }
        let mut addresses = vec![self.address.clone()];
        if !held.is_empty() {
            addresses.push(format!("{INTERFACE}.{{{}}} on {}", held.join(","), self.bus));
        }
        self.status.serving(Transport::Dbus, addresses);
        self.status.replace_warnings(WARNING, warnings);
    }

    fn locked(&self) -> MutexGuard<'_, Names> {
        // Each use is one operation, so a panic elsewhere leaves nothing half-done.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    /// Notes how it stands with a name, if it is one of these.
    fn set(&mut self, name: &str, hold: Hold) {
        let Some(known) = self.held.get_mut(name) else { return };
        if *known == hold {
            return;
        }
        match &hold {
            Hold::Open => {}
            Hold::Held => tracing::info!("D-Bus: {name} is served"),
            Hold::Missing(problem) => tracing::warn!("D-Bus: {name} {problem}"),
        }
        *known = hold;
    }
}

/// Who has a name that is waited for.
async fn owned_by(connection: &Connection, name: &str) -> String {
    let owner = ask(connection, "GetNameOwner", &name).await;
    let owner = owner.and_then(|reply| reply.body().deserialize::<String>());
    let owner = owner.unwrap_or_else(|_| "another process".to_owned());
    format!("is owned by {owner}; it is served here when that one gives it up")
}
