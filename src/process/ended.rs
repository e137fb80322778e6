//! How a program ended, and what it used. It waits for nothing.

use std::time::Duration;

use super::output::Kept;
use super::spec::Limits;
use super::wire::EndedNews;
use crate::error::{Error, ErrorKind};

/// How a program and its tree ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How the program itself ended.
    pub exit: Exit,
    /// The limit for which the tree was ended.
    pub limit: Option<Limit>,
    /// True if the caller asked for the end.
    pub stopped: bool,
    /// Time from the start to the end of the whole tree.
    pub wall: Duration,
    /// What the whole tree used.
    pub usage: Usage,
    /// Processes that were alive when the program itself ended, and were killed.
    pub left_behind: u32,
    /// Processes that the kernel did not end in time after they were killed.
    pub unkillable: u32,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// What a tree of processes used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in the programs.
    pub user: Duration,
    /// Processor time in the kernel for the programs.
    pub system: Duration,
    /// The most memory that any one process had.
    pub memory_max_bytes: u64,
}

/// A limit of [`super::Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Time since the start.
    Wall,
    /// Processor time.
    Cpu,
    /// Memory.
    Memory,
    /// Processes and threads.
    Processes,
    /// The size of a file.
    FileSize,
    /// Output and errors together.
    Output,
}

impl Limit {
    const ALL: [Self; 6] =
        [Self::Wall, Self::Cpu, Self::Memory, Self::Processes, Self::FileSize, Self::Output];

    /// The name of the field of [`super::Limits`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wall => "limits.wall",
            Self::Cpu => "limits.cpu",
            Self::Memory => "limits.memory_bytes",
            Self::Processes => "limits.processes",
            Self::FileSize => "limits.file_size_bytes",
            Self::Output => "limits.output_bytes",
        }
    }

    /// The number on the wire; 0 is no limit.
    pub(super) const fn number(limit: Option<Self>) -> u32 {
        match limit {
            None => 0,
            Some(limit) => limit as u32 + 1,
        }
    }

    pub(super) fn of_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|limit| Self::number(Some(*limit)) == number)
    }
}

impl From<EndedNews> for Ended {
    fn from(news: EndedNews) -> Self {
        let exit = match (news.code, news.signal) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or_default()),
        };
        Self {
            exit,
            limit: Limit::of_number(news.limit),
            stopped: news.stopped,
            wall: Duration::from_micros(news.wall_us),
            usage: Usage {
                user: Duration::from_micros(news.user_us),
                system: Duration::from_micros(news.system_us),
                memory_max_bytes: news.memory_max_bytes,
            },
            left_behind: news.left_behind,
            unkillable: news.unkillable,
        }
    }
}

/// A program that has ended, with what was kept of its output.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub ended: Ended,
    /// Its output; of a terminal also its errors.
    pub stdout: Kept,
    /// Its errors.
    pub stderr: Kept,
    /// The limits that it ran under.
    pub limits: Limits,
}

impl Finished {
    /// True if the program ended by itself with code 0, and met no limit.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.ended.exit == Exit::Code(0) && self.ended.limit.is_none()
    }

    /// The limit for which the program was ended, as an error. What it had written until then is in
    /// this value.
    ///
    /// # Errors
    ///
    /// `DeadlineExceeded` for the time since the start, `LimitExceeded` for any other limit.
    pub fn within_limits(&self) -> Result<(), Error> {
        let Some(limit) = self.ended.limit else { return Ok(()) };
        let text = "the program was ended at a limit";
        let or_none =
            |value: Option<u64>| value.map_or("none".to_owned(), |value| value.to_string());
        let value = match limit {
            Limit::Wall => {
                let wall = self.limits.wall.unwrap_or_default();
                return Err(Error::new(
                    ErrorKind::DeadlineExceeded,
                    format!("the program was ended after {wall:?} ({})", limit.name()),
                )
                .with_fact("limit", limit.name()));
            }
            Limit::Cpu => format!("{:?}", self.limits.cpu.unwrap_or_default()),
            Limit::Memory => or_none(self.limits.memory_bytes),
            Limit::Processes => or_none(self.limits.processes.map(u64::from)),
            Limit::FileSize => or_none(self.limits.file_size_bytes),
            Limit::Output => or_none(self.limits.output_bytes),
        };
        Err(Error::limit(limit.name(), value, text))
    }
}
