//! The processes below this one, as /proc shows them, and how to end them. It decides nothing about
//! when.

use std::fs;
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use rustix::process::{Pid, Signal, getpid, kill_process};

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
            threads: number(17)?,
        })
    }

    /// Memory in bytes that no file stands behind.
    pub(super) fn memory(&self) -> u64 {
        let path = format!("/proc/{}/statm", self.pid.as_raw_pid());
        let text = fs::read_to_string(path).unwrap_or_default();
        let pages: Vec<u64> = text.split(' ').filter_map(|number| number.parse().ok()).collect();
        let [_, resident, shared, ..] = pages[..] else { return 0 };
        resident.saturating_sub(shared) * rustix::param::page_size() as u64
    }
}

fn me() -> i32 {
    getpid().as_raw_pid()
}

/// True if the kernel lists children.
pub(super) fn can_be_seen() -> bool {
    fs::exists(format!("/proc/self/task/{}/children", me())).unwrap_or(false)
}

/// The processes below this one that have not ended. It looks no further when they have more threads
/// than `threads_max`: a tree that grows fast must not take the time that is needed to end it.
pub(super) fn living(threads_max: u64) -> Vec<Process> {
    let (mut found, mut threads) = (Vec::new(), 0);
    let mut parents = vec![me()];
    while let Some(parent) = parents.pop() {
        for child in children(parent) {
            let Some(process) = Process::read(child) else { continue };
            parents.push(child.as_raw_pid());
            if !process.is_dead {
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

/// Kills each child of this process, and says how many they were. Their children become ours, to be
/// killed the next time: so nobody is killed whose number could be somebody else's by then, and each
/// costs one call.
pub(super) fn kill_children() -> usize {
    let children = children(me());
    for child in &children {
        // It may have ended by itself, and has its number until it is collected.
        kill_process(*child, Signal::KILL).ok();
    }
    children.len()
}

/// Collects children that have ended, until there are none or it is `main`'s turn.
pub(super) fn collect_until(main: Pid) {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(WaitStatus::Exited(child, _) | WaitStatus::Signaled(child, ..)) =
        waitid(Id::All, look)
        && child.as_raw() != main.as_raw_pid()
    {
        if waitid(Id::Pid(child), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG).is_err() {
            return;
        }
    }
}

/// Collects every child that has ended. False if there is no child any more.
pub(super) fn collect_all() -> bool {
    loop {
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            Ok(WaitStatus::StillAlive) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}
