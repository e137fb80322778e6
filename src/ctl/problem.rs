//! What can go wrong in the command, how it is told and which exit code it has.

use std::io;
use std::io::Write as _;
use std::process::ExitCode;

use serde_json::json;

use super::output::{Output, clean};
use crate::client::{Attempt, Error, Failure};
use crate::error::ErrorKind;

/// The call failed.
pub(super) const FAILED: u8 = 1;
/// The command line is wrong.
pub(super) const USAGE: u8 = 2;
/// The service runs, but something is wrong with it.
pub(super) const DEGRADED: u8 = 3;
/// The task goes on.
pub(super) const UNFINISHED: u8 = 3;
/// Something keeps clients from moving to gRPC.
pub(super) const BLOCKED: u8 = 3;
/// The service cannot be reached.
pub(super) const UNREACHABLE: u8 = 4;
/// `run`: what is wrong is not the program's fault. The code is the one of `env(1)` and its like.
pub(super) const NOT_RUN: u8 = 125;

/// Why the command cannot do what was asked.
#[derive(Debug)]
pub(super) enum Problem {
    /// The command line is wrong; the second text says what would be right.
    Usage(String, String),
    /// The service cannot be reached, or the call failed.
    Service(Error),
    /// Something on this machine is in the way.
    Local(String),
    /// The output cannot be written or the input cannot be read.
    Io(io::Error),
}

impl Problem {
    pub(super) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage(message.into(), hint.into())
    }

    /// Tells the problem and gives the exit code.
    pub(super) fn report(&self, output: &mut Output) -> ExitCode {
        if let Self::Io(error) = self
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            return ExitCode::SUCCESS;
        }
        let told = if output.json() { self.tell_json(output) } else { self.tell(output) };
        // When even this cannot be written, the exit code is what is left to say.
        drop(told);
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        match self {
            Self::Usage(..) => USAGE,
            Self::Service(Error::Unreachable(_)) => UNREACHABLE,
            Self::Service(Error::Failed(_)) | Self::Local(_) | Self::Io(_) => FAILED,
        }
    }

    fn tell(&self, output: &mut Output) -> io::Result<()> {
        output.flush()?;
        let mut stderr = io::stderr().lock();
        let paint = output.error_paint();
        writeln!(stderr, "{} {}", paint.red("error:"), clean(&self.message()))?;
        if let Self::Service(Error::Failed(failure)) = self {
            writeln!(stderr, "kind: {}", failure.kind.reason())?;
            for (name, value) in &failure.facts {
                writeln!(stderr, "{}: {}", clean(name), clean(value))?;
            }
        }
        for hint in self.hints() {
            writeln!(stderr, "{} {hint}", paint.bold("hint:"))?;
        }
        Ok(())
    }

    fn tell_json(&self, output: &mut Output) -> io::Result<()> {
        let mut error = json!({ "kind": self.kind(), "message": self.message(), "facts": {} });
        match self {
            Self::Service(Error::Failed(failure)) => {
                error["facts"] = json!(failure.facts);
                if let Some(delay) = failure.retry_after {
                    error["retry_after_ms"] = json!(delay.as_millis());
                }
            }
            Self::Service(Error::Unreachable(attempts)) => {
                error["tried"] = attempts
                    .iter()
                    .map(
                        |Attempt { target, problem }| json!({"target": target, "problem": problem}),
                    )
                    .collect();
            }
            Self::Usage(..) | Self::Local(_) | Self::Io(_) => {}
        }
        output.line(&json!({ "error": error }).to_string())?;
        output.flush()
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Usage(..) => "USAGE",
            Self::Service(Error::Unreachable(_)) => "UNREACHABLE",
            Self::Service(Error::Failed(failure)) => failure.kind.reason(),
            Self::Local(_) | Self::Io(_) => "LOCAL",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Usage(message, _) | Self::Local(message) => message.clone(),
            Self::Service(error) => error.to_string(),
            Self::Io(error) => error.to_string(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Usage(_, hint) if hint.is_empty() => Vec::new(),
            Self::Usage(_, hint) => vec![hint.clone()],
            Self::Service(Error::Unreachable(_)) => vec![
                "is the service running? systemctl status op-dbus".to_owned(),
                "is this user in the group op-dbus, which may open the socket? id -nG".to_owned(),
                "another place: --address unix:/PATH, --bus session, --config FILE".to_owned(),
            ],
            Self::Service(Error::Failed(failure)) => hint_for(failure).into_iter().collect(),
            Self::Local(_) | Self::Io(_) => Vec::new(),
        }
    }
}

/// What to do next about a failed call.
fn hint_for(failure: &Failure) -> Option<String> {
    let hint = match failure.kind {
        ErrorKind::UnknownAgent => "op-dbusctl agents lists the agents",
        ErrorKind::UnknownOperation => "op-dbusctl describe AGENT lists the operations",
        ErrorKind::InvalidArgument => {
            "op-dbusctl describe AGENT OPERATION shows what the operation takes"
        }
        ErrorKind::DeadlineExceeded => "--timeout gives the call more time",
        // Over D-Bus the facts are part of the text, here and below.
        ErrorKind::AccessDenied if failure.message.contains("[worker] min_uid") => {
            "call as an ordinary user, or let the administrator change [worker] min_uid in \
             /etc/op-dbus/grpc.toml"
        }
        ErrorKind::AccessDenied if failure.message.contains("ExecShell takes texts") => {
            "op-dbusctl call commands ExecShell gives the text to a shell, if the policy lets you"
        }
        ErrorKind::AccessDenied | ErrorKind::Unauthenticated => {
            let denied = failure.message.strip_suffix(" is not allowed");
            let (agent, operation) =
                denied.and_then(|name| name.split_once('.')).unwrap_or(("AGENT", "OPERATION"));
            return Some(format!(
                "the service's policy decides who may call: op-dbusctl policy explain \"$USER\" {agent} \
                 {operation} tells the rule"
            ));
        }
        ErrorKind::ApprovalRequired if failure.message.contains("authenticate") => {
            "call --interactive lets polkit ask you, where it has an agent to do so"
        }
        ErrorKind::ApprovalRequired => {
            "somebody else decides with op-dbusctl approvals; then repeat the call with --approval-id"
        }
        ErrorKind::NotFound if failure.message.starts_with("there is no approval") => {
            "an approval is used up by one call, and expires; a call without --approval-id asks anew"
        }
        ErrorKind::Migrated => "--via grpc takes the other way",
        ErrorKind::Internal => "the service's log may say more: journalctl -u op-dbus",
        // A limit that time does not lift comes without a time.
        ErrorKind::LimitExceeded if failure.retry_after.is_none() => return None,
        ErrorKind::LimitExceeded | ErrorKind::Unavailable | ErrorKind::BackendUnavailable => {
            return Some(match failure.retry_after {
                Some(delay) => format!("try again in {delay:?}"),
                None => "try again later".to_owned(),
            });
        }
        ErrorKind::AlreadyExists
        | ErrorKind::BackendFailed
        | ErrorKind::BackendMissing
        | ErrorKind::Cancelled
        | ErrorKind::Conflict
        | ErrorKind::NotFound
        | ErrorKind::PathOutsideRoot
        | ErrorKind::SandboxUnavailable => return None,
    };
    Some(hint.to_owned())
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Service(error)
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
