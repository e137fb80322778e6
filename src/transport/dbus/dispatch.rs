//! The loop of one connection: takes messages, finds what each is for and hands out the replies in
//! batches. What an operation does with its call is in `call.rs`.
//!
//! This loop is the only writer of the connection, so replies leave in the order in which they were
//! put into the batch. It writes before it reads on: while the bus takes nothing, nothing more is
//! read, and what is held is one batch, the replies of the calls that are pending, and the queue of
//! the stream.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Duration, Instant, timeout};
use zbus::message::{Message, Type};
use zbus::{Connection, MessageStream};

use super::call::{self, Operation, Shared};
use super::error::{Failure, Standard};
use super::objects::{Table, Target};
use crate::call::Transport;
use crate::error::Error;
use crate::metrics::Rejection;

/// How many messages are taken before their replies are written.
const BATCH: usize = 64;

/// How many bytes of replies are held before they are written.
const BATCH_BYTES: usize = 1024 * 1024;

/// How many calls may be pending: more than the executor lets run and wait by default, so that its
/// limits are the ones that callers meet.
const MAX_PENDING: usize = 4096;

/// The body from which on a call is decoded apart from the loop, so that it delays no other.
const APART_BYTES: usize = 64 * 1024;

/// How long calls that still run when the service stops may take to end.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// Why the loop ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was asked to.
    Stopped,
    /// The bus went away.
    BusLost(String),
    /// Another process has the name.
    NameLost,
}

/// The state of the loop.
pub(super) struct Dispatcher {
    shared: Arc<Shared>,
    connection: Connection,
    /// The well-known name.
    name: String,
    /// Set while the name is given back on purpose.
    releasing: Arc<AtomicBool>,
    table: Table,
    batch: Vec<Message>,
    batch_bytes: usize,
    pending: JoinSet<Option<Message>>,
    /// Who waits for each pending call.
    waiting: HashMap<Id, (Box<str>, AbortHandle)>,
}

impl Dispatcher {
    pub(super) fn new(
        shared: Shared,
        connection: Connection,
        name: String,
        releasing: Arc<AtomicBool>,
    ) -> Self {
        let routes = Arc::clone(&shared.executor.routes());
        Self {
            shared: Arc::new(shared),
            connection,
            name,
            releasing,
            table: Table::new(routes, None),
            batch: Vec::with_capacity(BATCH),
            batch_bytes: 0,
            pending: JoinSet::new(),
            waiting: HashMap::new(),
        }
    }

    /// Serves until the bus goes away, the name is lost, or `stop` is sent or dropped.
    pub(super) async fn run(
        mut self,
        mut stream: MessageStream,
        mut stop: oneshot::Receiver<()>,
    ) -> Ended {
        loop {
            tokio::select! {
                biased;
                _ = &mut stop => return self.finish(stream).await,
                message = stream.next() => {
                    self.refresh();
                    if let Err(ended) = self.take_ready(message, &mut stream).await {
                        return ended;
                    }
                }
                Some(done) = self.pending.join_next_with_id() => self.finished(done),
            }
            while let Some(done) = self.pending.try_join_next_with_id() {
                self.finished(done);
            }
            if let Err(error) = self.flush().await {
                return Ended::BusLost(error.to_string());
            }
        }
    }

    /// Takes a message and those that are there already, up to a batch.
    async fn take_ready(
        &mut self,
        first: Option<zbus::Result<Message>>,
        stream: &mut MessageStream,
    ) -> Result<(), Ended> {
        let mut next = first;
        for _ in 0..BATCH {
            match next {
                Some(Ok(message)) => self.take(message)?,
                Some(Err(error)) => return Err(Ended::BusLost(error.to_string())),
                None => return Err(Ended::BusLost("the bus closed the connection".to_owned())),
            }
            if self.batch_bytes > BATCH_BYTES {
                self.flush().await.map_err(|error| Ended::BusLost(error.to_string()))?;
            }
            match stream.next().now_or_never() {
                Some(message) => next = message,
                None => break,
            }
        }
        Ok(())
    }

    /// Answers what has come before the name was given back, then waits for pending calls.
    async fn finish(mut self, mut stream: MessageStream) -> Ended {
        for _ in 0..stream.max_queued().get() {
            let Some(Some(Ok(message))) = stream.next().now_or_never() else { break };
            if let Err(ended) = self.take(message) {
                return ended;
            }
        }
        let wait = async {
            while let Some(done) = self.pending.join_next_with_id().await {
                self.finished(done);
            }
        };
        if timeout(STOP_GRACE, wait).await.is_err() {
            tracing::warn!("{} calls over D-Bus were cut off by the stop", self.pending.len());
        }
        if let Err(error) = self.flush().await {
            tracing::warn!("the last replies over D-Bus did not leave: {error}");
        }
        Ended::Stopped
    }

    fn refresh(&mut self) {
        let routes = self.shared.executor.routes();
        if !self.table.is_for(&routes) {
            self.table = Table::new(Arc::clone(&routes), Some(&self.table));
        }
    }

    fn take(&mut self, message: Message) -> Result<(), Ended> {
        match message.message_type() {
            Type::MethodCall => self.call(message),
            Type::Signal => return self.signal(&message),
            // Replies to this side's own calls are taken by the connection.
            Type::MethodReturn | Type::Error => {}
        }
        Ok(())
    }

    fn call(&mut self, message: Message) {
        let received = Instant::now();
        let header = message.header();
        let path = header.path().map_or("", |path| path.as_str());
        let interface = header.interface().map(|interface| interface.as_str());
        let member = header.member().map_or("", |member| member.as_str());
        let answer = match self.table.resolve(path, interface, member) {
            Ok(Target::Typed(typed)) => {
                drop(header);
                return self.start(message, Operation::Typed(typed), received);
            }
            Ok(Target::CallJson(service)) => {
                drop(header);
                return self.start(message, Operation::CallJson(service), received);
            }
            Ok(Target::Standard(method)) => {
                method.answer(&header, &message.body(), path, &self.table)
            }
            Err(failure) => {
                self.count_unknown(&failure);
                Err(failure)
            }
        };
        if call::wants_reply(&message) {
            let reply = answer.map_or_else(|failure| failure.reply(&header), Some);
            drop(header);
            self.add(reply);
        }
    }

    fn count_unknown(&self, failure: &Failure) {
        if let Failure::Standard(standard, _) = failure {
            self.shared.executor.reject(match standard {
                Standard::UnknownMethod => Rejection::UnknownOperation,
                Standard::UnknownObject
                | Standard::UnknownInterface
                | Standard::UnknownProperty
                | Standard::PropertyReadOnly
                | Standard::InvalidArgs => Rejection::UnknownAgent,
            });
        }
    }

    /// Runs a call as far as it goes without waiting; one that waits goes on beside the loop.
    fn start(&mut self, message: Message, operation: Operation, received: Instant) {
        if self.pending.len() >= MAX_PENDING {
            self.shared.executor.reject(Rejection::QueueFull);
            if call::wants_reply(&message) {
                let error =
                    Error::limit("pending D-Bus calls", MAX_PENDING, "too many calls are pending");
                let reply = Failure::from(error).reply(&message.header());
                self.add(reply);
            }
            return;
        }
        // What is too large is refused at once, so that it is not held.
        let size = message.body().len();
        let apart = size > APART_BYTES && size <= self.shared.max_body_bytes;
        let sender = message.clone();
        let mut work = Box::pin(call::run(Arc::clone(&self.shared), message, operation, received));
        if !apart && let Some(reply) = poll_once(work.as_mut()) {
            self.add(reply);
            return;
        }
        let handle = self.pending.spawn(work);
        let header = sender.header();
        let sender = header.sender().map_or("", |sender| sender.as_str());
        self.waiting.insert(handle.id(), (sender.into(), handle));
    }

    fn finished(&mut self, done: Result<(Id, Option<Message>), JoinError>) {
        match done {
            Ok((id, reply)) => {
                self.waiting.remove(&id);
                self.add(reply);
            }
            Err(error) => {
                self.waiting.remove(&error.id());
                if error.is_panic() {
                    tracing::error!("a call over D-Bus ended in a panic: {error}");
                }
            }
        }
    }

    fn signal(&mut self, message: &Message) -> Result<(), Ended> {
        let header = message.header();
        // The bus does not let anybody else send under its name.
        if header.sender().is_none_or(|sender| sender.as_str() != "org.freedesktop.DBus") {
            return Ok(());
        }
        let body = message.body();
        match header.member().map(|member| member.as_str()) {
            Some("NameOwnerChanged") => {
                if let Ok((name, _, "")) = body.deserialize::<(&str, &str, &str)>() {
                    self.gone(name);
                }
            }
            Some("NameLost")
                if !self.releasing.load(Ordering::Acquire)
                    && body.deserialize::<&str>().is_ok_and(|name| name == self.name) =>
            {
                return Err(Ended::NameLost);
            }
            _ => {}
        }
        Ok(())
    }

    /// Cancels what a client that has gone waits for, and lets go what it held.
    fn gone(&mut self, name: &str) {
        self.shared.callers.forget(name);
        for (sender, handle) in self.waiting.values() {
            if **sender == *name {
                handle.abort();
            }
        }
        self.shared.executor.client_gone(Transport::Dbus, name);
    }

    fn add(&mut self, reply: Option<Message>) {
        if let Some(reply) = reply {
            self.batch_bytes += reply.data().len();
            self.batch.push(reply);
        }
    }

    async fn flush(&mut self) -> zbus::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let sent = self.connection.send_all(&self.batch).await;

        self.batch.clear();
        self.batch_bytes = 0;
        sent
    }
}

/// Polls once. Who is still pending afterwards must be polled again by a task of its own, which
/// leaves its own waker.
fn poll_once<T>(work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match work.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
