//! The comparison of both ways while a part of the calls takes gRPC: what it counts and what that says.
//! What is done about it is not decided here.
//!
//! Every operation is compared with itself, since clients that take gRPC may call others than those that
//! take D-Bus. That makes many tests of one; the k-th operation gets `1 / (k (k + 1))` of the error
//! probability, which adds up to all of it. Half of that is for what was seen since the beginning, half for
//! what was seen lately, see [`shares`]. So a rule whose operations are over gRPC no worse than over D-Bus
//! by the margins is taken back with a probability of at most [`ERROR_PROBABILITY`], for as long as it
//! stays at its share, and however long that is. The bounds are those of [`sequential`].

mod sequential;
mod shares;

use std::collections::HashMap;
use std::time::Duration;

use super::rule::Margins;
use crate::call::Transport;
use crate::error::ErrorKind;
use crate::migration::ledger::Histogram;
use crate::proto::opdbus::v1::CanaryState;

pub use sequential::Tally;
use shares::{Alpha, Shares, Worse};

/// With what probability a rule is at most taken back although gRPC is no worse.
pub const ERROR_PROBABILITY: f64 = 0.01;

/// Each operation is compared by errors and by slowness, and each comparison has a bound on either way.
const BOUNDS: f64 = 4.0;

/// Of the windows the bounds over gRPC alone count: those over D-Bus are no less than that of all calls.
const WINDOW_BOUNDS: f64 = 2.0;

/// How many more calls of a hundred may be slow over gRPC: what lies beyond a 99th percentile.
const SLOW_MARGIN: f64 = 0.01;

/// The part of calls of which the slowest ones lie beyond.
const PERCENTILE: f64 = 0.99;

/// Calls that take less are never slow: so much is the machine's own noise.
const SLOW_AT_LEAST: Duration = Duration::from_millis(1);

/// What a call has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// True if it failed by the service's or the way's fault.
    pub failed: bool,
    /// How long it took; `None` if that says nothing, as of a stream.
    pub time: Option<Duration>,
    /// True if its client gave it up, which says something only if it was slow.
    pub given_up: bool,
}

/// What both ways have shown so far.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    margins: Margins,
    /// In the order in which they were first called.
    operations: Vec<Compared>,
    /// Where they are, by path on gRPC.
    places: HashMap<String, usize>,
    all: [Whole; Transport::ALL.len()],
}

/// All calls over one way.
#[derive(Clone, Debug, Default)]
struct Whole {
    failed: Tally,
    times: Histogram,
}

/// One operation.
#[derive(Clone, Debug)]
struct Compared {
    /// As `memory.Recall`.
    name: String,
    failed: Shares,
    slow: Shares,
    /// The times over D-Bus, until it is known what is slow.
    times: Histogram,
    slow_above: Option<Duration>,
}

/// What the comparison says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There were too few calls to say anything.
    TooFew(String),
    /// Nothing speaks against gRPC, and nothing is certain yet.
    NoSign(String),
    /// gRPC fails no more often than the margin allows.
    NoWorse(String),
    /// gRPC is worse.
    Worse(String),
}

impl Verdict {
    /// In words.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::TooFew(text) | Self::NoSign(text) | Self::NoWorse(text) | Self::Worse(text) => {
                text
            }
        }
    }

    /// Why no further step should be taken.
    #[must_use]
    pub fn blocks(&self) -> Option<&str> {
        match self {
            Self::TooFew(text) | Self::Worse(text) => Some(text),
            Self::NoSign(_) | Self::NoWorse(_) => None,
        }
    }
}

impl Shown {
    /// What a call has shown that ended after `time`; `None` if nothing. `lasts`: it is one that takes as
    /// long as its client likes.
    #[must_use]
    pub(super) fn of(error: Option<ErrorKind>, time: Duration, lasts: bool) -> Option<Self> {
        let time = Some(time).filter(|_| !lasts);
        let (failed, given_up) = match error {
            None => (false, false),
            Some(ErrorKind::Cancelled) => (false, true),
            Some(kind) => (is_fault(kind), false),
        };
        // A call that was turned away for its client's fault was not made at all.
        let was_made = error.is_none() || failed || given_up;
        was_made.then_some(Self { failed, time, given_up })
    }
}

/// True for errors that are the service's fault or that of the way, and not the client's.
const fn is_fault(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::BackendFailed
        | ErrorKind::BackendMissing
        | ErrorKind::BackendUnavailable
        | ErrorKind::DeadlineExceeded
        | ErrorKind::Internal
        | ErrorKind::SandboxUnavailable
        | ErrorKind::Unavailable => true,
        ErrorKind::AccessDenied
        | ErrorKind::AlreadyExists
        | ErrorKind::ApprovalRequired
        | ErrorKind::Cancelled
        | ErrorKind::Conflict
        | ErrorKind::InvalidArgument
        | ErrorKind::LimitExceeded
        | ErrorKind::Migrated
        | ErrorKind::NotFound
        | ErrorKind::PathOutsideRoot
        | ErrorKind::Unauthenticated
        | ErrorKind::UnknownAgent
        | ErrorKind::UnknownOperation => false,
    }
}

impl Comparison {
    /// A comparison in which nothing was seen.
    #[must_use]
    pub(super) fn new(margins: Margins) -> Self {
        Self { margins, operations: Vec::new(), places: HashMap::new(), all: Default::default() }
    }

    /// The same with what D-Bus has shown and nothing of gRPC, for when hardly any call takes D-Bus.
    #[must_use]
    pub(super) fn with_dbus_of(mut self) -> Self {
        self.all[Transport::Grpc.index()] = Whole::default();
        for operation in &mut self.operations {
            operation.failed = operation.failed.of_dbus();
            operation.slow = operation.slow.of_dbus();
        }
        self
    }

    /// Has other margins hold from here on.
    pub(super) fn set_margins(&mut self, margins: Margins) {
        self.margins = margins;
    }

    /// Adds what a call over `way` has shown of the operation at `path`, which is called `agent.name`.
    pub(super) fn add(
        &mut self,
        path: &str,
        (agent, name): (&str, &str),
        way: Transport,
        shown: Shown,
    ) {
        let learn_after = self.margins.min_calls;
        let margin = self.margins.latency;
        let way = way.index();
        let operation = self.operation(path, agent, name);
        let is_slow = shown.time.zip(operation.slow_above).map(|(time, above)| time > above);
        if shown.given_up && is_slow != Some(true) {
            return;
        }
        operation.failed.add(way, 1, shown.failed);
        if let Some(is_slow) = is_slow {
            operation.slow.add(way, 1, is_slow);
        } else if let Some(time) = shown.time
            && way == Transport::Dbus.index()
        {
            operation.times.add(time);
            operation.learn(learn_after, margin);
        }
        self.all[way].failed.add(1, shown.failed);
        if let Some(time) = shown.time {
            self.all[way].times.add(time);
        }
    }

    /// Adds calls that never reached the service.
    pub(super) fn add_lost(&mut self, path: &str, names: (&str, &str), way: Transport, calls: u64) {
        self.operation(path, names.0, names.1).failed.add(way.index(), calls, true);
        self.all[way.index()].failed.add(calls, true);
    }

    fn operation(&mut self, path: &str, agent: &str, name: &str) -> &mut Compared {
        let place = match self.places.get(path) {
            Some(place) => *place,
            None => {
                self.operations.push(Compared::new(format!("{agent}.{name}")));
                self.places.insert(path.to_owned(), self.operations.len() - 1);
                self.operations.len() - 1
            }
        };
        &mut self.operations[place]
    }

    /// What is to be said of it now.
    #[must_use]
    pub(super) fn verdict(&self) -> Verdict {
        let [dbus, grpc] = &self.all;
        let least = self.margins.min_calls;
        for (way, seen) in [("gRPC", grpc), ("D-Bus", dbus)] {
            if seen.failed.calls < least {
                let calls = seen.failed.calls;
                return Verdict::TooFew(format!("too few calls over {way}: {calls} of {least}"));
            }
        }
        let worse = |(place, it): (usize, &Compared)| it.worse(place + 1, &self.margins);
        if let Some(worse) = self.operations.iter().enumerate().find_map(worse) {
            return Verdict::Worse(worse);
        }
        let alpha = ERROR_PROBABILITY / BOUNDS;
        let more = grpc.failed.at_most(alpha) - dbus.failed.at_least(alpha);
        if more < self.margins.error {
            return Verdict::NoWorse("no worse".to_owned());
        }
        Verdict::NoSign(format!(
            "no sign of worse; up to {:.1} % more calls could fail",
            more.min(1.0) * 100.0
        ))
    }

    /// It as clients are told it.
    #[must_use]
    pub(super) fn describe(&self) -> CanaryState {
        let [dbus, grpc] = &self.all;
        let p99 = |whole: &Whole| {
            let time = whole.times.quantile(PERCENTILE)?;
            prost_types::Duration::try_from(time).ok()
        };
        CanaryState {
            dbus_calls: dbus.failed.calls,
            dbus_errors: dbus.failed.bad,
            grpc_calls: grpc.failed.calls,
            grpc_errors: grpc.failed.bad,
            dbus_p99: p99(dbus),
            grpc_p99: p99(grpc),
            verdict: self.verdict().text().to_owned(),
        }
    }
}

impl Compared {
    fn new(name: String) -> Self {
        Self {
            name,
            failed: Shares::default(),
            slow: Shares::default(),
            times: Histogram::default(),
            slow_above: None,
        }
    }

    /// Fixes what is slow once enough calls over D-Bus were seen. Only calls after that are counted, since
    /// a line that is drawn through calls says nothing about these.
    fn learn(&mut self, after: u64, margin: f64) {
        if self.times.count() >= after
            && let Some(time) = self.times.quantile(PERCENTILE)
        {
            let above = Duration::try_from_secs_f64(time.as_secs_f64() * margin);
            self.slow_above = Some(above.unwrap_or(Duration::MAX).max(SLOW_AT_LEAST));
        }
    }

    /// In what gRPC is worse. `number`: how many operations were called before it, and itself.
    fn worse(&self, number: usize, margins: &Margins) -> Option<String> {
        let number = number as f64;
        let half = ERROR_PROBABILITY / 2.0 / (number * (number + 1.0));
        let alpha = Alpha { all: half / BOUNDS, windows: half / WINDOW_BOUNDS };
        let compare = |shares: &Shares, margin: f64, what: &str| {
            let Worse { dbus, grpc, is_late } = shares.worse(alpha, margin, margins.min_calls)?;
            let last = if is_late { "the last " } else { "" };
            Some(format!(
                "worse: of {last}{} calls of {} over gRPC {} {what}, over D-Bus {} of {}",
                grpc.calls, self.name, grpc.bad, dbus.bad, dbus.calls
            ))
        };
        let slow_above = self.slow_above.unwrap_or_default();
        let slow = format!("took more than {} ms", slow_above.as_secs_f64() * 1000.0);
        compare(&self.failed, margins.error, "failed")
            .or_else(|| compare(&self.slow, SLOW_MARGIN, &slow))
    }
}

#[cfg(test)]
mod tests;
