//! The one error type of op-dbus: a closed kind for programs, a text for people, and the facts that
//! belong to the kind. It knows nothing of D-Bus or gRPC; each transport maps the kinds in its own
//! exhaustive table.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// What went wrong, for programs. Closed: every transport names every kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The caller may not do this.
    AccessDenied,
    /// Something with this name is there already.
    AlreadyExists,
    /// Somebody must approve this first.
    ApprovalRequired,
    /// A program or service ran and broke.
    BackendFailed,
    /// A program or service is not installed.
    BackendMissing,
    /// A program or service does not answer; trying again may help.
    BackendUnavailable,
    /// The client gave the call up.
    Cancelled,
    /// The state is not the one that the caller named; the error says which it is.
    Conflict,
    /// The time for the call was over.
    DeadlineExceeded,
    /// A fault of op-dbus itself.
    Internal,
    /// A field or argument is wrong; the error names it.
    InvalidArgument,
    /// A rate, quota, queue or size limit was reached; the error names it and its value.
    LimitExceeded,
    /// The operation is no longer served on D-Bus.
    Migrated,
    /// The object named in the request is not there.
    NotFound,
    /// A path leads out of its root.
    PathOutsideRoot,
    /// The isolation that was asked for cannot be had here.
    SandboxUnavailable,
    /// Nobody vouches for the caller.
    Unauthenticated,
    /// The service is stopping or overloaded; trying again may help.
    Unavailable,
    /// There is no such agent.
    UnknownAgent,
    /// The agent has no such operation.
    UnknownOperation,
}

impl ErrorKind {
    /// Every kind, sorted.
    pub const ALL: [Self; 20] = [
        Self::AccessDenied,
        Self::AlreadyExists,
        Self::ApprovalRequired,
        Self::BackendFailed,
        Self::BackendMissing,
        Self::BackendUnavailable,
        Self::Cancelled,
        Self::Conflict,
        Self::DeadlineExceeded,
        Self::Internal,
        Self::InvalidArgument,
        Self::LimitExceeded,
        Self::Migrated,
        Self::NotFound,
        Self::PathOutsideRoot,
        Self::SandboxUnavailable,
        Self::Unauthenticated,
        Self::Unavailable,
        Self::UnknownAgent,
        Self::UnknownOperation,
    ];

    /// The name in `google.rpc.ErrorInfo.reason`, in metrics and in logs.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::AccessDenied => "ACCESS_DENIED",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::ApprovalRequired => "APPROVAL_REQUIRED",
            Self::BackendFailed => "BACKEND_FAILED",
            Self::BackendMissing => "BACKEND_MISSING",
            Self::BackendUnavailable => "BACKEND_UNAVAILABLE",
            Self::Cancelled => "CANCELLED",
            Self::Conflict => "CONFLICT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Internal => "INTERNAL",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::LimitExceeded => "LIMIT_EXCEEDED",
            Self::Migrated => "MIGRATED",
            Self::NotFound => "NOT_FOUND",
            Self::PathOutsideRoot => "PATH_OUTSIDE_ROOT",
            Self::SandboxUnavailable => "SANDBOX_UNAVAILABLE",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Unavailable => "UNAVAILABLE",
            Self::UnknownAgent => "UNKNOWN_AGENT",
            Self::UnknownOperation => "UNKNOWN_OPERATION",
        }
    }

    /// The position in [`ErrorKind::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// True if the same call may succeed later, and had no effect this time.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::BackendUnavailable | Self::LimitExceeded | Self::Unavailable)
    }
}

/// An error: what kind, a text, and the facts that a program may want.
///
/// The text is for people and may change; programs look at [`Error::kind`] and [`Error::facts`].
#[derive(Clone, Debug)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    facts: Vec<(Cow<'static, str>, String)>,
    retry_after: Option<Duration>,
    refused_by: Option<Cow<'static, str>>,
}

impl Error {
    /// An error of a kind with a text for people.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            facts: Vec::new(),
            retry_after: None,
            refused_by: None,
        }))
    }

    /// The field or argument `field` is wrong. The text begins with the field's name.
    pub fn invalid(field: impl Into<String>, problem: impl fmt::Display) -> Self {
        let field = field.into();
        Self::new(ErrorKind::InvalidArgument, format!("{field}: {problem}"))
            .with_fact("field", field)
    }

    /// The limit `limit` (a configuration key where it has one), whose value is `value`, was reached.
    pub fn limit(
        limit: &'static str,
        value: impl fmt::Display,
        problem: impl fmt::Display,
    ) -> Self {
        Self::new(ErrorKind::LimitExceeded, format!("{problem} ({limit} is {value})"))
            .with_fact("limit", limit)
            .with_fact("limit_value", value.to_string())
    }

    /// Somebody must approve the call first; `preview` says what it would do, to whoever is to decide.
    /// For calls without [`crate::call::Context::approved`], before anything was done.
    pub fn approval_required(preview: impl Into<String>) -> Self {
        Self::new(ErrorKind::ApprovalRequired, "somebody else must approve this call first")
            .with_fact("preview", preview)
    }

    /// A fault of op-dbus itself.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Adds a fact for programs: it travels in `ErrorInfo.metadata` on gRPC and in the text on D-Bus.
    #[must_use]
    pub fn with_fact(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> Self {
        self.0.facts.push((name.into(), value.into()));
        self
    }

    /// Says when trying again makes sense.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Says that the call was turned away before anything was done for it, and by which rule. That is for
    /// the audit log: no transport tells it.
    #[must_use]
    pub fn refused_by(mut self, rule: impl Into<Cow<'static, str>>) -> Self {
        self.0.refused_by = Some(rule.into());
        self
    }

    /// The rule that turned the call away before anything was done for it.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.0.refused_by.as_deref()
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The text for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The facts for programs, in the order in which they were added.
    #[must_use]
    pub fn facts(&self) -> &[(Cow<'static, str>, String)] {
        &self.0.facts
    }

    /// The fact `name`, if the error has it.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.0.facts.iter().find(|(fact, _)| *fact == name).map(|(_, value)| value.as_str())
    }

    /// When trying again makes sense, if the error says so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}
