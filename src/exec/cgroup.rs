//! The control groups of workers, below the one that systemd delegates to the exec service. Each is
//! limited here and delegated further to its user, who may make ones for his programs in it but not change
//! the limits. What cannot be limited or delegated is said, not refused.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use super::Limits;

/// Where control groups of version 2 are found.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// The leaf that the worker itself is in: what has groups below it may hold no processes.
pub(super) const OWN_LEAF: &str = "self";

/// What begins the names of workers' control groups.
const NAMES: &str = "worker-";

/// What of a control group belongs to whoever it is delegated to, beside the folder itself.
const DELEGATED: [&str; 3] = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"];

/// Over which time the most of the CPU is counted, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;

/// How many groups may be below a worker's and in each other, when they are removed.
const DEEPEST: usize = 16;

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
        let mut wanted = vec![
            ("memory", "memory.max", limits.memory_bytes.to_string()),
            ("pids", "pids.max", limits.tasks.to_string()),
            ("cpu", "cpu.weight", limits.cpu_weight.to_string()),
        ];
        if limits.cpu_percent > 0 {
            let time = limits.cpu_percent * CPU_PERIOD_US / 100;
            wanted.push(("cpu", "cpu.max", format!("{time} {CPU_PERIOD_US}")));
        }
        remove_left_over(&own);
        let mut held = Vec::new();
        let mut report = Vec::new();
        for (controller, file, value) in wanted {
            let control = own.join("cgroup.subtree_control");
            match fs::write(control, format!("+{controller}")) {
                Ok(()) => held.push((file, value)),
                Err(error) => {
                    let why = format!("the controller {controller} is not delegated: {error}");
                    report.push(format!("{file} of workers is not set: {why}"));
                }
            }
        }
        (Self { own: Some(own), limits: held }, report)
    }

    /// A control group for a worker of the user `uid`, with its limits; `None` if nothing was delegated.
    pub(super) fn make(&self, uid: u32) -> io::Result<Option<Cgroup>> {
        let Some(own) = &self.own else { return Ok(None) };
        let path = own.join(format!("{NAMES}{uid}-{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir(&path)?;
        let made = Cgroup(path);
        for (file, value) in &self.limits {
            fs::write(made.0.join(file), value)?;
        }
        fs::create_dir(made.0.join(OWN_LEAF))?;
        // Whatever this process's umask is: the worker finds its groups by their path.
        fs::set_permissions(&made.0, fs::Permissions::from_mode(0o755))?;
        // What is limited as a whole can be limited for each program, too.
        for (file, _) in &self.limits {
            let controller = file.split('.').next().unwrap_or_default();
            let control = made.0.join("cgroup.subtree_control");
            if let Err(error) = fs::write(control, format!("+{controller}")) {
                tracing::warn!("{file} of single programs cannot be set: {error}");
            }
        }
        if let Err(error) = made.give_to(uid) {
            tracing::warn!("programs of uid {uid} have no control groups of their own: {error}");
        }
        Ok(Some(made))
    }
}

impl Cgroup {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Lets the user make groups in it and move what is in it between them. The limits stay as they are.
    fn give_to(&self, uid: u32) -> io::Result<()> {
        // Last, because who owns the folder could replace what is in it.
        let files = DELEGATED.iter().map(|file| self.0.join(file)).filter(|file| file.exists());
        files.chain([self.0.clone()]).try_for_each(|path| chown(path, Some(uid), None))
    }

    /// True if nothing runs in it, as far as the kernel says.
    pub(super) fn is_empty(&self) -> bool {
        let events = fs::read_to_string(self.0.join("cgroup.events"));
        events.is_ok_and(|events| events.lines().any(|line| line == "populated 0"))
    }

    /// Kills everything in it.
    pub(super) fn kill(&self) {
        // Its owner could have closed it.
        let taken_back = chown(&self.0, Some(0), None);
        let killed = taken_back.and_then(|()| fs::write(self.0.join("cgroup.kill"), "1"));
        if let Err(error) = killed {
            tracing::warn!("what a worker has left in {} goes on: {error}", self.0.display());
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.kill();
        // The kernel takes a moment to end what was killed.
        let removed = (0..50).any(|_| {
            let removed = remove(&self.0, DEEPEST).is_ok();
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

/// Removes a control group and those in it. They are taken back first: without the right to pass over
/// other users' rights, only what is one's own can be removed.
fn remove(path: &Path, deepest: usize) -> io::Result<()> {
    chown(path, Some(0), None)?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && deepest > 0 {
            remove(&entry.path(), deepest - 1)?;
        }
    }
    fs::remove_dir(path)
}

/// Ends what workers of an exec service before this one have left.
fn remove_left_over(own: &Path) {
    let Ok(entries) = fs::read_dir(own) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(NAMES) {
            tracing::info!("what is left of {} is ended", entry.path().display());
            drop(Cgroup(entry.path()));
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
