//! What a caller says about a program that is to run. It checks nothing; [`super::Runner`] does.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use super::profile::{Access, Profile};

/// A program to run, and how.
#[derive(Debug)]
pub struct Spec {
    /// The program and its arguments. The first one is found as [`super::Running::program`] says.
    pub argv: Vec<OsString>,
    /// Where it runs.
    pub directory: Directory,
    /// Variables that it gets besides the ones of [`super::environment`].
    pub environment: Vec<(OsString, OsString)>,
    /// What its standard streams are.
    pub stdio: Stdio,
    /// What it may use.
    pub limits: Limits,
    /// What it may touch.
    pub profile: Profile,
    /// Paths that it may touch besides those of the profile.
    pub extra: Vec<Extra>,
    /// What happens if the confinement cannot be had.
    pub policy: Policy,
    /// Descriptors that it gets besides 0, 1 and 2, as 3 and so on; at most [`DESCRIPTORS_MAX`].
    pub descriptors: Vec<OwnedFd>,
}

/// How many descriptors a program may get besides its standard streams.
pub const DESCRIPTORS_MAX: usize = 4;

impl Spec {
    /// The program `argv` in the folder `directory`, without input, in the profile `exec`, with the
    /// usual limits, confined as far as the kernel can.
    pub fn new<A: Into<OsString>>(
        argv: impl IntoIterator<Item = A>,
        directory: impl Into<Directory>,
    ) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            directory: directory.into(),
            environment: Vec::new(),
            stdio: Stdio::Null,
            limits: Limits::default(),
            profile: Profile::Exec,
            extra: Vec::new(),
            policy: Policy::Prefer,
            descriptors: Vec::new(),
        }
    }
}

/// Where a program runs.
#[derive(Debug)]
pub enum Directory {
    /// This folder, whatever links lead to it.
    Path(PathBuf),
    /// A path that must stay beneath an open folder, whatever links are in it.
    Beneath(OwnedFd, PathBuf),
}

impl<P: Into<PathBuf>> From<P> for Directory {
    fn from(path: P) -> Self {
        Self::Path(path.into())
    }
}

/// A path that a program may touch besides those of its profile. It must exist.
#[derive(Clone, Debug)]
pub struct Extra {
    /// A file, or a folder with all that is in it.
    pub path: PathBuf,
    /// What the program may do there.
    pub access: Access,
}

/// What the standard streams of a program are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdio {
    /// An input that is at its end; a pipe each for output and errors.
    Null,
    /// A pipe each for input, output and errors.
    Piped,
    /// A terminal of this size for all three, which is the program's controlling terminal.
    Terminal(WindowSize),
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// What happens if the kernel lacks a part of the confinement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Nothing runs.
    Require,
    /// The program runs with what there is, and the report says what is missing.
    #[default]
    Prefer,
    /// The program runs with its limits but without confinement.
    Off,
}

/// What a program and all that it starts may use. What is `None` is not limited.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Time since the start.
    pub wall: Option<Duration>,
    /// Processor time of the whole tree, rounded up to seconds for a single process.
    pub cpu: Option<Duration>,
    /// The share of processor time of the whole tree, in percent of one processor. It slows the tree
    /// down and ends nothing; it is held only in a cgroup, and the report says whether.
    pub cpu_percent: Option<u32>,
    /// Memory of the whole tree that is not backed by files. In a cgroup it is exact. Without one the
    /// tree is looked at often, and no process gets twice as much; then the limit is named if the tree
    /// was seen above it, and at its end if one process must have been. What cannot be known is that
    /// a program was refused more at once than it ever used.
    pub memory_bytes: Option<u64>,
    /// Processes and threads at the same time, with those that have ended and wait to be collected. In
    /// a cgroup it is exact. Without one, what was more for a moment between two looks is not known.
    pub processes: Option<u32>,
    /// Open descriptors of one process.
    pub open_files: u64,
    /// Size of any one file that it writes.
    pub file_size_bytes: Option<u64>,
    /// Output and errors together.
    pub output_bytes: Option<u64>,
    /// How long the tree has between being asked to end and being killed.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall: Some(Duration::from_secs(600)),
            cpu: None,
            cpu_percent: None,
            memory_bytes: Some(2 << 30),
            processes: Some(512),
            open_files: 1024,
            file_size_bytes: None,
            output_bytes: None,
            grace: Duration::from_secs(2),
        }
    }
}
