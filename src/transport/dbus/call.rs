//! One call of an operation: from its message to the reply. What the call may do and how long is the
//! executor's to decide.

use std::sync::Arc;

use tokio::time::Instant;
use zbus::Signature;
use zbus::message::{Body, Flags, Header, Message};

use super::caller::Callers;
use super::error::Failure;
use super::objects::Typed;
use super::options::Options;
use super::plan::Method;
use super::wire::{Payload, Reader};
use super::{decode, encode, text};
use crate::call::{Context, Transport};
use crate::contract::Service;
use crate::error::{Error, ErrorKind};
use crate::executor::Executor;
use crate::metrics::Rejection;

/// What all calls of a connection share.
pub(super) struct Shared {
    pub(super) executor: Arc<Executor>,
    pub(super) callers: Callers,
    pub(super) max_body_bytes: usize,
    /// How `org.opdbus.Agent1.CallJson` is read.
    pub(super) call_json: Method,
}

/// An operation to call.
pub(super) enum Operation {
    Typed(Arc<Typed>),
    /// `CallJson` of an agent.
    CallJson(Arc<Service>),
}

/// Runs a call. `None` if the caller wants no reply.
pub(super) async fn run(
    shared: Arc<Shared>,
    message: Message,
    operation: Operation,
    received: Instant,
) -> Option<Message> {
    let outcome = match &operation {
        Operation::Typed(typed) => call_typed(&shared, &message, typed, received).await,
        Operation::CallJson(service) => call_json(&shared, &message, service, received).await,
    };
    if !wants_reply(&message) {
        return None;
    }
    outcome.map_or_else(|error| Failure::from(error).reply(&message.header()), Some)
}

/// True if the caller waits for a reply.
pub(super) fn wants_reply(message: &Message) -> bool {
    !message.primary_header().flags().contains(Flags::NO_REPLY_EXPECTED)
}

async fn call_typed(
    shared: &Shared,
    message: &Message,
    typed: &Typed,
    received: Instant,
) -> Result<Message, Error> {
    let method = &typed.method;
    let (request, options) = shared.read(method, &message.body())?;
    let context = shared.context(&message.header(), received, options).await?;
    let response = shared.executor.call(&typed.route, context, request.into()).await?;
    encode::reply(method, &message.header(), &response)
}

async fn call_json(
    shared: &Shared,
    message: &Message,
    service: &Service,
    received: Instant,
) -> Result<Message, Error> {
    let (request, options) = shared.read(&shared.call_json, &message.body())?;
    let [operation, arguments] = texts(&request);
    let context = shared.context(&message.header(), received, options).await?;
    let result = shared.executor.call_json(&service.id, operation, arguments, context).await?;
    let checked = text::checked(result.as_bytes())
        .map_err(|problem| Error::new(ErrorKind::Internal, format!("result: {problem}")))?;
    if checked.len() >= encode::MAX_MESSAGE_BYTES - RESERVED_BYTES {
        return Err(encode::too_large(checked.len()));
    }
    Message::method_return(&message.header())
        .build(&checked)
        .map_err(|error| Error::internal(format!("the reply cannot be built: {error}")))
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
    /// Reads the body of a call, after checking its size and its signature.
    fn read(&self, method: &Method, body: &Body) -> Result<(Vec<u8>, Options), Error> {
        if body.len() > self.max_body_bytes {
            self.executor.reject(Rejection::TooLarge);
            return Err(Error::limit(
                "dbus.max_body_bytes",
                self.max_body_bytes,
                format_args!(
                    "the call has {} bytes, more than D-Bus is served with here; larger values go over gRPC",
                    body.len()
                ),
            ));
        }
        check_signature(method, body.signature())
            .and_then(|()| decode::request(method, body))
            .inspect_err(|_| self.executor.reject(Rejection::InvalidRequest))
    }

    async fn context(
        &self,
        call: &Header<'_>,
        received: Instant,
        options: Options,
    ) -> Result<Context, Error> {
        let sender = call.sender().ok_or_else(|| {
            Error::new(ErrorKind::Unauthenticated, "the message does not say who sent it")
        });
        let caller = match sender {
            Ok(sender) => self.callers.get(sender.as_str()).await,
            Err(error) => Err(error),
        };
        let caller = caller.inspect_err(|_| self.executor.reject(Rejection::Unauthenticated))?;
        let mut context = Context::new(caller, Transport::Dbus);
        context.received = received;
        options.apply(&mut context);
        Ok(context)
    }
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
