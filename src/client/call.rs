//! A call as the client makes it: which operation, its request, and what belongs to the call but not to the
//! request. How it travels is each way's own.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

use crate::contract::{Idempotency, Operation};
use crate::proto::opdbus::v1::OnDisconnect;

/// An operation as a client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rpc {
    /// The agent's id, as `memory`.
    pub agent: Cow<'static, str>,
    /// The operation's name, as `Recall`.
    pub operation: Cow<'static, str>,
    /// The full name of the protobuf service; empty for an agent that this build does not know, which is
    /// called with JSON.
    pub service: Cow<'static, str>,
    /// The path on gRPC, as `/opdbus.agent.memory.v1.MemoryService/Recall`; empty where `service` is.
    pub path: Cow<'static, str>,
    /// What calling it a second time does.
    pub idempotency: Idempotency,
    /// True if its requests are a stream.
    pub client_streaming: bool,
    /// True if its responses are a stream.
    pub server_streaming: bool,
}

impl Rpc {
    /// An operation of which nothing but its name is known.
    #[must_use]
    pub fn unknown(agent: &str, operation: &str) -> Self {
        Self {
            agent: Cow::Owned(agent.to_owned()),
            operation: Cow::Owned(operation.to_owned()),
            service: Cow::Borrowed(""),
            path: Cow::Borrowed(""),
            idempotency: Idempotency::Unknown,
            client_streaming: false,
            server_streaming: false,
        }
    }
}

impl From<&Operation> for Rpc {
    fn from(operation: &Operation) -> Self {
        let service = operation.grpc_path.trim_start_matches('/').split('/').next();
        Self {
            agent: Cow::Owned(operation.agent.clone()),
            operation: Cow::Owned(operation.name.clone()),
            service: Cow::Owned(service.unwrap_or_default().to_owned()),
            path: Cow::Owned(operation.grpc_path.clone()),
            idempotency: operation.idempotency,
            client_streaming: operation.client_streaming,
            server_streaming: operation.server_streaming,
        }
    }
}

impl fmt::Display for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.agent, self.operation)
    }
}

/// A request or a response: the one has the form of the other.
#[derive(Clone, PartialEq)]
pub enum Payload {
    /// An encoded protobuf message.
    Message(Bytes),
    /// A JSON object.
    Json(String),
}

impl fmt::Debug for Payload {
    /// Says nothing of what may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(message) => write!(f, "Message({} bytes)", message.len()),
            Self::Json(json) => write!(f, "Json({} bytes)", json.len()),
        }
    }
}

/// What belongs to a call but not to its request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallOptions {
    /// How long the service may take; the client's own default if `None`, and for a stream the service's.
    pub timeout: Option<Duration>,
    /// The name of the request: a second call with the same name gets the first one's result.
    pub request_id: Option<String>,
    /// The session that the call belongs to.
    pub session: Option<String>,
    /// The approval that the call has, from the error of the same call made before.
    pub approval_id: Option<String>,
    /// The W3C trace context that the call belongs to.
    pub traceparent: Option<String>,
    /// What becomes of a stream's work when this client goes away or drops the stream. Unless it is said, it
    /// is cancelled when the stream is dropped, and goes on when only the connection breaks, for the stream
    /// to be attached to it again.
    pub on_disconnect: OnDisconnect,
    /// Whether the user may be asked to authenticate for the call, which then waits for him.
    pub interactive: bool,
}

impl CallOptions {
    /// The same, with a choice for a stream that is not attached to its task again: it ends with its client.
    pub(super) fn cancelling(&self) -> Self {
        let mut options = self.clone();
        if options.on_disconnect == OnDisconnect::Unspecified {
            options.on_disconnect = OnDisconnect::Cancel;
        }
        options
    }

    /// The same options, with those of `defaults` where nothing is said.
    #[must_use]
    pub fn or(mut self, defaults: &Self) -> Self {
        let texts = [
            (&mut self.request_id, &defaults.request_id),
            (&mut self.session, &defaults.session),
            (&mut self.approval_id, &defaults.approval_id),
            (&mut self.traceparent, &defaults.traceparent),
        ];
        for (own, default) in texts {
            if own.is_none() {
                own.clone_from(default);
            }
        }
        self.timeout = self.timeout.or(defaults.timeout);
        if self.on_disconnect == OnDisconnect::Unspecified {
            self.on_disconnect = defaults.on_disconnect;
        }
        self.interactive |= defaults.interactive;
        self
    }
}

/// A call with one request and one response.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is called.
    pub rpc: Cow<'static, Rpc>,
    /// The request.
    pub request: Payload,
    /// What belongs to it.
    pub options: CallOptions,
}

/// A call with a stream on one side or both.
#[derive(Debug)]
pub struct StreamCall {
    /// What is called.
    pub rpc: Cow<'static, Rpc>,
    /// The requests, encoded.
    pub requests: Requests,
    /// What belongs to it.
    pub options: CallOptions,
}

/// The requests of a call with a stream.
pub enum Requests {
    /// The one request of an operation that takes one.
    One(Bytes),
    /// Those of an operation that takes a stream. They can be sent once.
    Many(BoxStream<'static, Bytes>),
}

impl Requests {
    /// The same as a stream.
    pub(super) fn stream(self) -> BoxStream<'static, Bytes> {
        match self {
            Self::One(request) => futures_util::stream::iter([request]).boxed(),
            Self::Many(requests) => requests,
        }
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One(_) => "One",
            Self::Many(_) => "Many",
        })
    }
}

/// A message to send, and what belongs to its call. Every method of a typed client takes one, or the message
/// alone.
///
/// ```
/// use std::time::Duration;
/// use op_dbus::client::Request;
/// use op_dbus::proto::opdbus::agent::memory::v1::IncrementRequest;
///
/// let request = IncrementRequest { key: "visits".into(), by: Some(1), ..Default::default() };
/// let request = Request::new(request).timeout(Duration::from_secs(2)).request_id("visit-17");
/// assert_eq!(request.options.request_id.as_deref(), Some("visit-17"));
/// ```
#[derive(Clone, Debug)]
pub struct Request<T> {
    /// The message; for a stream of requests, the stream.
    pub message: T,
    /// What belongs to the call.
    pub options: CallOptions,
}

impl<T> Request<T> {
    /// A request with nothing beside its message.
    #[must_use]
    pub fn new(message: T) -> Self {
        Self { message, options: CallOptions::default() }
    }

    /// The same, with the time that the service may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// The same, with the name of the request: made again with it, the call gets the first one's result.
    #[must_use]
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.options.request_id = Some(id.into());
        self
    }

    /// The same, in a session.
    #[must_use]
    pub fn session(mut self, id: impl Into<String>) -> Self {
        self.options.session = Some(id.into());
        self
    }

    /// The same, with what becomes of a stream's work when the client drops it.
    #[must_use]
    pub fn on_disconnect(mut self, choice: OnDisconnect) -> Self {
        self.options.on_disconnect = choice;
        self
    }
}

impl<T> From<T> for Request<T> {
    fn from(message: T) -> Self {
        Self::new(message)
    }
}
