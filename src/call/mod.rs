//! The vocabulary of a call: who calls, over which transport, with which bounds. It decides nothing.

mod certificate;
mod login;
mod process;
mod scope;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use certificate::CertificateName;
pub use login::{LoginSession, LoginSources};
pub use process::{Client, Process};
pub use scope::Scope;

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

/// What a client speaks on its transport; the `interface` label of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interface {
    /// op-dbus's own: the contract's services and what is derived from them.
    Own,
    /// The older D-Bus interface, `org.dbusmcp.Agent`.
    Legacy,
}

impl Interface {
    /// Every interface, in the order of [`Interface::index`].
    pub const ALL: [Self; 2] = [Self::Own, Self::Legacy];

    /// The name in metrics, logs and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Legacy => "legacy",
        }
    }

    /// The position in [`Interface::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Own => 0,
            Self::Legacy => 1,
        }
    }
}

/// The most groups that are kept of a caller. Whoever is in more is looked up where it matters.
pub const MAX_GROUPS: usize = 1024;

/// Who calls, as somebody whom the service trusts attests it. Nothing in it is what the client says of
/// itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The identity that rights are checked against.
    pub identity: Identity,
    /// Who vouches for the identity, and so whether it is somebody on this machine.
    pub attested: Attested,
    /// Every group of the process that connected, the primary one included, in ascending order; at most
    /// [`MAX_GROUPS`]. `None` where the transport attests none: then they are those of the user.
    pub groups: Option<Arc<[u32]>>,
    /// What a token or certificate is limited to; `None`: nothing but the user's own rights.
    pub scope: Option<Arc<Scope>>,
    /// The process, where known. For display and logs only: a pid may be used again.
    pub pid: Option<u32>,
    /// The same process for good, where it could be told. For display, to ask others about it, and for its
    /// login session.
    pub process: Option<Arc<Process>>,
    /// The address of the client on its transport, as `:1.42`, `unix:7` or
    /// `tcp:127.0.0.1:40112`; no two connections have the same.
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

/// Who says that a caller is who he is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attested {
    /// The kernel: a process of that user, on this machine, holds the other end of the connection.
    Kernel,
    /// The message bus, which asked the kernel.
    Bus,
    /// A bearer token with this name, which the configuration maps to the user.
    Token(Arc<str>),
    /// A client certificate with this name, which the configuration maps to the user.
    Certificate(Arc<str>),
    /// op-dbus itself: a record of an earlier call, or the front towards a worker.
    Service,
    /// Nobody; the identity is then unknown.
    Nobody,
}

impl Attested {
    /// True if the caller is a process on this machine, as the kernel knows.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        match self {
            Self::Kernel | Self::Bus => true,
            Self::Token(_) | Self::Certificate(_) | Self::Service | Self::Nobody => false,
        }
    }
}

impl fmt::Display for Attested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str("the kernel"),
            Self::Bus => f.write_str("the bus"),
            Self::Token(name) => write!(f, "token {name}"),
            Self::Certificate(name) => write!(f, "certificate {name}"),
            Self::Service => f.write_str("op-dbus"),
            Self::Nobody => f.write_str("nobody"),
        }
    }
}

impl Caller {
    /// A caller of whom nothing more is known.
    #[must_use]
    pub fn new(identity: Identity, attested: Attested, address: impl Into<Arc<str>>) -> Self {
        let address = address.into();
        Self { identity, attested, groups: None, scope: None, pid: None, process: None, address }
    }

    /// The same caller with these groups, if they are not more than [`MAX_GROUPS`].
    #[must_use]
    pub fn with_groups(mut self, groups: Option<Vec<u32>>) -> Self {
        self.groups = groups.filter(|groups| groups.len() <= MAX_GROUPS).map(|mut groups| {
            groups.sort_unstable();
            groups.dedup();
            groups.into()
        });
        self
    }

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
            Identity::User { uid, .. } => match &self.attested {
                Attested::Token(_) | Attested::Certificate(_) => {
                    write!(f, "uid {uid} by {} at {}", self.attested, self.address)
                }
                Attested::Kernel | Attested::Bus | Attested::Service | Attested::Nobody => {
                    write!(f, "uid {uid} at {}", self.address)
                }
            },
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

/// The longest name that a client gives itself, in bytes.
pub const MAX_CLIENT_NAME: usize = 64;

/// What op-dbusctl calls itself where it compares both ways, so that the ledger can tell these calls from
/// those of a client that has not moved.
pub const NAME_OF_COMPARISON: &str = "op-dbusctl-parity";

/// What a client calls itself, as `op-chat`.
///
/// # Errors
/// The problem with a text that is no such name.
pub fn client_name(text: &str) -> Result<Arc<str>, &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    match (1..=MAX_CLIENT_NAME).contains(&text.len()) && text.bytes().all(is_plain) {
        true => Ok(text.into()),
        false => Err("must be 1 to 64 letters, digits, dots, dashes and underscores"),
    }
}

/// Hears how far a call is.
pub trait Reporter: fmt::Debug + Send + Sync {
    /// So much of so much is done, counted in `unit`s.
    fn progress(&self, done: u64, total: u64, unit: &str);
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
    /// By which interface of it. Nothing is authorized by this.
    pub interface: Interface,
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
    /// True if the client lets somebody at this machine be asked to authenticate for the call, and waits.
    pub interactive: bool,
    /// What the client calls itself; see [`client_name`]. Nothing is permitted by it.
    pub client_name: Option<Arc<str>>,
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
            interface: Interface::Own,
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
            interactive: false,
            client_name: None,
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
