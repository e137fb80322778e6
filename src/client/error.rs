//! What can go wrong for a client: no service, or a call that failed. The transports' own errors
//! are translated into this in `grpc.rs` and `dbus.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::error::ErrorKind;
use crate::proto::opdbus::v1;

/// Why there is no answer.
///
/// ```
/// use op_dbus::client::{Error, GrpcAddress, Settings, Via, blocking};
///
/// let nowhere: GrpcAddress = "unix:/nowhere/grpc.sock".parse()?;
/// let settings = Settings { via: Via::Grpc, addresses: vec![nowhere], ..Settings::default() };
/// match blocking::AgentClient::new(&settings)?.ready() {
///     Err(Error::Unreachable(attempts)) => {
///         assert_eq!(attempts[0].target, "gRPC at unix:/nowhere/grpc.sock");
///         assert!(attempts[0].problem.contains("the service is not started"));
///     }
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub enum Error {
    /// The service could not be reached by any of these ways. Nothing was called.
    Unreachable(Vec<Attempt>),
    /// The call failed.
    Failed(Failure),
}

/// One way that was tried in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What was to be reached.
    pub target: String,
    /// Why it was not.
    pub problem: String,
}

/// A call that failed. Unlike [`crate::error::Error`] it may carry facts with names that this build
/// does not know, as an agent of another release or language gives them.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What went wrong, for programs.
    pub kind: ErrorKind,
    /// What went wrong, for people.
    pub message: String,
    /// The facts that belong to the kind. Over D-Bus there are none: they are part of the text.
    pub facts: BTreeMap<String, String>,
    /// When trying again makes sense, if the service says so.
    pub retry_after: Option<Duration>,
    /// True if the service did not say this: the answer was lost or did not come in time, so that the call
    /// may or may not have been carried out.
    pub lost: bool,
}

impl Failure {
    /// A failure that the service did not say but this side found before anything was sent, or that a
    /// program makes up.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            facts: BTreeMap::new(),
            retry_after: None,
            lost: false,
        }
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The connection broke while the answer was waited for.
    pub(super) fn lost(problem: impl fmt::Display) -> Self {
        let message = format!(
            "the connection was lost before the answer came, so that the call may or may not have \
             been carried out: {problem}"
        );
        Self { lost: true, ..Self::new(ErrorKind::Unavailable, message) }
    }

    pub(super) fn no_answer(timeout: Duration) -> Self {
        let message = format!("there was no answer within {timeout:?}");
        Self { lost: true, ..Self::new(ErrorKind::DeadlineExceeded, message) }
    }
}

impl Error {
    pub(super) fn unreachable(target: String, problem: impl Into<String>) -> Self {
        Self::Unreachable(vec![Attempt { target, problem: problem.into() }])
    }
}

impl From<crate::error::Error> for Failure {
    /// For what this side finds wrong by the same code as the service.
    fn from(error: crate::error::Error) -> Self {
        let facts = error.facts().iter().map(|(name, value)| (name.to_string(), value.clone()));
        Self {
            facts: facts.collect(),
            retry_after: error.retry_after(),
            ..Self::new(error.kind(), error.message())
        }
    }
}

impl From<crate::error::Error> for Error {
    fn from(error: crate::error::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<&v1::Failure> for Failure {
    /// A reason that this build does not know comes from a newer service and counts as internal.
    fn from(failure: &v1::Failure) -> Self {
        let kind = ErrorKind::ALL.into_iter().find(|kind| kind.reason() == failure.reason);
        Self {
            kind: kind.unwrap_or(ErrorKind::Internal),
            message: failure.message.clone(),
            facts: failure.facts.clone().into_iter().collect(),
            retry_after: failure.retry_after.and_then(|delay| Duration::try_from(delay).ok()),
            lost: false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(attempts) => {
                f.write_str("the service cannot be reached")?;
                for attempt in attempts {
                    write!(f, "\n  {}: {}", attempt.target, attempt.problem)?;
                }
                Ok(())
            }
            Self::Failed(failure) => write!(f, "{failure}"),
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
