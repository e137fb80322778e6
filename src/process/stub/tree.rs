//! The processes below this one, as /proc shows them, and how to end them. It decides nothing about
//! when.

use std::collections::HashSet;
use std::fs;
use std::ops::AddAssign;
use std::process::ExitStatus;
use std::sync::LazyLock;
use std::time::Duration;

use nix::libc;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use rustix::process::{Pid, Signal, getpid, kill_process};

use super::raw;

/// How many are collected before the tree is looked at again.
const AT_ONCE_MAX: usize = 16;

/// A process below this one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pid: Pid,
    is_dead: bool,
    /// Of itself and of those of its children that it has waited for.
    pub(super) cpu: Duration,
    pub(super) threads: u64,
}

impl Process {
    /// The process `pid` as it is at this moment.
    fn read(pid: Pid) -> Option<Self> {
        let text = fs::read(format!("/proc/{pid}/stat", pid = pid.as_raw_pid())).ok()?;
        let text = String::from_utf8_lossy(&text);
        // The name in parentheses may hold anything; what follows is the state and numbers.
        let fields: Vec<&str> =
            text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
        Some(Self {
            pid,
            is_dead: matches!(*fields.first()?, "Z" | "X"),
            cpu: Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()),
            // One that has ended has none, but still its number.
            threads: number(17)?.max(1),
        })
    }

    /// Memory at this moment.
    pub(super) fn memory(&self) -> Memory {
        let path = format!("/proc/{}/statm", self.pid.as_raw_pid());
        let text = fs::read_to_string(path).unwrap_or_default();
        let pages: Vec<u64> = text.split(' ').filter_map(|number| number.parse().ok()).collect();
        let [_, resident, shared, ..] = pages[..] else { return Memory::default() };
        let bytes = |pages: u64| pages * rustix::param::page_size() as u64;
        Memory { own: bytes(resident.saturating_sub(shared)), shared: bytes(shared) }
    }
}

/// Memory of a process in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    /// What no file stands behind.
    pub(super) own: u64,
    /// What is shared, or a file stands behind.
    pub(super) shared: u64,
}

/// What processes have used that were collected.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub(super) user: Duration,
    pub(super) system: Duration,
    /// The most that any one of them had, with what files stand behind.
    pub(super) memory_max_bytes: u64,
}

impl From<&libc::rusage> for Used {
    fn from(usage: &libc::rusage) -> Self {
        let time = |time: libc::timeval| {
            let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default());
            seconds + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or_default())
        };
        Self {
            user: time(usage.ru_utime),
            system: time(usage.ru_stime),
            memory_max_bytes: u64::try_from(usage.ru_maxrss).unwrap_or_default() * 1024,
        }
    }
}

impl AddAssign for Used {
    fn add_assign(&mut self, other: Self) {
        self.user += other.user;
        self.system += other.system;
        self.memory_max_bytes = self.memory_max_bytes.max(other.memory_max_bytes);
    }
}

fn me() -> i32 {
    getpid().as_raw_pid()
}

/// True if the kernel lists children.
pub(super) fn can_be_seen() -> bool {
    static SEEN: LazyLock<bool> =
        LazyLock::new(|| fs::exists(format!("/proc/self/task/{}/children", me())).unwrap_or(false));
    *SEEN
}

/// The processes below this one that have not ended. It looks no further than `threads_max`.
pub(super) fn living(threads_max: u64) -> Vec<Process> {
    below(threads_max, |process| !process.is_dead)
}

/// The processes below this one, with those that have ended and are not collected: each takes the place
/// of one process. It looks no further than `threads_max`.
pub(super) fn uncollected(threads_max: u64) -> Vec<Process> {
    below(threads_max, |_| true)
}

/// It looks no further when there are more threads than `threads_max`: a tree that grows fast must not
/// take the time that is needed to end it.
fn below(threads_max: u64, counts: impl Fn(&Process) -> bool) -> Vec<Process> {
    let (mut found, mut threads) = (Vec::new(), 0);
    let mut parents = vec![me()];
    while let Some(parent) = parents.pop() {
        for child in children(parent) {
            let Some(process) = Process::read(child) else { continue };
            parents.push(child.as_raw_pid());
            if counts(&process) {
                threads += process.threads;
                found.push(process);
            }
            if threads > threads_max {
                return found;
            }
        }
    }
    found
}

fn children(parent: i32) -> Vec<Pid> {
    let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else { return Vec::new() };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        let text = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        let pids = text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
        found.extend(pids.filter_map(Pid::from_raw));
    }
    found
}

/// True if this process has no child but `main`, which has ended: then nothing is left of the tree.
pub(super) fn is_only(main: Pid) -> bool {
    let all = fs::read_to_string(format!("/proc/self/task/{}/children", me()));
    all.is_ok_and(|all| all.trim_ascii().parse() == Ok(main.as_raw_pid()))
}

/// Kills children of this process that are not among `killed`, and says how many there are, and how
/// many of them it killed. Their children become ours, to be killed the next time: so nobody is killed
/// whose number could be somebody else's by then, and each costs one call.
pub(super) fn kill_children(killed: &mut HashSet<Pid>) -> (usize, usize) {
    let children = children(me());
    let killed_before = std::mem::take(killed);
    let mut fresh = 0;
    for child in &children {
        if !killed_before.contains(child) {
            // It may have ended by itself, and has its number until it is collected.
            kill_process(*child, Signal::KILL).ok();
            fresh += 1;
        }
        killed.insert(*child);
    }
    (children.len(), fresh)
}

/// The children of this process that have ended, as they are collected.
#[derive(Debug)]
pub(super) struct Collected {
    main: Pid,
    /// How the program itself ended, when it is collected.
    pub(super) status: Option<ExitStatus>,
    pub(super) used: Used,
    /// How many there were.
    pub(super) count: u64,
}

impl Collected {
    pub(super) fn new(main: Pid) -> Self {
        Self { main, status: None, used: Used::default(), count: 0 }
    }

    /// Collects some of the children that have ended, but not the program: it stays a zombie until the
    /// very end, so that neither its number nor its group's can become somebody else's. True if there
    /// may be more, which can wait until the tree was looked at: children may end faster than they can be
    /// collected, and be ever more.
    pub(super) fn some(&mut self) -> bool {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        for _ in 0..AT_ONCE_MAX {
            match waitid(Id::All, look) {
                Ok(WaitStatus::Exited(child, _) | WaitStatus::Signaled(child, ..))
                    if child.as_raw() != self.main.as_raw_pid() =>
                {
                    self.take(Pid::from_raw(child.as_raw()));
                }
                Ok(_) | Err(_) => return false,
            }
        }
        true
    }

    /// Collects all that have ended. False if there is no child any more.
    pub(super) fn all(&mut self) -> bool {
        loop {
            match self.take(None) {
                Took::One => {}
                Took::NoneHasEnded => return true,
                Took::NoneIsLeft => return false,
            }
        }
    }

    fn take(&mut self, which: Option<Pid>) -> Took {
        let (child, status, used) = match raw::collect(which) {
            Ok(Some(collected)) => collected,
            Ok(None) => return Took::NoneHasEnded,
            Err(_) => return Took::NoneIsLeft,
        };
        if child == self.main {
            self.status = Some(status);
        }
        self.used += used;
        self.count += 1;
        Took::One
    }
}

#[derive(PartialEq, Eq)]
enum Took {
    One,
    NoneHasEnded,
    NoneIsLeft,
}
