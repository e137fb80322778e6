//! The vocabulary of a call: who calls, over which transport, with which bounds. It decides nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// A way for calls to arrive; the `transport` label of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// The D-Bus message bus.
    Dbus,
    /// gRPC, over a Unix socket or TCP.
    Grpc,
}

impl Transport {
    /// Every transport, in the order of [`Transport::index`].
    pub const ALL: [Self; 2] = [Self::Dbus, Self::Grpc];

    /// The name in metrics, logs and statuses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dbus => "dbus",
            Self::Grpc => "grpc",
        }
    }

    /// The position in [`Transport::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Dbus => 0,
            Self::Grpc => 1,
        }
    }
}

/// Who calls, as the kernel or the bus attests it. Nothing in it is what the client says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The identity that rights are checked against.
    pub identity: Identity,
    /// The process, where known. For display and logs only: a pid may be used again.
    pub pid: Option<u32>,
    /// The address of the client on its transport, as `:1.42`, `unix:7` or
    /// `127.0.0.1:40112`; no two connections have the same.
    pub address: Arc<str>,
}

/// What rights are checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A user of this machine.
    User {
        /// The user id.
        uid: u32,
        /// The primary group id, where the transport attests it.
        gid: Option<u32>,
    },
    /// Nobody vouches for the client.
    Unknown,
}

impl Caller {
    /// The user id, if the caller is known.
    #[must_use]
    pub const fn uid(&self) -> Option<u32> {
        match self.identity {
            Identity::User { uid, .. } => Some(uid),
            Identity::Unknown => None,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.identity {
            Identity::User { uid, .. } => write!(f, "uid {uid} at {}", self.address),
            Identity::Unknown => write!(f, "an unknown client at {}", self.address),
        }
    }
}

/// What becomes of a call that may outlive its client when the client goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisconnect {
    /// It goes on.
    Continue,
    /// It is cancelled.
    Cancel,
}

/// A session as agents know it: what they keep for one only is found by these two.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionScope {
    /// The user whose session it is.
    pub uid: u32,
    /// Its id, which is the user's own: two users may have the same.
    pub id: Arc<str>,
}

/// Hears how far a call is.
pub trait Reporter: fmt::Debug + Send + Sync {
    /// So much of so much is done, counted in `unit`s.
    fn progress(&self, done: u64, total: u64, unit: &'static str);
}

/// That somebody has approved one call: this one, with this request, and no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The id of what was approved.
    pub id: Box<str>,
    /// The user who approved it.
    pub by: u32,
}

/// What belongs to a call but not to its request. The transports build it, the executor completes
/// it, agents read it.
#[derive(Clone, Debug)]
pub struct Context {
    /// Who calls.
    pub caller: Arc<Caller>,
    /// Over which transport.
    pub transport: Transport,
    /// How long the client is ready to wait, counted from `received`. The executor applies its own
    /// maximum to it; agents see the outcome in `deadline`.
    pub timeout: Option<Duration>,
    /// When the call will be abandoned. Set by the executor before an agent sees the context.
    pub deadline: Option<Instant>,
    /// When the transport had the whole request.
    pub received: Instant,
    /// The client's name for this request: a second call with the same name gets the first's result.
    pub request_id: Option<Box<str>>,
    /// The W3C `traceparent`, if the client sent a valid one.
    pub traceparent: Option<Box<str>>,
    /// The id of the session that the client names. Before an agent sees the context, the executor
    /// has checked that it is a session of the caller's.
    pub session: Option<Arc<str>>,
    /// What becomes of the call, should it be a task, when its client goes away; `None`: it goes on,
    /// unless it only waits.
    pub on_disconnect: Option<OnDisconnect>,
    /// The id that the call is to have, should it be a task; `None`: one of the service's choice.
    pub task_id: Option<Box<str>>,
    /// The id of the approval that the client says it has. Only the executor looks at it; what counts is
    /// [`Context::approved`].
    pub approval_id: Option<Box<str>>,
    /// That this very call was approved: by the executor, which has checked who calls, what and with
    /// which request. Never what a client says.
    pub approved: Option<Arc<Approval>>,
    /// Who hears how far the call is. Set by the executor for tasks.
    pub reporter: Option<Arc<dyn Reporter>>,
}

impl Context {
    /// A context for a call that arrives now.
    #[must_use]
    pub fn new(caller: Arc<Caller>, transport: Transport) -> Self {
        Self {
            caller,
            transport,
            timeout: None,
            deadline: None,
            received: Instant::now(),
            request_id: None,
            traceparent: None,
            session: None,
            on_disconnect: None,
            task_id: None,
            approval_id: None,
            approved: None,
            reporter: None,
        }
    }

    /// The session that the call belongs to, as agents know it.
    #[must_use]
    pub fn session_scope(&self) -> Option<SessionScope> {
        Some(SessionScope { uid: self.caller.uid()?, id: Arc::clone(self.session.as_ref()?) })
    }

    /// Says that `done` of `total` is done, counted in `unit`s. Only for work whose whole is known;
    /// nobody may be listening.
    pub fn progress(&self, done: u64, total: u64, unit: &'static str) {
        if let Some(reporter) = &self.reporter {
            reporter.progress(done, total, unit);
        }
    }
}
