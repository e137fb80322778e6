//! How the service is doing, for people: what the daemon and the transports note here is what
//! `GetStatus` answers. It measures nothing and decides nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::call::Transport;
use crate::proto::opdbus::v1::{GetStatusResponse, TransportStatus};

/// The notes.
pub struct Status {
    started: Instant,
    notes: Mutex<Notes>,
    changed: Notify,
}

#[derive(Default)]
struct Notes {
    draining: bool,
    transports: BTreeMap<&'static str, TransportStatus>,
    config_files: Vec<PathBuf>,
    config_reloads: u32,
    config_error: String,
    warnings: Vec<String>,
    workers: String,
}

impl Default for Status {
    fn default() -> Self {
        Self { started: Instant::now(), notes: Mutex::default(), changed: Notify::new() }
    }
}

impl Status {
    /// Notes that a transport can be reached, and where.
    pub fn serving(&self, transport: Transport, addresses: Vec<String>) {
        self.note(|notes| {
            let status = notes.transport(transport);
            status.serving = true;
            status.addresses = addresses;
            status.problem.clear();
        });
    }

    /// Notes that a transport cannot be reached, and why.
    pub fn not_serving(&self, transport: Transport, problem: impl Into<String>) {
        self.note(|notes| {
            let status = notes.transport(transport);
            status.serving = false;
            status.problem = problem.into();
        });
    }

    /// Where a transport can be reached; empty while it cannot.
    #[must_use]
    pub fn addresses(&self, transport: Transport) -> Vec<String> {
        let notes = self.notes();
        let status = notes.transports.get(transport.name()).filter(|status| status.serving);
        status.map(|status| status.addresses.clone()).unwrap_or_default()
    }

    /// Notes that a lost connection of a transport was made again.
    pub fn reconnected(&self, transport: Transport) {
        self.note(|notes| notes.transport(transport).reconnects += 1);
    }

    /// Notes that the service is stopping.
    pub fn draining(&self) {
        self.note(|notes| notes.draining = true);
    }

    /// Notes which configuration files are in force.
    pub fn config_loaded(&self, files: Vec<PathBuf>) {
        self.note(|notes| notes.config_files = files);
    }

    /// Notes that a new configuration is in force.
    pub fn config_reloaded(&self, files: Vec<PathBuf>) {
        self.note(|notes| {
            notes.config_files = files;
            notes.config_reloads += 1;
            notes.config_error.clear();
        });
    }

    /// Notes that a new configuration was refused, and why; the old one stays in force.
    pub fn config_refused(&self, error: impl Into<String>) {
        self.note(|notes| notes.config_error = error.into());
    }

    /// Notes how workers are started.
    pub fn workers(&self, how: impl Into<String>) {
        self.note(|notes| notes.workers = how.into());
    }

    /// Notes something an administrator should know.
    pub fn warn(&self, warning: impl Into<String>) {
        let warning = warning.into();
        self.note(|notes| {
            if !notes.warnings.contains(&warning) {
                notes.warnings.push(warning);
            }
        });
    }

    /// Replaces the warnings that begin with `prefix` by `warnings`. Nobody is told if these are the same.
    pub fn replace_warnings(&self, prefix: &str, warnings: Vec<String>) {
        {
            let mut notes = self.notes();
            let before = notes.warnings.iter().filter(|warning| warning.starts_with(prefix));
            if before.eq(&warnings) {
                return;
            }
            notes.warnings.retain(|warning| !warning.starts_with(prefix));
            notes.warnings.extend(warnings);
        }
        self.changed.notify_one();
    }

    /// Resolves when something was noted since the last time; for one waiter.
    ///
    /// # Cancel safety
    /// No change is lost if the future is dropped.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn note(&self, change: impl FnOnce(&mut Notes)) {
        change(&mut self.notes());
        self.changed.notify_one();
    }

    /// All of it. The load is the caller's to fill in.
    #[must_use]
    pub fn report(&self) -> GetStatusResponse {
        let notes = self.notes();
        GetStatusResponse {
            state: if notes.draining { "draining" } else { "running" }.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: prost_types::Duration::try_from(self.started.elapsed()).ok(),
            pid: std::process::id(),
            transports: notes.transports.values().cloned().collect(),
            calls_in_flight: 0,
            calls_queued: 0,
            config_files: notes
                .config_files
                .iter()
                .map(|file| file.display().to_string())
                .collect(),
            config_reloads: notes.config_reloads,
            config_error: notes.config_error.clone(),
            warnings: notes.warnings.clone(),
            workers: notes.workers.clone(),
            workers_running: 0,
            workers_going_on: 0,
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        // Each change is a single assignment, so a panic elsewhere leaves nothing half-written.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    fn transport(&mut self, transport: Transport) -> &mut TransportStatus {
        self.transports.entry(transport.name()).or_insert_with(|| TransportStatus {
            name: transport.name().to_owned(),
            ..TransportStatus::default()
        })
    }
}
