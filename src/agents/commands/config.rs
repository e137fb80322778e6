//! The settings of the commands agent (`[commands]`). They are checked where the configuration is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::Rule;
use crate::error::Error;

/// The settings of the commands agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// How many commands of a user may run at once (`max_running`).
    pub max_running: usize,
    /// How many that have ended are kept (`max_kept`).
    pub max_kept: usize,
    /// How long they are (`keep_ms`).
    pub keep: Duration,
    /// How much of the end of each stream of a command is kept, in bytes (`ring_bytes`).
    pub ring_bytes: usize,
    /// The most that a call may ask to be kept of each end of a stream, in bytes (`keep_bytes_max`).
    pub keep_bytes_max: usize,
    /// How much of each stream of a command is kept in a file, in bytes (`artifact_bytes`).
    pub artifact_bytes: u64,
    /// How much all such files of a user take together, in bytes (`artifact_total_bytes`).
    pub artifact_total_bytes: u64,
    /// How many shells of a user may be open at once (`max_shells`).
    pub max_shells: usize,
    /// After what time without use a shell is ended (`shell_idle_ms`).
    pub shell_idle: Duration,
    /// The profiles that may be asked for (`profiles`).
    pub profiles: Vec<String>,
    /// What happens if the kernel cannot enforce a profile; a call may ask for more, never for less
    /// (`confinement`).
    pub confinement: Confinement,
    /// What a program may use.
    pub limits: Limits,
    /// Who may run what, the first that matches decides (`rule`).
    pub rules: Vec<Rule>,
}

/// What happens if the kernel cannot enforce all of a profile, from the mildest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Confinement {
    /// Programs run without.
    Off,
    /// They run with what there is.
    Prefer,
    /// They do not run.
    Require,
}

impl Confinement {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Prefer => "prefer",
            Self::Require => "require",
        }
    }
}

/// What a program may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Milliseconds since its start (`wall_ms`, `max_wall_ms`).
    pub wall_ms: Bound,
    /// Milliseconds of processor time (`cpu_ms`, `max_cpu_ms`).
    pub cpu_ms: Bound,
    /// Memory (`memory_bytes`, `max_memory_bytes`).
    pub memory_bytes: Bound,
    /// Processes and threads (`processes`, `max_processes`).
    pub processes: Bound,
    /// Output and errors together (`output_bytes`, `max_output_bytes`).
    pub output_bytes: Bound,
    /// The size of a file that it writes (`file_size_bytes`, `max_file_size_bytes`).
    pub file_size_bytes: Bound,
    /// Milliseconds between being asked to end and being killed (`grace_ms`, `max_grace_ms`).
    pub grace_ms: Bound,
}

/// A limit as it is if nobody asks for another, and the most that may be asked for; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// If nobody asks.
    pub usual: u64,
    /// The most.
    pub most: u64,
}

impl Bound {
    /// What holds if `asked` is asked for in the field `field`; `key` is the setting of the most.
    ///
    /// # Errors
    /// `InvalidArgument` for 0, `LimitExceeded` for more than the most.
    pub(super) fn admit(
        self,
        asked: Option<u64>,
        field: &str,
        key: &'static str,
    ) -> Result<Option<u64>, Error> {
        match asked {
            None => {
                let none = if self.most == 0 { None } else { Some(self.most) };
                Ok(Some(self.usual).filter(|usual| *usual != 0).or(none))
            }
            Some(0) => Err(Error::invalid(field, "must be more than 0")),
            Some(asked) if self.most != 0 && asked > self.most => {
                Err(Error::limit(key, self.most, format!("{field}: {asked} is more than may be")))
            }
            Some(asked) => Ok(Some(asked)),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        const NONE: Bound = Bound { usual: 0, most: 0 };
        Self {
            max_running: 64,
            max_kept: 128,
            keep: Duration::from_secs(600),
            ring_bytes: 256 << 10,
            keep_bytes_max: 128 << 10,
            artifact_bytes: 64 << 20,
            artifact_total_bytes: 512 << 20,
            max_shells: 8,
            shell_idle: Duration::from_secs(1800),
            profiles: ["read", "build", "test", "exec", "network"].map(str::to_owned).into(),
            confinement: Confinement::Prefer,
            limits: Limits {
                wall_ms: Bound { usual: 600_000, most: 86_400_000 },
                cpu_ms: NONE,
                memory_bytes: Bound { usual: 2 << 30, most: 0 },
                processes: Bound { usual: 512, most: 0 },
                output_bytes: NONE,
                file_size_bytes: NONE,
                grace_ms: Bound { usual: 2000, most: 30_000 },
            },
            rules: Vec::new(),
        }
    }
}
