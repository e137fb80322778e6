//! From a root process to a worker: everything that only root can do for one is done here, then the
//! program is replaced by itself with the user's rights. It runs between the exec service and the worker,
//! alone in its process.

#![expect(
    clippy::disallowed_methods,
    reason = "the process replaces itself by the worker; nothing is started beside it"
)]

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use caps::CapSet;
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::cgroup::OWN_LEAF;
use super::worker_arguments;
use crate::error::{Error, ErrorKind};

/// What the worker is to be.
#[derive(Clone, Debug, clap::Args)]
pub struct Worker {
    /// Its user.
    #[arg(long)]
    pub uid: u32,
    /// Its primary group.
    #[arg(long)]
    pub gid: u32,
    /// A supplementary group.
    #[arg(long)]
    pub group: Vec<u32>,
    /// How many files it may have open.
    #[arg(long)]
    pub files: u64,
    /// Its control group, made by the exec service: it joins the leaf `self`, and the rest is its own.
    #[arg(long)]
    pub cgroup: Option<PathBuf>,
    /// The sandbox profile of the operations that it serves.
    #[arg(long, default_value = "")]
    pub profile: String,
}

impl Worker {
    /// The command line that [`Worker::run`] is reached by.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "op-dbusd".to_owned(),
            "become-worker".to_owned(),
            format!("--uid={}", self.uid),
            format!("--gid={}", self.gid),
            format!("--files={}", self.files),
            format!("--profile={}", self.profile),
        ];
        arguments.extend(self.group.iter().map(|group| format!("--group={group}")));
        arguments.extend(self.cgroup.iter().map(|path| format!("--cgroup={}", path.display())));
        arguments
    }

    /// Becomes the worker. Returns only if that cannot be.
    ///
    /// # Errors
    /// `SandboxUnavailable` if a step is refused; the process must then end.
    pub fn run(self) -> Result<std::convert::Infallible, Error> {
        if let Some(cgroup) = &self.cgroup {
            let joined = fs::write(cgroup.join(OWN_LEAF).join("cgroup.procs"), "0");
            joined.map_err(|error| refused("the control group cannot be joined", &error))?;
        }
        setrlimit(Resource::RLIMIT_NOFILE, self.files, self.files)
            .map_err(|error| refused("open files cannot be limited", &error))?;
        caps::clear(None, CapSet::Ambient)
            .and_then(|()| caps::clear(None, CapSet::Bounding))
            .and_then(|()| caps::clear(None, CapSet::Inheritable))
            .map_err(|error| refused("capabilities cannot be dropped", &error))?;
        let groups: Vec<Gid> = self.group.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        setgroups(&groups)
            .and_then(|()| setresgid(gid, gid, gid))
            .and_then(|()| setresuid(uid, uid, uid))
            .map_err(|error| refused("the user cannot be taken on", &error))?;
        // As the user, so that it is his.
        join_session_keyring()?;
        rustix::thread::set_no_new_privs(true)
            .map_err(|error| refused("gaining rights cannot be forbidden", &error))?;
        let arguments = worker_arguments(&self.profile, self.cgroup.as_deref());
        let error = Command::new("/proc/self/exe").arg0("op-dbusd").args(&arguments[1..]).exec();
        Err(refused("the worker cannot be run", &error))
    }
}

/// Leaves the session keyring of the exec service, so that no two users share one. A kernel without
/// keyrings has none to share.
fn join_session_keyring() -> Result<(), Error> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    let nameless = std::ptr::null::<libc::c_char>();
    #[expect(unsafe_code, reason = "no crate that is used here wraps this system call")]
    // SAFETY: the call takes no memory of this process but the name, which may be null.
    let joined = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, nameless) };
    match joined {
        -1 => match std::io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
            error => Err(refused("a session keyring cannot be had", &error)),
        },
        _ => Ok(()),
    }
}

fn refused(what: &str, why: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::SandboxUnavailable, format!("{what}: {why}"))
}
