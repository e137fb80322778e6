//! The loop of one connection: takes messages, finds what each is for and hands out the replies in
//! batches. What an operation does with its call is in `call.rs`.
//!
//! This loop is the only writer of the connection, so replies leave in the order in which they were
//! put into the batch. It writes before it reads on: while the bus takes nothing, nothing more is
//! read, and what is held is one batch, the replies of the calls that are pending, and the queue of
//! the stream. What tasks, sessions and agents tell unasked goes into the same batches.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Duration, Instant, timeout};
use zbus::message::{Message, Type};
use zbus::{Connection, MessageStream};

use super::by_client::ByClient;
use super::call::{self, Answer, Operation, Shared};
use super::error::Failure;
use super::legacy::{LegacyName, OlderNames};
use super::objects::{AGENT_INTERFACE, Table, Target};
use super::outgoing::{Outgoing, Sending};
use super::pings::Pings;
use super::session_signals::SessionSignals;
use super::signals::properties_changed;
use super::standard::{InTable, Shown};
use super::{managed, properties};
use crate::call::Transport;
use crate::contract::object_path;
use crate::error::Error;
use crate::metrics::Rejection;
use crate::registry::{Changes, Condition};

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

/// The names that the service is reached by.
pub(super) struct Names {
    /// The well-known name.
    pub(super) own: String,
    /// Set while it is given back on purpose.
    pub(super) releasing: Arc<AtomicBool>,
    /// The older names that have objects.
    pub(super) legacy: Vec<LegacyName>,
    /// Those of them that the bus gives.
    pub(super) older: Arc<OlderNames>,
}

/// The state of the loop.
pub(super) struct Dispatcher {
    shared: Arc<Shared>,
    connection: Connection,
    names: Names,
    table: Arc<Table>,
    batch: Vec<Message>,
    batch_bytes: usize,
    pending: ByClient<Answer>,
    deliveries: ByClient<()>,
    /// What deliveries have to send.
    outgoing: (Outgoing, mpsc::Receiver<Sending>),
    pings: Pings,
    /// What agents do, to be told.
    states: Changes,
    /// What sessions tell.
    sessions: SessionSignals,
    /// Tells when there may be other objects.
    rerouted: watch::Receiver<()>,
}

impl Dispatcher {
    pub(super) fn new(shared: Shared, connection: Connection, names: Names) -> Self {
        let executor = Arc::clone(&shared.executor);
        let rerouted = executor.rerouted();
        let routes = Arc::clone(&executor.routes());
        Self {
            shared: Arc::new(shared),
            connection,
            table: Arc::new(Table::new(routes, &names.legacy, None)),
            names,
            batch: Vec::with_capacity(BATCH),
            batch_bytes: 0,
            pending: ByClient::new(),
            deliveries: ByClient::new(),
            outgoing: Outgoing::new(),
            pings: Pings::default(),
            states: executor.registry().changes().to_come(),
            sessions: SessionSignals::new(executor.sessions()),
            rerouted,
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
                // These two are rare, and must not wait until nothing else happens.
                Ok(()) = self.rerouted.changed() => self.refresh(),
                condition = self.states.next() => self.tell_state(&condition),
                message = stream.next() => {
                    self.refresh();
                    if let Err(ended) = self.take_ready(message, &mut stream).await {
                        return ended;
                    }
                }
                answer = self.pending.next() => self.answer(answer),
                Some(sending) = self.outgoing.1.recv() => self.send(sending),
                _ = self.deliveries.next() => {}
                signal = self.sessions.next() => self.add(Some(signal)),
            }
            self.take_done();
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
        for place in 1..=BATCH {
            match next {
                Some(Ok(message)) => self.take(message)?,
                Some(Err(error)) => return Err(Ended::BusLost(error.to_string())),
                None => return Err(Ended::BusLost("the bus closed the connection".to_owned())),
            }
            if self.batch_bytes > BATCH_BYTES {
                self.flush().await.map_err(|error| Ended::BusLost(error.to_string()))?;
            }
            // None is taken from the stream that this batch has no place for.
            if place == BATCH {
                break;
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
            while self.pending.len() > 0 {
                let answer = self.pending.next().await;
                self.answer(answer);
            }
        };
        if timeout(STOP_GRACE, wait).await.is_err() {
            tracing::warn!("{} calls over D-Bus were cut off by the stop", self.pending.len());
        }
        self.take_done();
        if let Err(error) = self.flush().await {
            tracing::warn!("the last replies over D-Bus did not leave: {error}");
        }
        Ended::Stopped
    }

    fn refresh(&mut self) {
        let routes = self.shared.executor.routes();
        if self.table.is_for(&routes) {
            return;
        }
        let before = Arc::clone(&self.table);
        self.table = Arc::new(Table::new(Arc::clone(&routes), &self.names.legacy, Some(&before)));
        let shared = Arc::clone(&self.shared);
        for signal in managed::changes(&before, &self.table, shared.executor.registry()) {
            self.tell(signal);
        }
    }

    /// Tells everybody what an agent does.
    fn tell_state(&mut self, condition: &Condition) {
        let path = object_path(&condition.agent, false);
        // One that is not there yet says it when it is added.
        if self.table.object(&path).is_some() {
            let state = properties::state(condition);
            self.tell(properties_changed(path, None, AGENT_INTERFACE, state));
        }
        let table = Arc::clone(&self.table);
        for older in table.older(&condition.agent) {
            self.tell(older.status_changed(condition));
        }
    }

    fn tell(&mut self, signal: zbus::Result<Message>) {
        let signal =
            signal.inspect_err(|error| tracing::error!("a signal cannot be sent: {error}"));
        self.add(signal.ok());
    }

    fn take(&mut self, message: Message) -> Result<(), Ended> {
        match message.message_type() {
            Type::MethodCall => self.call(message),
            Type::Signal => return self.signal(&message),
            // Replies to this side's other calls are taken by the connection.
            Type::MethodReturn | Type::Error => {
                let next = self.pings.answered(&message);
                self.add(next);
            }
        }
        Ok(())
    }

    fn call(&mut self, message: Message) {
        let received = Instant::now();
        let header = message.header();
        let path = header.path().map_or("", |path| path.as_str());
        let interface = header.interface().map(|interface| interface.as_str());
        let member = header.member().map_or("", |member| member.as_str());
        let operation = match self.table.resolve(path, interface, member) {
            Ok(Target::Typed(typed)) => Ok(Operation::Typed(typed)),
            Ok(Target::CallJson(service)) => {
                Ok(Operation::CallJson(service, Arc::clone(&self.table)))
            }
            Ok(Target::Task) => Ok(Operation::Task(Arc::clone(&self.table))),
            Ok(Target::Session) => Ok(Operation::Session),
            Ok(Target::Older(older, method)) if method.runs() => {
                Ok(Operation::Older(older, method))
            }
            Ok(Target::Older(older, method)) => {
                Err(older.tell(method, &header, &message.body(), &self.shared.executor))
            }
            Ok(Target::Standard(method)) => {
                let table = &*self.table;
                let executor = &self.shared.executor;
                let object = table.object(path).map(|object| InTable { object, table, executor });
                let object = object.as_ref().map(|object| object as &dyn Shown);
                Err(method.answer(&header, &message.body(), path, object))
            }
            Err(failure) => {
                self.shared.count_unknown(&failure);
                Err(Err(failure))
            }
        };
        let answer = match operation {
            Ok(operation) => {
                drop(header);
                return self.start(message, operation, received);
            }
            Err(answer) => answer,
        };
        if call::wants_reply(&message) {
            let reply = answer.map_or_else(|failure| failure.reply(&header), Some);
            drop(header);
            self.add(reply);
        }
    }

    /// Runs a call as far as it goes without waiting; one that waits goes on beside the loop.
    fn start(&mut self, message: Message, operation: Operation, received: Instant) {
        if self.pending.len() >= MAX_PENDING {
            let error =
                Error::limit("pending D-Bus calls", MAX_PENDING, "too many calls are pending");
            let header = message.header();
            self.shared.refuse(Rejection::QueueFull, &call::unknown(&header), &header, &error);
            if call::wants_reply(&message) {
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
        if !apart && let Some(answer) = poll_once(work.as_mut()) {
            return self.answer(Some(answer));
        }
        let header = sender.header();
        self.pending.spawn(header.sender().map_or("", |sender| sender.as_str()), work);
    }

    /// Takes the answer of a call; `None` if it was ended.
    fn answer(&mut self, answer: Option<Answer>) {
        let Some(Answer { signal, reply, delivery }) = answer else { return };
        self.add(signal);
        self.add(reply);
        // What it sends goes through the queue, so that nothing of it can pass the reply.
        if let Some(delivery) = delivery {
            let client: Box<str> = delivery.client().into();
            self.deliveries.spawn(&client, delivery.run(self.outgoing.0.clone()));
        }
    }

    /// Takes what is there already of answers and signals.
    fn take_done(&mut self) {
        while let Some(answer) = self.pending.try_next() {
            self.answer(answer);
        }
        while self.deliveries.try_next().is_some() {}
        while self.batch_bytes < BATCH_BYTES
            && let Ok(sending) = self.outgoing.1.try_recv()
        {
            self.send(sending);
        }
        while self.batch_bytes < BATCH_BYTES
            && let Some(signal) = self.sessions.next().now_or_never()
        {
            self.add(Some(signal));
        }
    }

    fn send(&mut self, sending: Sending) {
        let message = match sending {
            Sending::Signal(signal) => Some(signal),
            Sending::Ping { client, taken } => self.pings.ask(&client, taken),
        };
        self.add(message);
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
            Some(change @ ("NameAcquired" | "NameLost")) => {
                let Ok(name) = body.deserialize::<&str>() else { return Ok(()) };
                let is_lost = change == "NameLost";
                self.names.older.changed(name, !is_lost);
                if is_lost
                    && name == self.names.own
                    && !self.names.releasing.load(Ordering::Acquire)
                {
                    return Err(Ended::NameLost);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends what is for a client that has gone, and lets go what it held.
    fn gone(&mut self, name: &str) {
        self.shared.callers.forget(name);
        self.pings.gone(name);
        self.pending.gone(name);
        self.deliveries.gone(name);
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
