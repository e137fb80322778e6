//! How the process ends: the exit codes, and the text of a failed start.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use crate::error::{Error, ErrorKind};
use crate::events;

/// The exit codes. Those of failures are from `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The service was asked to stop and did, or what was asked for is shown.
    Success = 0,
    /// The command line is wrong.
    Usage = 64,
    /// A fault of op-dbus itself.
    Internal = 70,
    /// The operating system refused something basic.
    Os = 71,
    /// The folder for state cannot be created or used.
    State = 73,
    /// A transport cannot start now; trying again later may help.
    Temporary = 75,
    /// A permission is missing.
    Permission = 77,
    /// The configuration is wrong.
    Config = 78,
    /// A second signal came while calls were still running, and they were cut off.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why the service could not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What failed and why, as sentences, the general one first.
    pub text: String,
}

impl Failure {
    /// `what` failed because of `why`.
    pub fn new(exit: Exit, what: impl Display, why: impl Display) -> Self {
        Self { exit, text: format!("{what}: {why}") }
    }

    /// The configuration is wrong.
    pub fn config(what: impl Display, why: impl Display) -> Self {
        Self::new(Exit::Config, what, why)
    }

    /// The operating system refused something basic.
    pub fn os(what: impl Display, error: &std::io::Error) -> Self {
        Self::new(Exit::Os, what, error)
    }

    /// A part of the service could not start; `otherwise` is the exit code unless the error's kind
    /// has one of its own.
    pub fn part(what: impl Display, error: &Error, otherwise: Exit) -> Self {
        let own = [
            (ErrorKind::AccessDenied, Exit::Permission),
            (ErrorKind::Internal, Exit::Internal),
            (ErrorKind::InvalidArgument, Exit::Config),
        ];
        let exit = own.into_iter().find(|(kind, _)| *kind == error.kind());
        let exit = exit.map_or(otherwise, |(_, exit)| exit);
        Self::new(exit, what, error)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn then(mut self, next_step: impl Display) -> Self {
        self.text = format!("{}\n{next_step}", self.text);
        self
    }

    /// Writes the text to standard error, which systemd shows whatever the log's target is, and into
    /// the journal, so that `journalctl -x` explains it.
    pub(super) fn report(&self) -> Exit {
        // Without standard error there is nobody left to tell.
        writeln!(std::io::stderr(), "op-dbusd: {}", self.text).ok();
        if super::logging::to_journal() {
            tracing::error!(
                message_id = events::START_FAILED,
                exit_code = self.exit as u8,
                "op-dbus could not start: {}",
                self.text
            );
        }
        self.exit
    }
}
