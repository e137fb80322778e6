//! The control groups of workers, below the one that systemd delegates to the exec service. What cannot
//! be limited here is said, not refused.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Limits;

/// Where control groups of version 2 are found.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// The place for workers' control groups.
#[derive(Debug)]
pub(super) struct Cgroups {
    /// `None`: nothing was delegated.
    own: Option<PathBuf>,
    limits: Vec<(&'static str, String)>,
}

/// One worker's control group. It is emptied and removed when this is dropped.
#[derive(Debug)]
pub(super) struct Cgroup(PathBuf);

impl Cgroups {
    /// Makes room below this process's own control group. Also says, a line each, which limits do not
    /// hold.
    pub(super) fn prepare(limits: &Limits) -> (Self, Vec<String>) {
        let own = match delegated() {
            Ok(own) => own,
            Err(why) => {
                let report = format!("memory, tasks and CPU of workers are not limited: {why}");
                return (Self { own: None, limits: Vec::new() }, vec![report]);
            }
        };
        let wanted = [
            ("memory", "memory.max", limits.memory_bytes),
            ("pids", "pids.max", limits.tasks),
            ("cpu", "cpu.weight", limits.cpu_weight),
        ];
        let mut held = Vec::new();
        let mut report = Vec::new();
        for (controller, file, value) in wanted {
            let control = own.join("cgroup.subtree_control");
            match fs::write(control, format!("+{controller}")) {
                Ok(()) => held.push((file, value.to_string())),
                Err(error) => {
                    report.push(format!("{file} of workers is not set: no {controller}: {error}"));
                }
            }
        }
        (Self { own: Some(own), limits: held }, report)
    }

    /// A control group for the worker `name`, with its limits; `None` if nothing was delegated.
    pub(super) fn make(&self, name: &str) -> io::Result<Option<Cgroup>> {
        let Some(own) = &self.own else { return Ok(None) };
        let path = own.join(name);
        fs::create_dir(&path)?;
        let made = Cgroup(path);
        for (file, value) in &self.limits {
            fs::write(made.0.join(file), value)?;
        }
        Ok(Some(made))
    }
}

impl Cgroup {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Kills everything in it.
    pub(super) fn kill(&self) {
        if let Err(error) = fs::write(self.0.join("cgroup.kill"), "1") {
            tracing::warn!("what a worker has left in {} goes on: {error}", self.0.display());
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.kill();
        // The kernel takes a moment to end what was killed.
        let removed = (0..50).any(|_| {
            let removed = fs::remove_dir(&self.0).is_ok();
            if !removed {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            removed
        });
        if !removed {
            tracing::warn!("the control group {} cannot be removed", self.0.display());
        }
    }
}

/// This process's own control group, if it is a service's; the process moves into a leaf of it, since
/// only leaves may hold processes.
fn delegated() -> Result<PathBuf, String> {
    let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let own = own.filter(|path| path.ends_with(".service"));
    let own = own.ok_or("the exec service has no control group (version 2) of its own")?;
    let roots = ROOTS.iter().map(|root| Path::new(root).join(own));
    let mut found = roots.filter(|path| path.join("cgroup.subtree_control").exists());
    let path = found.next().ok_or("control groups of version 2 are not mounted")?;
    let leaf = path.join("exec");
    let made = fs::create_dir(&leaf);
    let moved = made.or_else(|error| match error.kind() == io::ErrorKind::AlreadyExists {
        true => Ok(()),
        false => Err(error),
    });
    moved
        .and_then(|()| fs::write(leaf.join("cgroup.procs"), "0"))
        .map_err(|error| format!("{} is not delegated: {error}", path.display()))?;
    Ok(path)
}
