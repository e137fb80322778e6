//! One call of an operation: from its message to the reply. What the call may do and how long is the
//! executor's to decide.

use std::sync::Arc;

use tokio::time::Instant;
use zbus::Signature;
use zbus::message::{Body, Flags, Header, Message};

use super::begin::{self, Requests};
use super::caller::Callers;
use super::delivery::Delivery;
use super::descriptor::Descriptors;
use super::error::{Failure, Standard};
use super::legacy::{self, Older, OlderMethod};
use super::objects::{Table, Typed};
use super::options::Options;
use super::plan::Method;
use super::wire::{Payload, Reader};
use super::{decode, encode, session, task, text};
use crate::call::{Attested, Caller, Context, Identity, Interface, Transport};
use crate::contract::{self, Service, json_to_message};
use crate::error::{Error, ErrorKind};
use crate::executor::{Executor, Route};
use crate::metrics::Rejection;

/// What all calls of a connection share.
pub(super) struct Shared {
    pub(super) executor: Arc<Executor>,
    pub(super) callers: Callers,
    pub(super) descriptors: Descriptors,
    pub(super) max_body_bytes: usize,
    /// How `org.opdbus.Agent1.CallJson` is read.
    pub(super) call_json: Method,
}

/// Something to call that answers beside the loop.
pub(super) enum Operation {
    Typed(Arc<Typed>),
    /// `CallJson` of an agent.
    CallJson(Arc<Service>, Arc<Table>),
    /// The object of a task.
    Task(Arc<Table>),
    /// The object of a session.
    Session,
    /// A task for an older agent.
    Older(Arc<Older>, OlderMethod),
}

/// What comes of a call.
pub(super) struct Reply {
    pub(super) message: Message,
    /// What the caller is told besides, before the reply.
    pub(super) signal: Option<Message>,
    /// What follows the reply.
    pub(super) delivery: Option<Delivery>,
}

/// What is sent for a call.
pub(super) struct Answer {
    /// Sent before the reply.
    pub(super) signal: Option<Message>,
    /// `None` if the caller wants no reply.
    pub(super) reply: Option<Message>,
    /// What follows the reply.
    pub(super) delivery: Option<Delivery>,
}

impl From<Message> for Reply {
    fn from(message: Message) -> Self {
        Self { message, signal: None, delivery: None }
    }
}

/// Runs a call, apart from those of others if its caller's take long.
pub(super) async fn run(
    shared: Arc<Shared>,
    message: Message,
    operation: Operation,
    received: Instant,
) -> Answer {
    let caller = {
        let call = message.header();
        shared.callers.get(call.sender().map_or("", |sender| sender.as_str())).await
    };
    let asked = message.clone();
    let executor = Arc::clone(&shared.executor);
    let answer = answer(shared, message, operation, received);
    // The call itself says so if nobody knows who makes it.
    let Ok(caller) = caller else { return answer.await };
    executor.in_its_place(&caller, answer).await.unwrap_or_else(|error| {
        let reply = Failure::from(error).reply(&asked.header());
        let reply = reply.filter(|_| wants_reply(&asked));
        Answer { signal: None, reply, delivery: None }
    })
}

async fn answer(
    shared: Arc<Shared>,
    message: Message,
    operation: Operation,
    received: Instant,
) -> Answer {
    let outcome = match &operation {
        Operation::Typed(typed) => {
            call_typed(&shared, &message, typed, received).await.map_err(Failure::from)
        }
        Operation::CallJson(service, table) => {
            call_json(&shared, &message, service, table, received).await.map_err(Failure::from)
        }
        Operation::Task(table) => {
            let answer = task::answer(&shared, &message, table).await;
            answer.inspect_err(|failure| shared.count_unknown(failure)).map(Reply::from)
        }
        Operation::Session => {
            let answer = session::answer(&shared, &message).await;
            answer.inspect_err(|failure| shared.count_unknown(failure)).map(Reply::from)
        }
        Operation::Older(older, method) => {
            legacy::run(&shared, &message, older, *method, received).await
        }
    };
    let (signal, reply, delivery) = match outcome {
        Ok(Reply { message, signal, delivery }) => (signal, Some(message), delivery),
        Err(failure) => (None, failure.reply(&message.header()), None),
    };
    Answer { signal, reply: reply.filter(|_| wants_reply(&message)), delivery }
}

/// True if the caller waits for a reply.
pub(super) fn wants_reply(message: &Message) -> bool {
    !message.primary_header().flags().contains(Flags::NO_REPLY_EXPECTED)
}

async fn call_typed(
    shared: &Arc<Shared>,
    message: &Message,
    typed: &Typed,
    received: Instant,
) -> Result<Reply, Error> {
    let Typed { method, route } = typed;
    let call = message.header();
    shared.check_size(&call, &message.body()).await?;
    let (request, options) = match read(method, &message.body()) {
        Ok(read) => read,
        Err(error) => return Err(shared.unread(route, &call, received, error).await),
    };
    if shared.makes_task(&options, &route.operation)? {
        if options.detach && route.operation.is_streaming() {
            shared.executor.reject(Rejection::InvalidRequest);
            return Err(Error::invalid("detach", "is not for streams, which are tasks already"));
        }
        let requests = match method.takes_messages {
            true => Requests::Stream(request.into()),
            false => Requests::One(request.into()),
        };
        return begin::task(shared, &call, typed, requests, options, received).await;
    }
    let context = shared.context(&call, received, options).await?;
    let response = shared.executor.call(route, context, request.into()).await?;
    encode::reply(method, &call, &response).map(Reply::from)
}

async fn call_json(
    shared: &Arc<Shared>,
    message: &Message,
    service: &Service,
    table: &Table,
    received: Instant,
) -> Result<Reply, Error> {
    let call = message.header();
    shared.check_size(&call, &message.body()).await?;
    let (request, options) = read(&shared.call_json, &message.body())
        .inspect_err(|_| shared.executor.reject(Rejection::InvalidRequest))?;
    let [name, arguments] = texts(&request);
    let route = shared.executor.find(&service.id, name)?;
    if options.detach {
        let operation = &route.operation;
        let typed = table.typed(operation).ok_or_else(|| {
            Error::internal(format!("{}.{} has no form on D-Bus", operation.agent, operation.name))
        })?;
        let request = match json_to_message(&operation.input, arguments) {
            Ok(request) => request,
            Err(error) => return Err(shared.unread(&route, &call, received, error).await),
        };
        shared.makes_task(&options, operation)?;
        let requests = Requests::One(request.into());
        return begin::task(shared, &call, typed, requests, options, received).await;
    }
    shared.makes_task(&options, &route.operation)?;
    let context = shared.context(&call, received, options).await?;
    let result = shared.executor.call_json(&service.id, name, arguments, context).await?;
    let checked = text::checked(result.as_bytes())
        .map_err(|problem| Error::new(ErrorKind::Internal, format!("result: {problem}")))?;
    if checked.len() >= encode::MAX_MESSAGE_BYTES - RESERVED_BYTES {
        return Err(encode::too_large(checked.len()));
    }
    encode::built(Message::method_return(&call).build(&checked)).map(Reply::from)
}

/// What a message holds beside a text that is its only argument, generously.
const RESERVED_BYTES: usize = 4096;

/// The texts in the first two fields of an encoded message.
fn texts(request: &[u8]) -> [&str; 2] {
    let mut texts = [""; 2];
    for (number, payload) in Reader(request).flatten() {
        if let (1 | 2, Payload::Bytes(bytes)) = (number, payload) {
            let index = usize::from(number == 2);
            // The decoder has read them as texts.
            texts[index] = std::str::from_utf8(bytes).unwrap_or_default();
        }
    }
    texts
}

impl Shared {
    /// Refuses a body that is too large.
    pub(super) async fn check_size(&self, call: &Header<'_>, body: &Body) -> Result<(), Error> {
        if body.len() <= self.max_body_bytes {
            return Ok(());
        }
        let error = Error::limit(
            "dbus.max_body_bytes",
            self.max_body_bytes,
            format_args!(
                "the call has {} bytes, more than D-Bus is served with here; larger values go over gRPC",
                body.len()
            ),
        );
        let sender = call.sender().map_or("", |sender| sender.as_str());
        let caller = self.callers.get(sender).await.unwrap_or_else(|_| unknown(call));
        self.refuse(Rejection::TooLarge, &caller, call, &error);
        Err(error)
    }

    /// Counts and records a call that is refused before the executor has seen it.
    pub(super) fn refuse(
        &self,
        rejection: Rejection,
        caller: &Arc<Caller>,
        call: &Header<'_>,
        error: &Error,
    ) {
        let interface = call.interface().map_or("", |interface| interface.as_str());
        let member = call.member().map_or("", |member| member.as_str());
        let what = format!("{interface}.{member}");
        let spoken = if interface.starts_with(legacy::INTERFACE) {
            Interface::Legacy
        } else {
            Interface::Own
        };
        self.executor.refuse(rejection, (caller, (Transport::Dbus, spoken)), &what, error);
    }

    /// Ends a call of `route` whose body `error` says cannot be read; gives what its caller is told.
    async fn unread(
        &self,
        route: &Arc<Route>,
        call: &Header<'_>,
        received: Instant,
        error: Error,
    ) -> Error {
        match self.context(call, received, Options::default()).await {
            Ok(context) => self.executor.unread(route, context, error).await,
            Err(unknown) => unknown,
        }
    }

    /// True if a call of `operation` with these options becomes a task.
    fn makes_task(
        &self,
        options: &Options,
        operation: &contract::Operation,
    ) -> Result<bool, Error> {
        options
            .makes_task(operation)
            .inspect_err(|_| self.executor.reject(Rejection::InvalidRequest))
    }

    /// Counts a call to what is not there.
    pub(super) fn count_unknown(&self, failure: &Failure) {
        if let Failure::Standard(standard, _) = failure {
            self.executor.reject(match standard {
                Standard::UnknownMethod => Rejection::UnknownOperation,
                Standard::UnknownObject
                | Standard::UnknownInterface
                | Standard::UnknownProperty
                | Standard::PropertyReadOnly
                | Standard::Failed
                | Standard::InvalidArgs => Rejection::UnknownAgent,
            });
        }
    }

    /// Who sent a message.
    pub(super) async fn caller(&self, call: &Header<'_>) -> Result<Arc<Caller>, Error> {
        let sender = call.sender().ok_or_else(|| {
            Error::new(ErrorKind::Unauthenticated, "the message does not say who sent it")
        });
        let caller = match sender {
            Ok(sender) => self.callers.get(sender.as_str()).await,
            Err(error) => Err(error),
        };
        caller.inspect_err(|error| {
            self.refuse(Rejection::Unauthenticated, &unknown(call), call, error);
        })
    }

    pub(super) async fn context(
        &self,
        call: &Header<'_>,
        received: Instant,
        options: Options,
    ) -> Result<Context, Error> {
        let mut context = Context::new(self.caller(call).await?, Transport::Dbus);
        context.received = received;
        context.interactive = call.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
        options.apply(&mut context);
        Ok(context)
    }
}

/// The sender of a message, as long as nobody has said who that is.
pub(super) fn unknown(call: &Header<'_>) -> Arc<Caller> {
    let address = call.sender().map_or("", |sender| sender.as_str());
    Arc::new(Caller::new(Identity::Unknown, Attested::Nobody, address))
}

/// Reads the body of a call, after checking its signature.
fn read(method: &Method, body: &Body) -> Result<(Vec<u8>, Options), Error> {
    let mut options = Options::default();
    check_signature(method, body.signature())?;
    let request = decode::request(method, body, &mut options)?;
    Ok((request, options))
}

/// Checks that a body has the types that the method takes.
///
/// # Errors
/// `InvalidArgument` naming the first argument that differs, and the expected signature.
pub(super) fn check_signature(method: &Method, found: &Signature) -> Result<(), Error> {
    // Several arguments look like the fields of a structure, a single one stands alone.
    let fits = match (&method.in_signature, found) {
        (expected, Signature::Structure(_)) => expected == found,
        (Signature::Structure(expected), _) => {
            expected.len() == 1 && expected.get(0) == Some(found)
        }
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let expected = arguments(&method.in_signature);
    let given = arguments(found);
    let message = method.arena.message(method.input);
    let name = |position: usize| match method.inputs.get(position) {
        Some(index) => &message.fields[*index].name,
        None => "options",
    };
    let whole = format!(
        "{} takes {:?}, not {:?}",
        method.name,
        method.in_signature.to_string_no_parens(),
        found.to_string_no_parens()
    );
    let differs = expected.iter().zip(&given).position(|(expected, given)| expected != given);
    Err(match differs {
        Some(position) => Error::invalid(
            name(position),
            format!("takes {}, not {}; {whole}", expected[position], given[position]),
        ),
        None if given.len() < expected.len() => {
            Error::invalid(name(given.len()), format!("is missing; {whole}"))
        }
        None => Error::invalid("body", format!("has too many arguments; {whole}")),
    })
}

/// The types of the arguments of a body.
fn arguments(signature: &Signature) -> Vec<&Signature> {
    if let Signature::Structure(fields) = signature {
        fields.iter().collect()
    } else if matches!(signature, Signature::Unit) {
        Vec::new()
    } else {
        vec![signature]
    }
}
