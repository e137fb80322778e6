//! The settings of workers, and of the exec service that starts them.

use std::path::PathBuf;

use super::checker::Checker;
use super::{MAX_IDLE_MS, MAX_TIMEOUT_MS};
use crate::config::keys::worker::Section;
use crate::exec::Limits;
use crate::host::worker::Config;

/// The settings of workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Whether there are any.
    pub enabled: bool,
    /// Who starts them.
    pub starter: Starter,
    /// Where the exec service listens.
    pub exec_socket: PathBuf,
    /// How they are kept.
    pub workers: Config,
    /// What each may use, if the exec service starts it.
    pub limits: Limits,
}

/// Who starts workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starter {
    /// The exec service if its socket is there, else op-dbus itself.
    Auto,
    /// op-dbus itself, under its own uid.
    OwnUid,
    /// The exec service.
    ExecService,
}

pub(super) fn workers(c: &mut Checker<'_>, keys: &Section) -> Worker {
    let idle = c.millis(&keys.idle_ms, 0..=MAX_IDLE_MS);
    let min_uid = c.size(&keys.min_uid, 0..=i64::from(u32::MAX) - 1, "as a user id");
    let exec_socket = c.socket_path(&keys.exec_socket).unwrap_or_else(|| {
        c.reject(&keys.exec_socket, "it must be a path, as \"/run/op-dbus/exec.sock\"");
        PathBuf::new()
    });
    Worker {
        enabled: keys.enabled.value,
        starter: c.one_of(
            &keys.starter,
            [
                ("auto", Starter::Auto),
                ("own-uid", Starter::OwnUid),
                ("exec-service", Starter::ExecService),
            ],
        ),
        exec_socket,
        workers: Config {
            min_uid: u32::try_from(min_uid).unwrap_or_default(),
            max: c.size(&keys.max, 1..=4096, "workers"),
            idle: Some(idle).filter(|idle| !idle.is_zero()),
            start_timeout: c.millis(&keys.start_timeout_ms, 100..=60_000),
            check: c.millis(&keys.check_ms, 100..=MAX_TIMEOUT_MS),
            check_timeout: c.millis(&keys.check_timeout_ms, 100..=600_000),
            max_response_bytes: c.size(&keys.max_response_bytes, 1024..=1 << 30, "bytes"),
        },
        limits: Limits {
            memory_bytes: c.size(&keys.memory_bytes, 67_108_864..=1 << 44, "bytes") as u64,
            tasks: c.size(&keys.tasks, 16..=1_000_000, "processes") as u64,
            cpu_weight: c.size(&keys.cpu_weight, 1..=10_000, "as a weight") as u64,
            cpu_percent: c.size(&keys.cpu_percent, 0..=100_000, "percent of a processor") as u64,
            files: c.size(&keys.files, 64..=1_000_000, "files") as u64,
        },
    }
}
