//! The process behind a caller, told from a later one with the same pid, and what it is called, which is
//! for display and the record only. Of all that is known of it, rules may ask for its login session.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

use super::{LoginSession, LoginSources};

/// The most that is read of a file in `/proc`.
const MAX_PROC_BYTES: u64 = 16 * 1024;

/// The longest path of a program as a text, in characters; a longer one is cut.
const MAX_PROGRAM_CHARS: usize = 1024;

/// What the kernel adds to the program of a process when its file is replaced, as by an upgrade.
const DELETED: &str = " (deleted)";

/// A process: a pid and when it started, which together mean one process for as long as the machine
/// runs.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    started: u64,
    is_certain: bool,
    client: OnceLock<Option<Client>>,
    login: OnceLock<LoginSession>,
}

/// What a process is called. Part of it is what the process says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The name of the command, which a process may change.
    pub name: String,
    /// The program, where the kernel lets this process see it.
    pub exe: Option<PathBuf>,
    /// The program as a text; where it cannot be seen, `name`.
    pub program: String,
    /// The systemd unit that it belongs to.
    pub unit: Option<String>,
}

impl Process {
    /// The process that now has this pid. With a `pidfd` of the process that is meant, it is certain to
    /// be that one; without, it may have ended and left its pid to another.
    #[must_use]
    pub fn running(pid: u32, pidfd: Option<BorrowedFd<'_>>) -> Option<Self> {
        let started = stat(pid)?.started;
        let meant = pidfd.is_none_or(runs);
        let (client, login) = (OnceLock::new(), OnceLock::new());
        meant.then_some(Self { pid, started, is_certain: pidfd.is_some(), client, login })
    }

    /// The pid.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// When it started, in the kernel's clock ticks since the machine did.
    #[must_use]
    pub const fn started(&self) -> u64 {
        self.started
    }

    /// What it is called, looked up the first time; `None` if it had ended by then. This reads files of
    /// `/proc`, so it does not belong on the path of a call.
    #[must_use]
    pub fn client(&self) -> Option<&Client> {
        self.client.get_or_init(|| self.look_up()).as_ref()
    }

    /// Has [`Process::client`] found out on a thread for such, while the process is likely to live. Must
    /// be called in a runtime.
    pub fn look_up_soon(self: &Arc<Self>) {
        let process = Arc::clone(self);
        drop(tokio::task::spawn_blocking(move || process.client().is_some()));
    }

    /// True if it is certain to be the process that was meant.
    pub(super) const fn is_certain(&self) -> bool {
        self.is_certain
    }

    /// True if it has not ended.
    pub(super) fn is_running(&self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.started == self.started)
    }

    /// Its login session, if that was asked for before.
    #[must_use]
    pub fn known_login(&self) -> Option<LoginSession> {
        self.login.get().copied()
    }

    /// Its login session, when it is first asked for; `uid` is the user that it was seen to act as. This
    /// reads files, so it does not belong on the path of a call.
    #[must_use]
    pub fn login(&self, uid: u32, sources: &LoginSources) -> LoginSession {
        *self.login.get_or_init(|| sources.read(self, uid))
    }

    /// A descriptor that stands for the process; `None` if it has ended or the system has none.
    #[must_use]
    pub fn pidfd(&self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Only then was it opened while the process that is meant had the pid.
        (stat(self.pid)?.started == self.started && runs(pidfd.as_fd())).then_some(pidfd)
    }

    fn look_up(&self) -> Option<Client> {
        let pid = self.pid;
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok();
        let unit = read(pid, "cgroup").as_deref().and_then(unit);
        // Read last: if it is still the same process, so it was for the rest.
        let stat = stat(pid).filter(|stat| stat.started == self.started)?;
        let program = exe.as_deref().map_or_else(|| stat.name.clone(), program);
        Some(Client { name: stat.name, exe, program, unit })
    }
}

impl PartialEq for Process {
    fn eq(&self, other: &Self) -> bool {
        (self.pid, self.started) == (other.pid, other.started)
    }
}

impl Eq for Process {}

struct Stat {
    name: String,
    started: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = read(pid, "stat")?;
    // The name stands in parentheses and may itself hold any character.
    let (_, rest) = text.split_once('(')?;
    let (name, rest) = rest.rsplit_once(')')?;
    // `starttime` in proc_pid_stat(5), counted from the field after the name.
    let started = rest.split_ascii_whitespace().nth(19)?.parse().ok()?;
    Some(Stat { name: name.to_owned(), started })
}

fn read(pid: u32, file: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/{file}")).ok()?;
    file.take(MAX_PROC_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn program(path: &Path) -> String {
    let path = path.to_string_lossy();
    path.strip_suffix(DELETED).unwrap_or(&path).chars().take(MAX_PROGRAM_CHARS).collect()
}

/// True if the process of a pidfd has not ended.
fn runs(pidfd: BorrowedFd<'_>) -> bool {
    let mut ended = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    rustix::event::poll(&mut ended, Some(&Timespec::default())) == Ok(0)
}

/// The innermost unit of a control group of the unified hierarchy.
fn unit(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    let is_unit = |name: &&str| name.ends_with(".service") || name.ends_with(".scope");
    path.rsplit('/').find(is_unit).map(str::to_owned)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a process to look at is all that is needed")]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_called_what_it_is_until_it_ends() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::running(child.id(), None).unwrap();
        let again =
            Process::running(child.id(), process.pidfd().as_ref().map(|pidfd| pidfd.as_fd()))
                .unwrap();
        assert_eq!(process, again);
        // Until then it may still be a copy of this test.
        while again.look_up().is_some_and(|client| client.name != "sleep") {
            std::thread::yield_now();
        }
        let client = process.client().unwrap();
        assert_eq!(client.name, "sleep");
        let exe = client.exe.as_ref().unwrap();
        assert!(exe.is_absolute(), "{}", exe.display());
        assert_eq!(client.program, exe.to_str().unwrap());
        assert_eq!(program(Path::new("/usr/bin/chat (deleted)")), "/usr/bin/chat");
        let pidfd = process.pidfd().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(process.pidfd().is_none());
        assert!(again.client().is_none(), "a process that ended is called nothing");
        assert!(!runs(pidfd.as_fd()));
        assert!(Process::running(child.id(), Some(pidfd.as_fd())).is_none());
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_taken_for_it() {
        let me = Process::running(std::process::id(), None).unwrap();
        let earlier =
            Process { started: me.started - 1, ..Process::running(me.pid, None).unwrap() };
        assert!(earlier.client().is_none() && earlier.pidfd().is_none());
        assert_ne!(me, earlier);
    }

    #[test]
    fn the_unit_is_the_innermost() {
        let of = |text: &str| unit(text);
        assert_eq!(of("0::/system.slice/cron.service\n").as_deref(), Some("cron.service"));
        let user = "1:cpu:/x.service\n0::/user.slice/user@7.service/app.slice/chat.scope/leaf\n";
        assert_eq!(of(user).as_deref(), Some("chat.scope"));
        assert_eq!(of("0::/\n"), None);
    }
}
