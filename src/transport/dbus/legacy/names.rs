//! The older names on the bus: asked for, held, given back. Another process may have one; then it is
//! waited for, and everybody else is served meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zbus::Connection;

use super::super::Config;
use super::super::connection::{ALREADY_OWNER, PRIMARY_OWNER, ask};
use super::LegacyName;
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
    /// Each name with why it is not held; `None`: it is.
    names: Mutex<BTreeMap<String, Option<String>>>,
    releasing: AtomicBool,
}

impl OlderNames {
    pub(in crate::transport::dbus) fn new(
        config: &Config,
        names: &[LegacyName],
        status: Arc<Status>,
    ) -> Self {
        let unasked = || Some("was not asked for".to_owned());
        Self {
            status,
            address: format!("{} on {}", config.name, config.bus),
            bus: config.bus.to_string(),
            names: Mutex::new(names.iter().map(|name| (name.on_bus(), unasked())).collect()),
            releasing: AtomicBool::new(false),
        }
    }

    /// Asks for every name. One that cannot be had is noted.
    pub(in crate::transport::dbus) async fn take(&self, connection: &Connection) {
        let names: Vec<String> = self.locked().keys().cloned().collect();
        for name in names {
            let problem = match ask(connection, "RequestName", &(name.as_str(), QUEUE)).await {
                Ok(reply) => match reply.body().deserialize::<u32>() {
                    Ok(PRIMARY_OWNER | ALREADY_OWNER) => None,
                    Ok(_) => Some(owned_by(connection, &name).await),
                    Err(error) => Some(format!("was not given: {error}")),
                },
                Err(error) => Some(format!(
                    "cannot be owned: {error}; it needs a policy file, \
                     /usr/share/dbus-1/system.d/org.dbusmcp.Agent.conf"
                )),
            };
            self.set(&name, problem);
        }
        self.tell();
    }

    /// Notes what the bus says of a name: it has been given to this connection, or taken from it.
    pub(in crate::transport::dbus) fn changed(&self, name: &str, is_held: bool) {
        if self.releasing.load(Ordering::Acquire) {
            return;
        }
        let problem = (!is_held).then(|| "was lost to another process".to_owned());
        if self.set(name, problem) {
            self.tell();
        }
    }

    /// Gives every name back, so that no new call comes.
    pub(in crate::transport::dbus) async fn release(&self, connection: &Connection) {
        self.releasing.store(true, Ordering::Release);
        let names: Vec<String> = self.locked().keys().cloned().collect();
        for name in names {
            if let Err(error) = ask(connection, "ReleaseName", &name).await {
                tracing::debug!("D-Bus: {name} was not given back: {error}");
            }
        }
    }

    /// True if that is other than what was known of the name.
    fn set(&self, name: &str, problem: Option<String>) -> bool {
        let mut names = self.locked();
        let Some(known) = names.get_mut(name) else { return false };
        // Only the first word counts: that it is held, or that it is not.
        let is_other = known.is_some() != problem.is_some();
        if is_other || problem.is_some() {
            match &problem {
                Some(problem) => tracing::warn!("D-Bus: {name} {problem}"),
                None => tracing::info!("D-Bus: {name} is served"),
            }
        }
        *known = problem;
        is_other
    }

    fn tell(&self) {
        let names = self.locked();
        let held = names.iter().filter(|(_, problem)| problem.is_none());
        let held = held.map(|(name, _)| format!("{name} on {}", self.bus));
        let addresses = std::iter::once(self.address.clone()).chain(held).collect();
        let missing = names.iter().filter_map(|(name, problem)| {
            problem.as_ref().map(|problem| format!("{WARNING}{name} {problem}"))
        });
        self.status.serving(Transport::Dbus, addresses);
        self.status.replace_warnings(WARNING, missing.collect());
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Option<String>>> {
        // Each use is one operation, so a panic elsewhere leaves nothing half-done.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who has a name that is waited for.
async fn owned_by(connection: &Connection, name: &str) -> String {
    let owner = ask(connection, "GetNameOwner", &name).await;
    let owner = owner.and_then(|reply| reply.body().deserialize::<String>());
    let owner = owner.unwrap_or_else(|_| "another process".to_owned());
    format!("is owned by {owner}; it is served here when that one gives it up")
}
