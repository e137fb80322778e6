//! What of the confinement was enforced. It enforces nothing itself.

use std::fmt;

/// A mechanism of the confinement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// Capabilities are given up and cannot be gained again.
    Capabilities,
    /// A set-user-id program gives no rights.
    NoNewPrivileges,
    /// Only the files of the profile (Landlock).
    Files,
    /// Nothing outside of the program's own tree can be signalled, nor reached by abstract sockets
    /// (Landlock).
    Scope,
    /// Only the sockets of the profile (seccomp).
    Sockets,
    /// System calls that a confined program has no use for are refused (seccomp).
    SystemCalls,
    /// A cgroup of its own, by which all of the tree is killed at once.
    Cgroup,
    /// The limit on memory.
    Memory,
    /// The limit on processes and threads.
    Processes,
    /// The limit on processor time.
    ProcessorTime,
    /// The limit on the share of processor time.
    ProcessorShare,
}

impl Mechanism {
    /// Every mechanism, in the order of the report.
    pub const ALL: [Self; 11] = [
        Self::Capabilities,
        Self::NoNewPrivileges,
        Self::Files,
        Self::Scope,
        Self::Sockets,
        Self::SystemCalls,
        Self::Cgroup,
        Self::Memory,
        Self::Processes,
        Self::ProcessorTime,
        Self::ProcessorShare,
    ];

    /// The name for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Capabilities => "capabilities",
            Self::NoNewPrivileges => "no_new_privileges",
            Self::Files => "files",
            Self::Scope => "scope",
            Self::Sockets => "sockets",
            Self::SystemCalls => "system_calls",
            Self::Cgroup => "cgroup",
            Self::Memory => "memory",
            Self::Processes => "processes",
            Self::ProcessorTime => "processor_time",
            Self::ProcessorShare => "processor_share",
        }
    }

    /// True if [`super::Policy::Require`] refuses to run without it. The limits have other means where
    /// there is no cgroup, so a missing cgroup refuses nothing.
    #[must_use]
    pub const fn is_required(self) -> bool {
        match self {
            Self::Capabilities
            | Self::NoNewPrivileges
            | Self::Files
            | Self::Scope
            | Self::Sockets
            | Self::SystemCalls => true,
            Self::Cgroup
            | Self::Memory
            | Self::Processes
            | Self::ProcessorTime
            | Self::ProcessorShare => false,
        }
    }
}

/// How it stands with a mechanism.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It holds; the text says by what.
    Enforced(String),
    /// It does not hold, or only in part; the text says why.
    Unavailable(String),
    /// Neither the profile nor the policy nor a limit asks for it.
    Off,
}

/// How it stands with each mechanism.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(Vec<(Mechanism, State)>);

impl Report {
    /// Sets the state of `mechanism`.
    pub(super) fn set(&mut self, mechanism: Mechanism, state: State) {
        match self.0.iter_mut().find(|(of, _)| *of == mechanism) {
            Some((_, old)) => *old = state,
            None => self.0.push((mechanism, state)),
        }
    }

    /// How it stands with `mechanism`.
    #[must_use]
    pub fn state(&self, mechanism: Mechanism) -> &State {
        self.0.iter().find(|(of, _)| *of == mechanism).map_or(&State::Off, |(_, state)| state)
    }

    /// Every mechanism with its state.
    pub fn iter(&self) -> impl Iterator<Item = (Mechanism, &State)> {
        Mechanism::ALL.into_iter().map(|mechanism| (mechanism, self.state(mechanism)))
    }

    /// The mechanisms that are missing although [`super::Policy::Require`] asks for them, with reasons.
    #[must_use]
    pub fn missing(&self) -> Vec<(Mechanism, &str)> {
        let required = self.0.iter().filter(|(mechanism, _)| mechanism.is_required());
        required
            .filter_map(|(mechanism, state)| match state {
                State::Unavailable(why) => Some((*mechanism, why.as_str())),
                State::Enforced(_) | State::Off => None,
            })
            .collect()
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enforced(by) => write!(f, "enforced: {by}"),
            Self::Unavailable(why) => write!(f, "not available: {why}"),
            Self::Off => f.write_str("off"),
        }
    }
}
