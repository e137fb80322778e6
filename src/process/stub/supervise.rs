//! The stub while its program runs: passes on what the runner says, watches the limits, and at the end
//! leaves nothing behind. It reads none of the program's output.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, waitid,
};

use super::is_asked_to_end;
use super::tree::{self, Collected};
use super::watch::{THREADS_SEEN_MAX, Watch};
use crate::process::ended::Limit;
use crate::process::wire::{self, Command, EndedNews, command};

/// How long the kernel may take for ending what was killed, since anything of it last ended: a process
/// that waits for a broken disk may never end.
const KILLED_PATIENCE: Duration = Duration::from_secs(5);
/// How long the stub waits before it looks for what its last look has missed.
const KILL_AGAIN_AFTER: Duration = Duration::from_millis(2);

/// A program and what it is held to.
pub(super) struct Supervisor {
    main: Pid,
    watch: Watch,
    collected: Collected,
    /// When what has been asked to end is killed.
    kill_at: Option<Instant>,
    limit: Option<Limit>,
    is_stopped: bool,
    /// Nobody listens any more.
    is_let_go: bool,
}

impl Supervisor {
    /// The child `main` has just become the program.
    pub(super) fn new(main: Pid, watch: Watch) -> Self {
        Self {
            main,
            watch,
            collected: Collected::new(main),
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
        let mut is_more = false;
        while !self.is_over() {
            if !is_more {
                self.wait(control, signals);
            }
            self.hear_signals(signals);
            self.hear_orders(control);
            if self.limit.is_none()
                && !self.is_over()
                && let Some(limit) = self.watch.reached(&self.collected.used)
            {
                self.limit = Some(limit);
                self.stop();
            }
            // After the look, which counts those that have ended as well.
            is_more = self.collected.some();
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
    fn wait(&mut self, control: BorrowedFd<'_>, signals: &SignalFd) {
        let now = Instant::now();
        let wall = self.watch.ends_at().filter(|_| self.limit.is_none());
        // While the tree is ending, the end of one that is not our child cannot be heard.
        let look = self.watch.look_again_after(self.kill_at.is_some()).map(|after| now + after);
        let next = [wall, self.kill_at, look];
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

    fn hear_signals(&mut self, signals: &SignalFd) {
        if is_asked_to_end(signals) {
            self.is_stopped = true;
            self.stop();
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
                self.watch.grace()
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

    /// Kills what is left, collects it, and sums up.
    fn finish(mut self, signals: &SignalFd) -> EndedNews {
        let (mut left_behind, mut unkillable) = (0, 0);
        if self.kill_at.is_none() && tree::is_only(self.main) {
            self.collected.all();
        } else {
            if self.kill_at.is_none() {
                left_behind = tree::living(THREADS_SEEN_MAX).len();
            }
            // All of a group at once, so that a fork bomb has no time to make more.
            kill_process_group(self.main, Signal::KILL).ok();
            self.watch.kill();
            unkillable = self.end_all(signals);
        }
        let Collected { status, used, .. } = self.collected;
        let is_success = status.is_some_and(|status| status.success());
        let signal = status.as_ref().and_then(ExitStatus::signal);
        let limit = self.limit.or_else(|| match signal {
            Some(libc::SIGXCPU) => Some(Limit::Cpu),
            Some(libc::SIGXFSZ) => Some(Limit::FileSize),
            Some(_) | None => self.watch.reached_unseen(&used, is_success),
        });
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        EndedNews {
            code: status.as_ref().and_then(ExitStatus::code),
            signal,
            limit: Limit::number(limit),
            stopped: self.is_stopped,
            wall_us: micros(self.watch.elapsed()),
            user_us: micros(used.user),
            system_us: micros(used.system),
            memory_max_bytes: used.memory_max_bytes,
            left_behind: u32::try_from(left_behind).unwrap_or(u32::MAX),
            unkillable,
            // One that took a higher priority, or that could not end its tree, shall not go on.
            again: self.kill_at.is_none() && unkillable == 0,
        }
    }

    /// Kills and collects until there is nothing left, or nothing happens any more: how many there
    /// still are.
    fn end_all(&mut self, signals: &SignalFd) -> u32 {
        let mut killed = HashSet::new();
        let mut last_end = (self.collected.count, Instant::now());
        loop {
            let (children, fresh) = tree::kill_children(&mut killed);
            if !self.collected.all() {
                return 0;
            }
            if self.collected.count != last_end.0 {
                last_end = (self.collected.count, Instant::now());
            } else if last_end.1.elapsed() >= KILLED_PATIENCE {
                return u32::try_from(children).unwrap_or(u32::MAX);
            }
            // While there are more to be killed no time is lost: among many that want the processor, it
            // would be long until it is our turn again.
            if fresh == 0 && !pause(signals) {
                killed.clear();
            }
        }
    }
}

/// Waits for a signal, or a little. True if there was one.
fn pause(signals: &SignalFd) -> bool {
    // These are old news, and would end the wait at once.
    while let Ok(Some(_)) = signals.read_signal() {}
    let timeout = Timespec::try_from(KILL_AGAIN_AFTER).ok();
    let signals = signals.as_fd();
    let heard = poll(&mut [PollFd::new(&signals, PollFlags::IN)], timeout.as_ref());
    heard.is_ok_and(|count| count > 0)
}

/// Takes more of the processor than what is to be ended, if the system lets us: a fork bomb would leave
/// only a small share.
fn hurry() {
    rustix::process::setpriority_process(None, -20).ok();
    std::fs::write("/proc/self/autogroup", "-20").ok();
}
