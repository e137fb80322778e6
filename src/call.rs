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
    /// The address of the client on its transport, as `:1.42`, `unix` or `127.0.0.1:40112`.
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
        }
    }
}
