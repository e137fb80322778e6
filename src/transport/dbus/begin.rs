//! Calls that become tasks: their requests and descriptors, their start, and the reply with the task's
//! path. What the client gets afterwards is in `delivery.rs`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;
use zbus::message::{Header, Message};
use zbus::{ObjectPath, Variant};

use super::call::{Reply, Shared};
use super::delivery::{Delivery, Sink};
use super::encode;
use super::input::{self, Feed};
use super::objects::Typed;
use super::options::Options;
use super::outgoing::Pace;
use super::output::Output;
use super::signals::Signals;
use super::wire::{Payload, Reader};
use crate::contract::task_path;
use crate::error::{Error, ErrorKind};
use crate::executor::{Coming, Input};
use crate::metrics::Rejection;

/// The requests of a call.
pub(super) enum Requests {
    One(Bytes),
    /// All requests of a stream, as the fields 1 of one message.
    Stream(Bytes),
}

/// Starts a task.
///
/// # Errors
/// Why it is not one: its options, its descriptors, or what the executor says.
pub(super) async fn task(
    shared: &Arc<Shared>,
    call: &Header<'_>,
    typed: &Typed,
    requests: Requests,
    mut options: Options,
    received: Instant,
) -> Result<Reply, Error> {
    let client = call.sender().map_or("", |sender| sender.as_str());
    let coming = shared.executor.coming(&*shared.caller(call).await?);
    let begun = sink(shared, typed, &mut options).and_then(|sink| {
        let (feed, input) = self::requests(shared, client, typed, requests, &mut options, coming)?;
        Ok((sink, feed, input))
    });
    let (sink, feed, input) = begun.inspect_err(|error| {
        shared.executor.reject(match error.kind() == ErrorKind::LimitExceeded {
            true => Rejection::CallerBytes,
            false => Rejection::InvalidRequest,
        });
    })?;
    let is_detached = options.detach;
    let context = shared.context(call, received, options).await?;
    let subscription = shared.executor.start_reading(&typed.route, context, input, true).await?;
    let task = Arc::clone(subscription.task());
    let path = task_path(task.id());
    let path = ObjectPath::try_from(path.as_str())
        .map_err(|error| Error::internal(format!("{path} is no path: {error}")))?;
    let reply = Message::method_return(call);
    let reply = if is_detached {
        reply.build(&path)
    } else {
        reply.build(&(path, HashMap::<&str, Variant<'_>>::new()))
    };
    let message = encode::built(reply)?;
    let signals = Signals::new(task, Arc::clone(&typed.method), client.into());
    Ok(Reply {
        message,
        signal: None,
        delivery: Some(Delivery { subscription, signals, sink, feed }),
    })
}

fn sink(shared: &Shared, typed: &Typed, options: &mut Options) -> Result<Sink, Error> {
    let Some(fd) = options.output.take() else { return Ok(Sink::Signals(Pace::default())) };
    let writer = shared.descriptors.writer("output-fd", fd)?;
    let message = typed.route.operation.output.clone();
    Ok(Sink::Descriptor(Output::new(writer, options.output_format(), message)))
}

fn requests(
    shared: &Arc<Shared>,
    client: &str,
    typed: &Typed,
    requests: Requests,
    options: &mut Options,
    coming: Coming,
) -> Result<(Option<Feed>, Input), Error> {
    let requests = match (requests, options.input.take()) {
        (Requests::Stream(messages), Some(_)) if !messages.is_empty() => {
            return Err(Error::invalid("input-fd", "cannot be given together with messages"));
        }
        (_, Some(fd)) => {
            let reader = shared.descriptors.reader("input-fd", fd)?;
            let message = typed.route.operation.input.clone();
            let format = options.input_format();
            let (feed, requests) = Feed::new(shared, client, reader, format, message, coming)?;
            return Ok((Some(feed), Input::Many(requests)));
        }
        (Requests::One(request), None) => return Ok((None, Input::One(request))),
        (Requests::Stream(messages), None) => messages,
    };
    Ok((None, Input::Many(input::inline(split(&requests), coming)?)))
}

/// The requests in a message that holds them as its fields 1.
pub(super) fn split(messages: &Bytes) -> Vec<Bytes> {
    let requests = Reader(messages).flatten().filter_map(|(_, payload)| match payload {
        Payload::Bytes(request) => Some(messages.slice_ref(request)),
        Payload::Varint(_) | Payload::Fixed32(_) | Payload::Fixed64(_) => None,
    });
    requests.collect()
}
