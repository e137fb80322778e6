//! The login session of a process: read from its control group, which the kernel knows and a user cannot
//! change beyond what is his, and from what logind notes of each session. Nothing is decided here.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::Process;

/// The most that is read of a file, in bytes.
const MAX_BYTES: u64 = 16 * 1024;

/// The longest id of a login session that is looked for; logind's have at most ten characters or so.
const MAX_ID_BYTES: usize = 64;

/// What kind of login a process belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoginSession {
    /// A local one with a display.
    Graphical,
    /// A local one on a terminal.
    Terminal,
    /// One from another machine, as by ssh.
    Remote,
    /// None of its own: it was started by the user's systemd, for whichever login.
    UserManager,
    /// None: a service, cron, a container.
    Background,
    /// It cannot be told, or there is no process that is known.
    Unknown,
}

impl LoginSession {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Graphical,
        Self::Terminal,
        Self::Remote,
        Self::UserManager,
        Self::Background,
        Self::Unknown,
    ];

    /// The word in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Graphical => "graphical",
            Self::Terminal => "terminal",
            Self::Remote => "remote",
            Self::UserManager => "user-manager",
            Self::Background => "background",
            Self::Unknown => "unknown",
        }
    }
}

/// Where login sessions are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginSources {
    /// The kernel's folder of processes.
    pub processes: PathBuf,
    /// logind's folder of sessions, which `sd_session_is_remote(3)` and its like read.
    pub sessions: PathBuf,
}

impl Default for LoginSources {
    fn default() -> Self {
        Self { processes: "/proc".into(), sessions: "/run/systemd/sessions".into() }
    }
}

/// What a control group says.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    /// In the login session with this id.
    Session(&'a str),
    UserManager,
    /// In neither.
    Elsewhere,
    /// Above what this process can see, or no control group.
    Unseen,
}

impl LoginSources {
    /// The login session of `process`, which acts as `uid`. Reads files.
    pub(super) fn read(&self, process: &Process, uid: u32) -> LoginSession {
        self.find(process, uid).unwrap_or(LoginSession::Unknown)
    }

    fn find(&self, process: &Process, uid: u32) -> Option<LoginSession> {
        let folder = self.processes.join(process.pid().to_string());
        // Without a pidfd another may have the pid by now: it must at least be the same user's.
        if !process.is_certain() && !is_of(&read(&folder.join("status"))?, uid) {
            return None;
        }
        let cgroup = read(&folder.join("cgroup"))?;
        // Asked last: if it is still the same process, so it was for the rest.
        if !process.is_running() {
            return None;
        }
        Some(match place(&cgroup) {
            Place::Session(id) => kind(&read(&self.sessions.join(id))?),
            Place::UserManager => LoginSession::UserManager,
            Place::Elsewhere => LoginSession::Background,
            Place::Unseen => LoginSession::Unknown,
        })
    }
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// True if all four user ids of a `/proc/PID/status` are this one.
fn is_of(status: &str, uid: u32) -> bool {
    let uid = uid.to_string();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.is_some_and(|line| {
        let mut ids = line.split_ascii_whitespace();
        ids.clone().count() == 4 && ids.all(|id| id == uid)
    })
}

/// What the control group of the unified hierarchy in a `/proc/PID/cgroup` says. Names count only where
/// nobody but root makes control groups: below his manager a user calls them what he likes.
fn place(cgroup: &str) -> Place<'_> {
    let Some(path) = cgroup.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Place::Unseen;
    };
    let mut names = path.split('/');
    match (names.next(), names.next(), names.next()) {
        (Some(".."), _, _) => Place::Unseen,
        (Some("user.slice"), Some(slice), Some(unit)) => {
            let uid = slice.strip_prefix("user-").and_then(|slice| slice.strip_suffix(".slice"));
            of_user(uid, unit)
        }
        (Some(_) | None, _, _) => Place::Elsewhere,
    }
}

/// What the unit right below the slice of a user says.
fn of_user<'a>(uid: Option<&str>, unit: &'a str) -> Place<'a> {
    let is_plain = |id: &str| {
        (1..=MAX_ID_BYTES).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let session = unit.strip_prefix("session-").and_then(|unit| unit.strip_suffix(".scope"));
    match (uid, session.filter(|id| is_plain(id))) {
        (None, _) => Place::Elsewhere,
        (Some(_), Some(id)) => Place::Session(id),
        (Some(uid), None) if unit == format!("user@{uid}.service") => Place::UserManager,
        (Some(_), None) => Place::Elsewhere,
    }
}

/// The kind of a session of which logind notes these facts.
fn kind(facts: &str) -> LoginSession {
    let fact = |name: &str| {
        let mut values = facts.lines().filter_map(|line| line.split_once('='));
        values.find_map(|(key, value)| (key == name).then_some(value)).unwrap_or_default()
    };
    match (fact("REMOTE"), fact("CLASS"), fact("TYPE")) {
        ("1", _, _) => LoginSession::Remote,
        ("0", class, _) if class.starts_with("background") || class.starts_with("manager") => {
            LoginSession::Background
        }
        ("0", _, "x11" | "wayland" | "mir") => LoginSession::Graphical,
        ("0", _, "tty") => LoginSession::Terminal,
        (_, _, _) => LoginSession::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_control_groups_count_only_where_root_gives_them() {
        let of = |path: &str| {
            let text =
                format!("9:name=systemd:/user.slice/user-7.slice/session-1.scope\n0::{path}\n");
            match place(&text) {
                Place::Session(id) => format!("session {id}"),
                Place::UserManager => "UserManager".to_owned(),
                Place::Elsewhere => "Elsewhere".to_owned(),
                Place::Unseen => "Unseen".to_owned(),
            }
        };
        for (path, expected) in [
            ("/user.slice/user-7.slice/session-3.scope", "session 3"),
            ("/user.slice/user-7.slice/session-c1.scope/sub", "session c1"),
            ("/user.slice/user-7.slice/user@7.service/app.slice/x.scope", "UserManager"),
            // Made by the user, or by a container.
            ("/user.slice/user-7.slice/user@7.service/session-3.scope", "UserManager"),
            ("/machine.slice/m.scope/user.slice/user-7.slice/session-3.scope", "Elsewhere"),
            ("/user.slice/user-7.slice/user@8.service", "Elsewhere"),
            ("/user.slice/user-7.slice/session-.scope", "Elsewhere"),
            ("/user.slice/user-7.slice/session-..scope", "Elsewhere"),
            ("/system.slice/cron.service", "Elsewhere"),
            ("/", "Elsewhere"),
            ("/../user.slice/user-7.slice/session-3.scope", "Unseen"),
        ] {
            assert_eq!(of(path), expected, "{path}");
        }
        assert_eq!(place("1:name=systemd:/user.slice\n"), Place::Unseen);
    }

    #[test]
    fn what_logind_notes_makes_the_kind() {
        for (facts, expected) in [
            ("UID=7\nREMOTE=0\nTYPE=wayland\nCLASS=user\n", LoginSession::Graphical),
            ("REMOTE=0\nTYPE=x11\nCLASS=greeter\n", LoginSession::Graphical),
            ("REMOTE=0\nTYPE=tty\nCLASS=user\n", LoginSession::Terminal),
            ("REMOTE=1\nTYPE=wayland\nCLASS=user\n", LoginSession::Remote),
            ("REMOTE=0\nTYPE=unspecified\nCLASS=background\n", LoginSession::Background),
            ("REMOTE=0\nTYPE=unspecified\nCLASS=manager-early\n", LoginSession::Background),
            ("REMOTE=0\nTYPE=web\nCLASS=user\n", LoginSession::Unknown),
            ("TYPE=tty\nCLASS=user\n", LoginSession::Unknown),
            ("", LoginSession::Unknown),
        ] {
            assert_eq!(kind(facts), expected, "{facts}");
        }
    }

    #[test]
    fn a_process_is_of_a_user_if_all_its_ids_are() {
        assert!(is_of("Name:\tx\nUid:\t7\t7\t7\t7\nGid:\t1\n", 7));
        assert!(!is_of("Uid:\t7\t0\t0\t0\n", 7));
        assert!(!is_of("Name:\tx\nUid:\n", 7));
        assert!(!is_of("", 7));
    }
}
