//! From a request on the worker's socket to an agent and back. The front has authorized, admitted and
//! limited every one of them; nothing of that is decided here.

use std::collections::HashMap;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{self, Poll};

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream};
use h2::server::{self, SendResponse};
use h2::{RecvStream, SendStream};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body::Frame;

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
use crate::wire::{self, LocalStream, Lost, Messages, Parts, Received};

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
    pub(super) async fn serve(self, socket: LocalStream) -> Result<(), h2::Error> {
        let agents = Arc::new(self);
        // Not hyper, which has each request pass through a task and a channel more.
        let mut connection = server::Builder::new()
            .max_concurrent_streams(wire::WORKER_STREAMS)
            .initial_window_size(wire::WORKER_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(wire::WORKER_WINDOW_BYTES)
            .max_frame_size(wire::WORKER_FRAME_BYTES)
            .max_header_list_size(wire::WORKER_HEADER_BYTES)
            .handshake(socket)
            .await?;
        while let Some(accepted) = connection.accept().await {
            let (request, respond) = accepted?;
            let mut answer = Box::pin(Arc::clone(&agents).answer(request, respond));
            // Many a call is over at once; only the others need a task.
            if answer.as_mut().now_or_never().is_none() {
                tokio::spawn(answer);
            }
        }
        Ok(())
    }

    /// Answers one request, unless the front gives it up meanwhile.
    async fn answer(
        self: Arc<Self>,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) {
        let reply = tokio::select! {
            biased;
            reply = self.call(request) => reply,
            _ = poll_fn(|context| respond.poll_reset(context)) => return,
        };
        let mut head = Response::new(());
        let reply = reply.inspect_err(|error| *head.headers_mut() = wire::trailers(error));
        head.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let sent = match (respond.send_response(head, reply.is_err()), reply) {
            (Ok(stream), Ok(reply)) => reply.send(stream).await,
            (Ok(_), Err(_)) => Ok(()),
            (Err(error), _) => Err(error),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "the front does not take an answer");
        }
    }

    async fn call(&self, request: Request<RecvStream>) -> Result<Reply, Error> {
        let (head, body) = request.into_parts();
        let mut messages = Messages::new(Received(body), usize::MAX);
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
async fn only(messages: &mut Messages<Received>) -> Result<Bytes, Error> {
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
struct Requests(Messages<Received>);

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

/// What is answered to a request that did not fail at once.
enum Reply {
    One(Parts),
    Many(Replies),
}

impl Reply {
    /// Sends all of it, a stream's no faster than the front takes it.
    ///
    /// # Errors
    /// The front does not take it.
    async fn send(self, mut stream: SendStream<Bytes>) -> Result<(), h2::Error> {
        match self {
            Self::One(mut parts) => {
                while let Some(part) = parts.next() {
                    put(&mut stream, part)?;
                }
                Ok(())
            }
            Self::Many(mut replies) => {
                while wire::takes_more(&mut stream).await
                    && let Some(Some(part)) =
                        wire::while_wanted(&mut stream, |context| replies.poll_next(context)).await
                {
                    put(&mut stream, part)?;
                }
                Ok(())
            }
        }
    }
}

/// Sends a part of an answer; the trailers are the last.
fn put(stream: &mut SendStream<Bytes>, part: Frame<Bytes>) -> Result<(), h2::Error> {
    match part.into_data() {
        Ok(data) => stream.send_data(data, false),
        Err(part) => part.into_trailers().map_or(Ok(()), |trailers| stream.send_trailers(trailers)),
    }
}
