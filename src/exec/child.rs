//! A process of this same program with one socket as descriptor 3, an environment of its own and
//! nothing else; and its end. What the process does is not known here.

use std::ffi::{CString, NulError};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use nix::unistd::{Pid, User};
use rustix::process::{
    PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::signal::unix::{SignalKind, signal};

/// Where the socket is in the child, as `sd_listen_fds(3)` has it.
const SOCKET: i32 = 3;

/// The program that runs now, also after its file was replaced.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// A child process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    pidfd: OwnedFd,
}

/// How a child has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "it ended with code {code}"),
            Self::Signal(signal) => write!(f, "it was killed by signal {signal}"),
        }
    }
}

/// Starts `program`, which is [`THIS_PROGRAM`] again or another op-dbusd, with these arguments, in its own process group and with nothing of this
/// process but standard error and `socket`. The child stays short of a copy of this process's memory,
/// so that a large heap costs nothing.
///
/// Must be called in a runtime, on the thread that lives as long as the process: a child may ask to die
/// with the thread that started it.
///
/// # Errors
/// What the system says.
pub fn spawn(
    program: &str,
    arguments: &[String],
    environment: &[(&str, String)],
    socket: BorrowedFd<'_>,
) -> io::Result<Child> {
    let arguments = arguments.iter().map(|text| CString::new(text.as_str()));
    let arguments = arguments.collect::<Result<Vec<_>, NulError>>()?;
    let environment =
        environment.iter().map(|(name, value)| CString::new(format!("{name}={value}")));
    let environment = environment.collect::<Result<Vec<_>, NulError>>()?;
    let mut files = PosixSpawnFileActions::init()?;
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    files.add_dup2(nothing.as_raw_fd(), 0)?;
    files.add_dup2(nothing.as_raw_fd(), 1)?;
    files.add_dup2(socket.as_raw_fd(), SOCKET)?;
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(
        PosixSpawnFlags::POSIX_SPAWN_SETPGROUP
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF,
    )?;
    attributes.set_pgroup(Pid::from_raw(0))?;
    attributes.set_sigmask(&SigSet::empty())?;
    attributes.set_sigdefault(&SigSet::all())?;
    let pid = posix_spawn(program, &files, &attributes, &arguments, &environment)?;
    let known = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(io::ErrorKind::NotFound)?;
    let pidfd = pidfd_open(known, PidfdFlags::empty()).inspect_err(|_| {
        // Nobody could end it any more.
        rustix::process::kill_process(known, Signal::KILL).ok();
    })?;
    Ok(Child { pid: pid.as_raw().unsigned_abs(), pidfd })
}

impl Child {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Kills it.
    pub fn kill(&self) {
        // It may have ended already.
        pidfd_send_signal(&self.pidfd, Signal::KILL).ok();
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// What the system says; then nothing is known of the child.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn exited(&self) -> io::Result<Exit> {
        // Before the first look, so that no end is missed.
        let mut children = signal(SignalKind::child())?;
        loop {
            let id = WaitId::PidFd(self.pidfd.as_fd());
            let ended = waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)?;
            if let Some(status) = ended {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, signal) => Exit::Signal(signal.unwrap_or_default()),
                });
            }
            children.recv().await;
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The command line of a worker; `cgroup` is the one that is delegated to it, if one is.
#[must_use]
pub fn worker_arguments(profile: &str, cgroup: Option<&Path>) -> Vec<String> {
    let mut arguments =
        vec!["op-dbusd".to_owned(), "worker".to_owned(), format!("--profile={profile}")];
    arguments.extend(cgroup.map(|path| format!("--cgroup={}", path.display())));
    arguments
}

/// All that a worker of `user` finds in its environment; `None`: the system's database does not know
/// the user.
#[must_use]
pub fn environment(user: Option<&User>) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        ("LANG", "C.UTF-8".to_owned()),
        ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("LISTEN_FDS", "1".to_owned()),
    ];
    match user {
        Some(user) => variables.extend([
            ("HOME", user.dir.display().to_string()),
            ("SHELL", user.shell.display().to_string()),
            ("USER", user.name.clone()),
            ("LOGNAME", user.name.clone()),
        ]),
        None => variables.push(("HOME", "/".to_owned())),
    }
    variables
}
