//! From an HTTP/2 request to a call and back: one way for every operation of every agent. What the
//! call does, may do and costs is the executor's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::client::Client;
use super::error::Refusal;
use super::metadata::Metadata;
use super::phase::Phase;
use super::standard::Standard;
use super::value::{self, Answer, Outgoing, Reply, Unread};
use crate::call::{Caller, Context, Interface, Transport};
use crate::error::{Error, ErrorKind};
use crate::executor::{Exchange, Executor, Route};
use crate::metrics::Rejection;
use crate::wire::COPIED_BYTES;

/// How long a client may take to send a request whose head has come.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The bytes of large responses that may wait in one connection for a client that does not read.
const UNREAD_RESPONSE_BYTES: usize = 16 * 1024 * 1024;

/// Answers requests.
pub(super) struct Service {
    pub(super) executor: Arc<Executor>,
    standard: Standard,
    pub(super) max_request_bytes: usize,
    pub(super) max_response_bytes: usize,
}

/// A call before its request is read.
pub(super) struct Call {
    pub(super) route: Arc<Route>,
    pub(super) metadata: Metadata,
    /// When the head came.
    pub(super) arrived: Instant,
    pub(super) peer: Peer,
}

impl Call {
    /// What the executor is told.
    pub(super) fn into_context(self) -> (Arc<Route>, Context, Peer) {
        let Self { route, metadata, arrived, peer } = self;
        let mut context = Context::new(Arc::clone(&peer.caller), Transport::Grpc);
        // The client counts from when it sent the head, the executor from now.
        context.timeout =
            metadata.timeout.map(|timeout| timeout.saturating_sub(context.received - arrived));
        context.request_id = metadata.request_id;
        context.traceparent = metadata.traceparent;
        context.session = metadata.session;
        context.approval_id = metadata.approval_id;
        context.interactive = metadata.interactive.unwrap_or_default();
        context.on_disconnect = metadata.on_disconnect;
        context.client_name = metadata.client_name;
        (route, context, peer)
    }
}

/// Where a request comes from, and its answer goes.
pub(super) struct Peer {
    /// Who makes it.
    pub(super) caller: Arc<Caller>,
    /// What the client has not read yet.
    pub(super) outgoing: Outgoing,
    /// What of the request counts among the caller's.
    pub(super) exchange: Arc<Exchange>,
}

impl Peer {
    /// The answer to a call that went well.
    ///
    /// # Errors
    /// `LimitExceeded` if the message has more than `limit` bytes.
    pub(super) fn answer(&self, message: Bytes, limit: usize) -> Result<Response<Reply>, Error> {
        let large = message.len() > COPIED_BYTES;
        let message = if large { self.exchange.unread(message) } else { message };
        value::answer(message, limit, &self.outgoing)
    }
}

impl Service {
    /// Answers with what `executor` says.
    pub(super) fn new(
        executor: Arc<Executor>,
        phase: watch::Sender<Phase>,
        max_request_bytes: usize,
        max_response_bytes: usize,
    ) -> Self {
        let standard = Standard::new(Arc::clone(executor.registry()), phase);
        Self { executor, standard, max_request_bytes, max_response_bytes }
    }

    /// Ends what is for the client at `address` alone.
    pub(super) fn client_gone(&self, address: &str) {
        self.executor.client_gone(Transport::Grpc, address);
    }

    /// Answers one request, apart from those of others if its caller's take long.
    ///
    /// # Cancel safety
    /// Dropping the future gives the call up.
    pub(super) async fn answer<B>(
        self: Arc<Self>,
        client: Arc<Client>,
        request: Request<B>,
    ) -> Response<Answer>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if let Err(code) = is_grpc(&request) {
            return Refusal::NotGrpc(code).into_response().map(Answer::new);
        }
        let caller = match client.identify(request.headers()) {
            Ok(caller) => caller,
            Err(error) => {
                self.executor.reject(Rejection::Unauthenticated);
                return Refusal::from(error).into_response().map(Answer::new);
            }
        };
        let executor = Arc::clone(&self.executor);
        let outgoing = client.outgoing.clone();
        let of = Arc::clone(&caller);
        let answer = async move { self.answer_caller(of, outgoing, request).await };
        let answer = executor.in_its_place(&caller, answer).await;
        answer.unwrap_or_else(|error| Refusal::from(error).into_response().map(Answer::new))
    }

    async fn answer_caller<B>(
        &self,
        caller: Arc<Caller>,
        outgoing: Outgoing,
        request: Request<B>,
    ) -> Response<Answer>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let exchange = match self.executor.exchange(&caller) {
            Ok(exchange) => Arc::new(exchange),
            Err(error) => return Refusal::from(error).into_response().map(Answer::new),
        };
        if Standard::has(request.uri().path()) {
            // Boxed, so that the calls of agents do not carry its size.
            let answer = Box::pin(self.standard.answer(request)).await;
            return answer.map(|reply| Answer::of(reply, exchange));
        }
        let peer = Peer { caller, outgoing, exchange: Arc::clone(&exchange) };
        let answer = self.call(peer, request).await.unwrap_or_else(Refusal::into_response);
        answer.map(|reply| Answer::of(reply, exchange))
    }

    async fn call<B>(&self, peer: Peer, request: Request<B>) -> Result<Response<Reply>, Refusal>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let arrived = Instant::now();
        let route = self.executor.find_path(request.uri().path())?;
        let metadata = Metadata::read(request.headers())
            .inspect_err(|_| self.executor.reject(Rejection::InvalidRequest))?;
        if metadata.compressed {
            self.executor.reject(Rejection::InvalidRequest);
            return Err(Refusal::Compressed);
        }
        let call = Call { route, metadata, arrived, peer };
        self.check_unread(&call.peer)
            .inspect_err(|error| self.refuse(Rejection::TooLarge, &call, error))?;
        if call.route.operation.is_streaming() {
            // Boxed, so that the other calls do not carry its size.
            return Box::pin(self.stream(call, request.into_body())).await;
        }
        let (message, call) = self.read(request.into_body(), call).await?;
        let (route, context, peer) = call.into_context();
        let response = self.executor.call(&route, context, message).await?;
        if response.len() > COPIED_BYTES {
            self.check_unread(&peer)?;
        }
        Ok(peer.answer(response, self.max_response_bytes)?)
    }

    /// Reads the request before the client's time is over, or ours; gives it with its call.
    pub(super) async fn read<B>(&self, body: B, call: Call) -> Result<(Bytes, Call), Refusal>
    where
        B: Body<Data = Bytes>,
    {
        let timeout = call.metadata.timeout;
        let timeout = timeout.map_or(REQUEST_TIMEOUT, |timeout| timeout.min(REQUEST_TIMEOUT));
        let mut coming = call.peer.exchange.coming();
        let reading = value::read(body, self.max_request_bytes, |bytes| coming.holds(bytes));
        match timeout_at(call.arrived + timeout, reading).await {
            Ok(Ok(message)) => Ok((message, call)),
            Ok(Err(Unread { refusal, rejection })) => {
                match (rejection, &refusal) {
                    (Some(rejection @ Rejection::TooLarge), Refusal::Error(error)) => {
                        self.refuse(rejection, &call, error);
                    }
                    (Some(rejection), _) => self.executor.reject(rejection),
                    (None, _) => {}
                }
                Err(refusal)
            }
            Err(_) => {
                self.executor.reject(Rejection::Deadline);
                let text = format!("the request was not whole after {} ms", timeout.as_millis());
                let error = Error::new(ErrorKind::DeadlineExceeded, text);
                let (route, context, _peer) = call.into_context();
                Err(self.executor.unread(&route, context, error).await.into())
            }
        }
    }

    fn refuse(&self, rejection: Rejection, call: &Call, error: &Error) {
        let who = (&call.peer.caller, (Transport::Grpc, Interface::Own));
        self.executor.refuse(rejection, who, &call.route.operation.grpc_path, error);
    }

    /// Refuses a client that calls and calls but does not read the answers.
    fn check_unread(&self, peer: &Peer) -> Result<(), Error> {
        let limit = UNREAD_RESPONSE_BYTES.max(self.max_response_bytes);
        if peer.outgoing.bytes() < limit {
            return peer.exchange.check_unread();
        }
        let problem = "the client does not read the responses that wait in its connection";
        Err(Error::limit("unread response bytes", limit, problem))
    }
}

/// Checks that a request is one of gRPC; gives the HTTP status if it is not.
fn is_grpc<B>(request: &Request<B>) -> Result<(), StatusCode> {
    if request.method() != Method::POST {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let kind = request.headers().get(CONTENT_TYPE).map_or(&[] as &[u8], |kind| kind.as_bytes());
    match kind.strip_prefix(b"application/grpc") {
        Some([] | [b';', ..]) => Ok(()),
        Some(rest) if rest == b"+proto" || rest.starts_with(b"+proto;") => Ok(()),
        Some(_) | None => Err(StatusCode::UNSUPPORTED_MEDIA_TYPE),
    }
}
