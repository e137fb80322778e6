//! What the tree of a program uses, and whether that is more than it may. It ends nothing, but for
//! passing on the end to a cgroup.

use std::time::{Duration, Instant};

use super::become_program::backstop;
use super::leaf::Leaf;
use super::tree::{self, Used};
use crate::process::ended::Limit;
use crate::process::report::{Mechanism, Report, State};
use crate::process::wire::LimitOrders;

/// How often the stub looks at what no part of the kernel limits for it.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often at most it looks at a tree that does nothing: the longer that is so, the more rarely, since most
/// of what runs for long waits for something.
const LOOK_EVERY_QUIET: Duration = Duration::from_millis(250);
/// How often it looks at a tree that has half of what it may have.
const LOOK_EVERY_NEAR: Duration = Duration::from_millis(4);
/// How many threads the stub looks at if there is no limit on them.
pub(super) const THREADS_SEEN_MAX: u64 = 4096;
/// What a program and its libraries may have in memory of which nobody saw that files stand behind it.
const UNSEEN_FILES_BYTES: u64 = 32 << 20;

/// Says by what the limits hold that the kernel does not hold in a cgroup.
pub(super) fn report(limits: &LimitOrders, leaf: Option<&Leaf>, report: &mut Report) {
    let (busy, quiet) = (LOOK_EVERY.as_millis(), LOOK_EVERY_QUIET.as_millis());
    let how_often = format!("watched every {busy} ms, or {quiet} ms while it does nothing");
    let state = |limit| match limit {
        _ if !tree::can_be_seen() => {
            State::Unavailable("the kernel does not list children in /proc".to_owned())
        }
        Limit::Processes if rustix::process::getuid().is_root() => State::Unavailable(format!(
            "the kernel limits the processes of root only in a cgroup; {how_often}"
        )),
        Limit::Processes => State::Enforced(format!("RLIMIT_NPROC, and {how_often}")),
        Limit::Memory => State::Enforced(format!("RLIMIT_DATA, and {how_often}")),
        Limit::Cpu => State::Enforced(format!("RLIMIT_CPU, and {how_often}")),
        Limit::Wall | Limit::FileSize | Limit::Output => State::Off,
    };
    let asked = [
        (Mechanism::Memory, Limit::Memory, limits.memory_bytes),
        (Mechanism::Processes, Limit::Processes, limits.processes),
        (Mechanism::ProcessorTime, Limit::Cpu, limits.cpu_ms),
    ];
    for (mechanism, limit, asked) in asked {
        if asked.is_some() && !leaf.is_some_and(|leaf| leaf.holds(limit)) {
            report.set(mechanism, state(limit));
        }
    }
    if limits.cpu_percent.is_some() && leaf.is_none() {
        let why = "only a cgroup limits the share of processor time".to_owned();
        report.set(Mechanism::ProcessorShare, State::Unavailable(why));
    }
}

/// What a tree may use, and what is known of what it does.
pub(super) struct Watch {
    started: Instant,
    wall: Option<Duration>,
    cpu: Option<Duration>,
    /// If no cgroup holds it.
    memory_bytes: Option<u64>,
    /// If no cgroup holds it.
    processes: Option<u64>,
    grace: Duration,
    leaf: Option<Leaf>,
    /// The most memory of one process that was seen to be shared or to have files behind it.
    shared_max: u64,
    is_near: bool,
    seen: Seen,
    /// When that was last different.
    active_at: Instant,
    /// How many processors the tree may use at once; none before that matters.
    processors: Option<u32>,
}

/// What shows that a tree does something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    threads: u64,
    memory: u64,
    cpu: Duration,
}

impl Watch {
    /// Watches a tree that begins now.
    pub(super) fn new(orders: &LimitOrders, leaf: Option<Leaf>) -> Self {
        let is_watched = |limit| !leaf.as_ref().is_some_and(|leaf| leaf.holds(limit));
        let started = Instant::now();
        Self {
            started,
            wall: orders.wall_ms.map(Duration::from_millis),
            cpu: orders.cpu_ms.map(Duration::from_millis),
            memory_bytes: orders.memory_bytes.filter(|_| is_watched(Limit::Memory)),
            processes: orders.processes.filter(|_| is_watched(Limit::Processes)),
            grace: Duration::from_millis(orders.grace_ms),
            leaf,
            shared_max: 0,
            is_near: false,
            seen: Seen::default(),
            active_at: started,
            processors: None,
        }
    }

    pub(super) const fn grace(&self) -> Duration {
        self.grace
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// When its time is over.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.wall.and_then(|wall| self.started.checked_add(wall))
    }

    /// After what time it must be looked at again, if it must.
    pub(super) fn look_again_after(&mut self, is_ending: bool) -> Option<Duration> {
        let is_limited =
            self.cpu.is_some() || self.memory_bytes.is_some() || self.processes.is_some();
        if is_ending {
            return Some(LOOK_EVERY);
        }
        if !is_limited && self.leaf.is_none() {
            return None;
        }
        if self.is_near {
            return Some(LOOK_EVERY_NEAR);
        }
        let quiet = self.active_at.elapsed().min(LOOK_EVERY_QUIET);
        Some(self.cpu_reached_after().map_or(quiet, |least| quiet.min(least)).max(LOOK_EVERY))
    }

    /// The least time after which the limit on processor time can be reached.
    fn cpu_reached_after(&mut self) -> Option<Duration> {
        let left = self.cpu?.saturating_sub(self.seen.cpu);
        let processors = self.processors.get_or_insert_with(|| {
            let mine = rustix::thread::sched_getaffinity(None);
            mine.map_or(u32::MAX, |mine| mine.count().max(1))
        });
        Some(left / *processors)
    }

    fn note(&mut self, seen: Seen) {
        if seen != self.seen {
            self.seen = seen;
            self.active_at = Instant::now();
        }
    }

    /// The limit that the tree has reached. `collected` is what those of it used that have ended.
    pub(super) fn reached(&mut self, collected: &Used) -> Option<Limit> {
        if self.wall.is_some_and(|wall| self.started.elapsed() >= wall) {
            return Some(Limit::Wall);
        }
        if let Some(limit) = self.leaf.as_ref().and_then(Leaf::reached) {
            return Some(limit);
        }
        let in_leaf = self.leaf.as_ref().and_then(Leaf::cpu);
        if let (Some(limit), Some(used)) = (self.cpu, in_leaf)
            && used >= limit
        {
            return Some(Limit::Cpu);
        }
        let cpu = self.cpu.filter(|_| in_leaf.is_none());
        if cpu.is_none() && self.memory_bytes.is_none() && self.processes.is_none() {
            self.note(Seen { cpu: in_leaf.unwrap_or_default(), ..Seen::default() });
            return None;
        }
        self.reached_by_looks(cpu, in_leaf, collected)
    }

    fn reached_by_looks(
        &mut self,
        cpu: Option<Duration>,
        in_leaf: Option<Duration>,
        collected: &Used,
    ) -> Option<Limit> {
        let tree = tree::uncollected(self.processes.unwrap_or(THREADS_SEEN_MAX));
        let mut memory = 0;
        if self.memory_bytes.is_some() {
            for process in &tree {
                let now = process.memory();
                memory += now.own;
                self.shared_max = self.shared_max.max(now.shared);
            }
        }
        let threads = tree.iter().map(|process| process.threads).sum::<u64>();
        let living = tree.iter().map(|process| process.cpu).sum::<Duration>();
        let used = in_leaf.unwrap_or(living + collected.user + collected.system);
        self.note(Seen { threads, memory, cpu: used });
        let is_above = |limit: Option<u64>, value| limit.is_some_and(|limit| value > limit);
        let half = |limit: Option<u64>| limit.map(|limit| limit / 2);
        self.is_near =
            is_above(half(self.processes), threads) || is_above(half(self.memory_bytes), memory);
        if is_above(self.processes, threads) {
            Some(Limit::Processes)
        } else if is_above(self.memory_bytes, memory) {
            Some(Limit::Memory)
        } else if cpu.is_some_and(|limit| used >= limit) {
            Some(Limit::Cpu)
        } else {
            None
        }
    }

    /// The limit that a tree that has ended must have reached without being seen.
    pub(super) fn reached_unseen(&self, used: &Used, is_success: bool) -> Option<Limit> {
        if let Some(limit) = self.leaf.as_ref().and_then(Leaf::reached) {
            return Some(limit);
        }
        let limit = self.memory_bytes?;
        let above_it = limit.saturating_add(UNSEEN_FILES_BYTES);
        // One process had nearly all that the kernel gives to one. That it was refused more cannot be
        // seen, nor what it did then: it may even have ended well, or be hidden behind one that did.
        let all_of_it = above_it.max(backstop(limit) / 8 * 7);
        let own = used.memory_max_bytes.saturating_sub(self.shared_max);
        let is_reached = own >= all_of_it || (!is_success && own >= above_it);
        is_reached.then_some(Limit::Memory)
    }

    /// Kills all that is in the cgroup, if there is one.
    pub(super) fn kill(&self) {
        if let Some(leaf) = &self.leaf {
            leaf.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LimitOrders, Used, Watch};
    use crate::process::ended::Limit;

    const MIB: u64 = 1 << 20;

    /// What is said of a tree that may have 64 MiB, of which one process had `peak` MiB in all, of which
    /// `shared` were seen to be shared.
    fn said(peak: u64, shared: u64, is_success: bool) -> Option<Limit> {
        let orders = LimitOrders { memory_bytes: Some(64 * MIB), ..LimitOrders::default() };
        let mut watch = Watch::new(&orders, None);
        watch.shared_max = shared * MIB;
        let used = Used { memory_max_bytes: peak * MIB, ..Used::default() };
        watch.reached_unseen(&used, is_success)
    }

    #[test]
    fn who_was_refused_memory_is_known_by_what_it_had() {
        // The kernel refuses at 128.
        assert_eq!(said(129, 0, false), Some(Limit::Memory));
        assert_eq!(said(129, 0, true), Some(Limit::Memory));
        assert_eq!(said(100, 0, false), Some(Limit::Memory));
    }

    #[test]
    fn who_maps_files_or_ends_well_is_not_blamed() {
        assert_eq!(said(60, 0, false), None);
        assert_eq!(said(90, 0, false), None);
        assert_eq!(said(100, 0, true), None);
        assert_eq!(said(1000, 990, false), None);
    }
}
