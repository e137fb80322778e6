//! A cgroup of version 2 for one program. It takes what is delegated and says what is not.

use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::ended::Limit;
use crate::process::report::{Mechanism, Report, State};
use crate::process::wire::LimitOrders;

/// Over which time the share of processor time holds, in microseconds: the kernel's own default.
const CPU_PERIOD_US: u64 = 100_000;

/// A cgroup that this process has made.
#[derive(Debug)]
pub(super) struct Leaf {
    path: PathBuf,
    /// The limits that the kernel holds in it, and the file and line that count how often it had to.
    holds: Vec<(Limit, &'static str, &'static str)>,
}

impl Leaf {
    /// Makes the cgroup `path`, and says in the report which limits hold in it.
    pub(super) fn make(path: &Path, limits: &LimitOrders, report: &mut Report) -> Option<Self> {
        if let Err(error) = fs::create_dir(path) {
            let why = format!("{} cannot be made: {error}", path.display());
            report.set(Mechanism::Cgroup, State::Unavailable(why));
            return None;
        }
        let mut leaf = Self { path: path.to_owned(), holds: Vec::new() };
        let is_killable = fs::exists(path.join("cgroup.kill")).unwrap_or(false);
        report.set(
            Mechanism::Cgroup,
            match (leaf.cpu(), is_killable) {
                (None, _) => State::Unavailable(format!("{} is no cgroup", path.display())),
                (Some(_), true) => State::Enforced("cgroup.kill".to_owned()),
                (Some(_), false) => State::Unavailable("the kernel has no cgroup.kill".to_owned()),
            },
        );
        if let Some(bytes) = limits.memory_bytes
            && leaf.set("memory.max", bytes).is_ok()
        {
            // Without swap the limit is what it says, and all processes end together. Both are there
            // if the limit is, but for kernels without swap.
            leaf.set("memory.swap.max", 0).ok();
            leaf.set("memory.oom.group", 1).ok();
            leaf.holds.push((Limit::Memory, "memory.events", "oom_kill"));
            report.set(Mechanism::Memory, State::Enforced("memory.max".to_owned()));
        }
        if let Some(count) = limits.processes
            && leaf.set("pids.max", count).is_ok()
        {
            leaf.holds.push((Limit::Processes, "pids.events", "max"));
            report.set(Mechanism::Processes, State::Enforced("pids.max".to_owned()));
        }
        if let Some(percent) = limits.cpu_percent {
            let share = format!("{} {CPU_PERIOD_US}", u64::from(percent) * CPU_PERIOD_US / 100);
            let state = match leaf.set("cpu.max", share) {
                Ok(()) => State::Enforced("cpu.max".to_owned()),
                Err(error) => State::Unavailable(format!("cpu.max: {error}")),
            };
            report.set(Mechanism::ProcessorShare, state);
        }
        Some(leaf)
    }

    fn set(&self, file: &str, value: impl Display) -> io::Result<()> {
        // It is there if the controller is; a file is never made.
        let mut file = OpenOptions::new().write(true).open(self.path.join(file))?;
        file.write_all(value.to_string().as_bytes())
    }

    /// The processor time of all that ever ran in it.
    pub(super) fn cpu(&self) -> Option<Duration> {
        let text = fs::read_to_string(self.path.join("cpu.stat")).ok()?;
        let used = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
        used.trim().parse().ok().map(Duration::from_micros)
    }

    /// Moves this process into the cgroup.
    pub(super) fn join(&self) -> io::Result<()> {
        // Zero is who writes it.
        self.set("cgroup.procs", 0)
    }

    /// True if the kernel holds this limit.
    pub(super) fn holds(&self, limit: Limit) -> bool {
        self.holds.iter().any(|(held, ..)| *held == limit)
    }

    /// The limit that the kernel had to hold.
    pub(super) fn reached(&self) -> Option<Limit> {
        let counted = |file: &str, name: &str| {
            let text = fs::read_to_string(self.path.join(file)).unwrap_or_default();
            text.lines().any(|line| {
                line.strip_prefix(name).is_some_and(|count| !matches!(count.trim(), "" | "0"))
            })
        };
        self.holds.iter().find(|(_, file, name)| counted(file, name)).map(|(limit, ..)| *limit)
    }

    /// Kills everything in it at once.
    pub(super) fn kill(&self) {
        // The kernel is older than 5.14: then what is seen in /proc is killed one by one.
        self.set("cgroup.kill", 1).ok();
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        // Only what could not be killed keeps it there; whoever delegated it removes it later.
        fs::remove_dir(&self.path).ok();
    }
}
