//! From a request on the worker's socket to an agent and back. The front has authorized, admitted and
//! limited every one of them; nothing of that is decided here.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{self, Poll};

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::outbox::{Outbox, Replies};
use crate::agents::{FOR_WORKERS, InWorker, WorkerSettings};
use crate::call::{Context, SessionScope};
use crate::contract::{
    Agent, Contract, Operation, RawReplies, RawRequests, Running, decode, encode,
};
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::worker::v1::{
    ConfigureRequest, ConfigureResponse, EndSessionRequest, GetGoingOnResponse,
};
use crate::wire::{self, LocalStream, Lost, Messages, Parts};

/// The agents of this worker.
pub(super) struct Agents {
    setup: InWorker,
    contract: Contract,
    /// By path.
    operations: HashMap<String, Arc<Operation>>,
    /// Nothing before the settings are known.
    built: OnceLock<Built>,
}

/// The agents by id; why one could not be built, if so.
type Built = HashMap<String, Result<Arc<dyn Agent>, Error>>;

impl Agents {
    /// Every agent that runs in workers; none is built yet.
    ///
    /// # Errors
    /// `Internal` if the contract is damaged.
    pub(super) fn new(setup: InWorker) -> Result<Self, Error> {
        let contract = Contract::built_in()?;
        let mut operations = HashMap::new();
        for agent in FOR_WORKERS {
            let paths = contract.service(agent.service)?.operations.iter();
            operations.extend(paths.map(|found| (found.grpc_path.clone(), Arc::clone(found))));
        }
        Ok(Self { setup, contract, operations, built: OnceLock::new() })
    }

    /// Takes up the settings; with the first ones, the agents are built.
    fn configure(&self, request: Bytes) -> Result<Reply, Error> {
        let ConfigureRequest { settings } = decode(request)?;
        let settings: WorkerSettings = serde_json::from_str(&settings)
            .map_err(|error| Error::invalid("settings", format!("cannot be read: {error}")))?;
        self.setup.settings.store(Arc::new(settings));
        if self.built.get().is_none() {
            let mut built = Built::new();
            for agent in FOR_WORKERS {
                let id = &self.contract.service(agent.service)?.id;
                let outcome = (agent.build)(&self.setup).inspect_err(|error| {
                    tracing::error!(agent = id, "agent {id} cannot start: {error}");
                });
                built.insert(id.clone(), outcome);
            }
            self.built.get_or_init(|| built);
        }
        whole(encode(&ConfigureResponse { version: env!("CARGO_PKG_VERSION").to_owned() })?)
    }

    /// How much goes on in all agents together.
    fn going_on(&self) -> usize {
        let agents = self.built.get().into_iter().flat_map(HashMap::values);
        agents.flatten().map(|agent| agent.going_on()).sum()
    }

    /// Serves the connection to its end.
    ///
    /// # Errors
    /// What broke it.
    pub(super) async fn serve(self, socket: LocalStream) -> hyper::Result<()> {
        let agents = Arc::new(self);
        let answer = service_fn(move |request| {
            let agents = Arc::clone(&agents);
            async move { Ok::<_, Infallible>(agents.answer(request).await) }
        });
        http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(wire::WORKER_STREAMS)
            .initial_stream_window_size(wire::WORKER_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(wire::WORKER_WINDOW_BYTES)
            .max_frame_size(wire::WORKER_FRAME_BYTES)
            .auto_date_header(false)
            .serve_connection(TokioIo::new(socket), answer)
            .await
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Reply> {
        let reply = self.call(request).await;
        let mut response = match reply {
            Ok(reply) => Response::new(reply),
            Err(error) => {
                let mut response = Response::new(Reply::Nothing);
                *response.headers_mut() = wire::trailers(&error);
                response
            }
        };
        let kind = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }

    async fn call(&self, request: Request<Incoming>) -> Result<Reply, Error> {
        let (head, body) = request.into_parts();
        let mut messages = Messages::new(body, usize::MAX);
        match head.uri.path() {
            wire::CONFIGURE => return self.configure(only(&mut messages).await?),
            wire::GOING_ON => {
                let count = u64::try_from(self.going_on()).unwrap_or(u64::MAX);
                return whole(encode(&GetGoingOnResponse { count })?);
            }
            wire::END_SESSION => return self.end_session(only(&mut messages).await?).await,
            _ => {}
        }
        let operation = self.operations.get(head.uri.path()).ok_or_else(|| {
            let text = format!("the worker has no operation at {}", head.uri.path());
            Error::new(ErrorKind::UnknownOperation, text)
        })?;
        let agent = self.agent(&operation.agent)?;
        let mut context = wire::read_context(&head.headers)?;
        let notes = wire::wants_notes(&head.headers);
        if !operation.is_streaming() && !notes {
            let request = only(&mut messages).await?;
            let answer = unless_it_panics(agent.call(operation.index, &context, request)).await?;
            return whole(answer);
        }
        let mut requests = match operation.client_streaming {
            true => RawRequests::read(Requests(messages)),
            false => RawRequests::one(only(&mut messages).await?),
        };
        let outbox = Arc::new(Outbox::default());
        if notes {
            context.reporter = Some(Arc::clone(&outbox) as _);
        }
        if notes && operation.client_streaming {
            requests = requests.watched(Arc::clone(&outbox) as _);
        }
        let ending = Arc::clone(&outbox);
        let (agent, operation) = (Arc::clone(agent), Arc::clone(operation));
        // Apart from the connection, so that an agent goes on with what else it does while nobody reads.
        let work = tokio::spawn(async move {
            let replies = RawReplies::new(Arc::clone(&ending) as _);
            let running = run(&*agent, &operation, &context, requests, replies);
            ending.end(unless_it_panics(running).await);
        });
        Ok(Reply::Many(Replies::new(outbox, work.abort_handle())))
    }

    async fn end_session(&self, request: Bytes) -> Result<Reply, Error> {
        let EndSessionRequest { agent, uid, session } = decode(request)?;
        let scope = SessionScope { uid, id: session.into() };
        unless_it_panics(self.agent(&agent)?.session_ended(&scope)).await?;
        whole(Bytes::new())
    }

    fn agent(&self, id: &str) -> Result<&Arc<dyn Agent>, Error> {
        let built = self.built.get().ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "the worker was not told its settings yet")
        })?;
        let unknown = || Error::new(ErrorKind::UnknownAgent, format!("the worker has no {id}"));
        built.get(id).ok_or_else(unknown)?.as_ref().map_err(Clone::clone)
    }
}

/// Runs any operation as if it were a stream.
fn run<'a>(
    agent: &'a dyn Agent,
    operation: &'a Operation,
    context: &'a Context,
    mut requests: RawRequests,
    replies: RawReplies,
) -> Running<'a, ()> {
    if operation.is_streaming() {
        return agent.stream(operation.index, context, requests, replies);
    }
    Box::pin(async move {
        let request =
            requests.next().await.ok_or_else(|| Error::invalid("request", "is missing"))?;
        replies.send(agent.call(operation.index, context, request?).await?).await
    })
}

/// Runs an agent's work; should it panic, the rest of the worker goes on.
async fn unless_it_panics<T>(work: Running<'_, T>) -> Result<T, Error> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_panic| {
        Err(Error::internal("the agent panicked; the service's log says where"))
    })
}

/// The one message of a request.
async fn only(messages: &mut Messages<Incoming>) -> Result<Bytes, Error> {
    let mut next = async || poll_fn(|context| messages.poll_next(context)).await.map_err(lost);
    let message = next().await?.ok_or_else(|| Error::invalid("request", "is missing"))?;
    match next().await? {
        None => Ok(message),
        Some(_) => Err(Error::invalid("request", "this operation takes one message")),
    }
}

fn lost(lost: Lost) -> Error {
    match lost {
        Lost::BrokenOff => Error::new(ErrorKind::Cancelled, "the client gave the call up"),
        Lost::Malformed(problem) => Error::internal(format!("the front sent {problem:?}")),
    }
}

fn whole(answer: Bytes) -> Result<Reply, Error> {
    Parts::of(answer, usize::MAX).map(Reply::One).map_err(|wire::TooLarge(bytes)| {
        Error::internal(format!("the answer has {bytes} bytes, which no message can have"))
    })
}

/// The requests of a stream, as the agent takes them.
struct Requests(Messages<Incoming>);

impl Stream for Requests {
    type Item = Result<Bytes, Error>;

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Self::Item>> {
        let messages = &mut self.get_mut().0;
        messages
            .poll_next(context)
            .map(|next| next.inspect_err(|_| messages.close()).map_err(lost).transpose())
    }
}

/// The body of an answer.
enum Reply {
    /// None: the status stands in the headers.
    Nothing,
    One(Parts),
    Many(Replies),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Nothing => Poll::Ready(None),
            Self::One(parts) => Poll::Ready(parts.next().map(Ok)),
            Self::Many(replies) => replies.poll_next(context).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::One(parts) => parts.is_ended(),
            Self::Many(replies) => replies.is_ended(),
        }
    }
}
