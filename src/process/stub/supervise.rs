//! The stub while its program runs: passes on what the runner says, watches the limits, and at the end
//! leaves nothing behind. It reads none of the program's output.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signalfd::SignalFd;
use nix::sys::time::TimeValLike as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, waitid,
};

use super::leaf::Leaf;
use super::tree;
use crate::process::ended::Limit;
use crate::process::wire::{self, Command, EndedNews, LimitOrders, command};

/// How often the stub looks at what no part of the kernel limits for it.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How many threads the stub looks at if there is no limit on them.
const THREADS_SEEN_MAX: u64 = 4096;
/// How long the kernel may take for ending what was killed: a process that waits for a broken disk may
/// never end.
const KILLED_PATIENCE: Duration = Duration::from_secs(5);
/// How long the stub waits before it looks for what its last look has missed.
const KILL_AGAIN_AFTER: Duration = Duration::from_millis(2);

/// A program and what it is held to.
pub(super) struct Supervisor {
    main: Pid,
    limits: Limits,
    leaf: Option<Leaf>,
    started: Instant,
    /// When what has been asked to end is killed.
    kill_at: Option<Instant>,
    limit: Option<Limit>,
    is_stopped: bool,
    /// Nobody listens any more.
    is_let_go: bool,
}

struct Limits {
    wall: Option<Duration>,
    cpu: Option<Duration>,
    memory_bytes: Option<u64>,
    processes: Option<u64>,
    grace: Duration,
}

impl Supervisor {
    /// The child `main` has just become the program.
    pub(super) fn new(main: Pid, orders: &LimitOrders, leaf: Option<Leaf>) -> Self {
        let is_watched = |limit| !leaf.as_ref().is_some_and(|leaf| leaf.holds(limit));
        let limits = Limits {
            wall: orders.wall_ms.map(Duration::from_millis),
            cpu: orders.cpu_ms.map(Duration::from_millis),
            memory_bytes: orders.memory_bytes.filter(|_| is_watched(Limit::Memory)),
            processes: orders.processes.filter(|_| is_watched(Limit::Processes)),
            grace: Duration::from_millis(orders.grace_ms),
        };
        Self {
            main,
            limits,
            leaf,
            started: Instant::now(),
            kill_at: None,
            limit: None,
            is_stopped: false,
            is_let_go: false,
        }
    }

    /// Nobody wants the program any more.
    pub(super) fn let_go(&mut self) {
        self.is_let_go = true;
        self.is_stopped = true;
        self.stop();
    }

    /// Stays until nothing of the program is left, and says how it ended.
    pub(super) fn run(mut self, control: BorrowedFd<'_>, signals: &SignalFd) -> EndedNews {
        while !self.is_over() {
            self.wait(control, signals);
            self.hear_signals(signals);
            self.hear_orders(control);
            tree::collect_until(self.main);
            if let Some(limit) = self.reached() {
                self.limit = Some(limit);
                self.stop();
            }
        }
        self.finish(signals)
    }

    /// True if the program has ended, and what is left of its tree has no time any more to do so.
    fn is_over(&self) -> bool {
        match self.kill_at {
            None => self.main_status().is_some(),
            Some(kill_at) => {
                Instant::now() >= kill_at
                    || (self.main_status().is_some() && tree::living(0).is_empty())
            }
        }
    }

    /// How the program itself ended, if it has. It stays a zombie until the very end, so that neither
    /// its number nor its group's can become somebody else's.
    fn main_status(&self) -> Option<WaitIdStatus> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.main), options).ok().flatten()
    }

    /// Waits until something happens, or it is time to look.
    fn wait(&self, control: BorrowedFd<'_>, signals: &SignalFd) {
        let now = Instant::now();
        let wall = self.limits.wall.filter(|_| self.limit.is_none());
        let look = self.looks().then_some(now + LOOK_EVERY);
        let next = [wall.and_then(|wall| self.started.checked_add(wall)), self.kill_at, look];
        let until = next.into_iter().flatten().min();
        let timeout = until.and_then(|until| {
            // Rounded up, or the last millisecond would be a busy one.
            let wait = until.saturating_duration_since(now) + Duration::from_micros(1);
            Timespec::try_from(wait).ok()
        });
        let signals = PollFd::new(signals, PollFlags::IN);
        let mut both = [signals, PollFd::new(&control, PollFlags::IN)];
        let watched = if self.is_let_go { &mut both[..1] } else { &mut both[..] };
        // Whatever it says, everything is looked at next.
        poll(watched, timeout.as_ref()).ok();
    }

    fn looks(&self) -> bool {
        let Limits { cpu, memory_bytes, processes, .. } = &self.limits;
        let is_watched = cpu.is_some() || memory_bytes.is_some() || processes.is_some();
        // While the tree is ending, the end of one that is not our child cannot be heard.
        is_watched || self.leaf.is_some() || self.kill_at.is_some()
    }

    fn hear_signals(&mut self, signals: &SignalFd) {
        while let Ok(Some(signal)) = signals.read_signal() {
            let is_an_end = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT]
                .iter()
                .any(|end| signal.ssi_signo == end.cast_unsigned());
            if is_an_end {
                self.is_stopped = true;
                self.stop();
            }
        }
    }

    fn hear_orders(&mut self, control: BorrowedFd<'_>) {
        while !self.is_let_go {
            match wire::receive::<Command>(control) {
                Ok(Some(Command { what: Some(command::What::Signal(number)) })) => {
                    self.signal(number);
                }
                Ok(Some(Command { what: Some(command::What::Stop(number)) })) => {
                    match Limit::of_number(number) {
                        None => self.is_stopped = true,
                        limit => self.limit = self.limit.or(limit),
                    }
                    self.stop();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(Some(Command { what: None }) | None) | Err(_) => self.let_go(),
            }
        }
    }

    /// Sends a signal to the program's group.
    fn signal(&self, number: i32) {
        if let Some(signal) = Signal::from_named_raw(number) {
            // The group may have ended.
            kill_process_group(self.main, signal).ok();
        }
    }

    /// Asks the tree to end, and lets the time run after which it is killed. What has taken too much
    /// memory or made too many processes takes more in that time, and gets none.
    fn stop(&mut self) {
        let grace = match self.limit {
            Some(Limit::Memory | Limit::Processes) => Duration::ZERO,
            Some(Limit::Wall | Limit::Cpu | Limit::FileSize | Limit::Output) | None => {
                self.limits.grace
            }
        };
        let now = Instant::now();
        // A grace that never ends is none.
        let kill_at = now.checked_add(grace).unwrap_or(now);
        let is_asked = self.kill_at.is_some();
        self.kill_at = Some(self.kill_at.map_or(kill_at, |earlier| earlier.min(kill_at)));
        if grace.is_zero() {
            hurry();
        } else if !is_asked {
            self.signal(libc::SIGTERM);
            // A stopped process takes no signal but this one.
            self.signal(libc::SIGCONT);
        }
    }

    /// The limit that the tree has reached.
    fn reached(&self) -> Option<Limit> {
        if self.limit.is_some() {
            return None;
        }
        if self.limits.wall.is_some_and(|wall| self.started.elapsed() >= wall) {
            return Some(Limit::Wall);
        }
        if let Some(limit) = self.leaf.as_ref().and_then(Leaf::reached) {
            return Some(limit);
        }
        let Limits { cpu, memory_bytes, processes, .. } = self.limits;
        if cpu.is_none() && memory_bytes.is_none() && processes.is_none() {
            return None;
        }
        let tree = tree::living(processes.unwrap_or(THREADS_SEEN_MAX));
        let threads = || tree.iter().map(|process| process.threads).sum::<u64>();
        let memory = || tree.iter().map(tree::Process::memory).sum::<u64>();
        let used = || tree.iter().map(|process| process.cpu).sum::<Duration>() + collected_cpu();
        if processes.is_some_and(|limit| threads() > limit) {
            Some(Limit::Processes)
        } else if memory_bytes.is_some_and(|limit| memory() > limit) {
            Some(Limit::Memory)
        } else if cpu.is_some_and(|limit| used() >= limit) {
            Some(Limit::Cpu)
        } else {
            None
        }
    }

    /// Kills what is left, collects it, and sums up.
    fn finish(self, signals: &SignalFd) -> EndedNews {
        let left_behind = match self.kill_at {
            None => tree::living(THREADS_SEEN_MAX).len(),
            Some(_) => 0,
        };
        let main = self.main_status();
        // All of a group at once, so that a fork bomb has no time to make more.
        kill_process_group(self.main, Signal::KILL).ok();
        if let Some(leaf) = &self.leaf {
            leaf.kill();
        }
        let main = main.or_else(|| self.await_main(signals));
        let unkillable = end_all(signals);
        let leaf_reached = self.leaf.as_ref().and_then(Leaf::reached);
        let signal = main.as_ref().and_then(WaitIdStatus::terminating_signal);
        let by_signal = match signal {
            Some(libc::SIGXCPU) => Some(Limit::Cpu),
            Some(libc::SIGXFSZ) => Some(Limit::FileSize),
            Some(_) | None => None,
        };
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok();
        let micros = |time: Option<nix::sys::time::TimeVal>| {
            time.and_then(|time| time.num_microseconds().try_into().ok()).unwrap_or_default()
        };
        let kilobytes = usage.map_or(0, |usage| usage.max_rss());
        EndedNews {
            code: main.as_ref().and_then(WaitIdStatus::exit_status),
            signal,
            limit: Limit::number(self.limit.or(leaf_reached).or(by_signal)),
            stopped: self.is_stopped,
            wall_us: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            user_us: micros(usage.map(|usage| usage.user_time())),
            system_us: micros(usage.map(|usage| usage.system_time())),
            memory_max_bytes: u64::try_from(kilobytes).unwrap_or_default() * 1024,
            left_behind: u32::try_from(left_behind).unwrap_or(u32::MAX),
            unkillable,
        }
    }

    /// Waits for the program that was killed.
    fn await_main(&self, signals: &SignalFd) -> Option<WaitIdStatus> {
        let until = Instant::now() + KILLED_PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.main_status() {
                return Some(status);
            }
            pause(signals);
        }
        None
    }
}

/// Kills and collects until there is nothing left, or the patience ends: how many there still are.
fn end_all(signals: &SignalFd) -> u32 {
    let until = Instant::now() + KILLED_PATIENCE;
    loop {
        let children = tree::kill_children();
        if !tree::collect_all() {
            return 0;
        }
        if Instant::now() >= until {
            return u32::try_from(children).unwrap_or(u32::MAX);
        }
        pause(signals);
    }
}

/// Waits for a signal, or a little.
fn pause(signals: &SignalFd) {
    // These are old news, and would end the wait at once.
    while let Ok(Some(_)) = signals.read_signal() {}
    let timeout = Timespec::try_from(KILL_AGAIN_AFTER).ok();
    let signals = signals.as_fd();
    poll(&mut [PollFd::new(&signals, PollFlags::IN)], timeout.as_ref()).ok();
}

/// Takes more of the processor than what is to be ended, if the system lets us: a fork bomb would leave
/// only a small share.
fn hurry() {
    rustix::process::setpriority_process(None, -20).ok();
    std::fs::write("/proc/self/autogroup", "-20").ok();
}

fn collected_cpu() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Duration::ZERO };
    let used = usage.user_time() + usage.system_time();
    Duration::from_micros(used.num_microseconds().try_into().unwrap_or_default())
}
