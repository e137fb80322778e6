//! The signals of tasks, changes of the properties of all objects, and messages of tasks as D-Bus bodies. When they are sent, and to whom, is not
//! decided here.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;
use serde::ser::{SerializeSeq as _, SerializeTuple as _, Serializer};
use zbus::message::{Builder, Header, Message};
use zbus::{DynamicType, Signature, Variant};

use super::encode::{Encoder, Item};
use super::plan::{Kind, Method};
use super::standard::PROPERTIES;
use super::task::TASK_INTERFACE;
use super::wire::Payload;
use super::{error, text};
use crate::contract::task_path;
use crate::error::Error;
use crate::proto::opdbus::v1::Failure;
use crate::task::{self, State, Task};

/// The largest message that travels in a signal or a reply of `ReadMessages`, in bytes.
pub(super) const MAX_INLINE_BYTES: usize = 1024 * 1024;

/// The signals of one task to the client that started it.
pub(super) struct Signals {
    task: Arc<Task>,
    /// How its messages are written.
    method: Arc<Method>,
    client: Box<str>,
}

impl Signals {
    pub(super) fn new(task: Arc<Task>, method: Arc<Method>, client: Box<str>) -> Self {
        Self { task, method, client }
    }

    pub(super) fn client(&self) -> &str {
        &self.client
    }

    fn signal(&self, name: &'static str) -> Builder<'_> {
        let builder = Message::signal(task_path(self.task.id()), TASK_INTERFACE, name);
        builder.destination(&*self.client)
    }

    /// `Message`.
    ///
    /// # Errors
    /// `LimitExceeded` if it is too large for a signal, `Internal` if D-Bus cannot carry it.
    pub(super) fn message(&self, message: &task::Message) -> Result<Message, Error> {
        if message.payload.len() > MAX_INLINE_BYTES {
            return Err(too_large(message.seq, message.payload.len()));
        }
        let encoder = Encoder::new(&self.method.arena);
        let kind = Kind::Message(self.method.output);
        let body = One(Entry { encoder: &encoder, kind: &kind, message });
        let signal = self.signal("Message").build(&body);
        let signal = signal.map_err(|error| encoder.into_error(error))?;
        let size = signal.body().len();
        if size > MAX_INLINE_BYTES { Err(too_large(message.seq, size)) } else { Ok(signal) }
    }

    /// `Undelivered`: the message `seq` is there, but cannot travel in a signal.
    pub(super) fn undelivered(
        &self,
        message: &task::Message,
        problem: &Error,
    ) -> zbus::Result<Message> {
        let text = text::shown(problem.message());
        let body = (message.seq, message.offset, error::name(problem.kind()), text.as_ref());
        self.signal("Undelivered").build(&body)
    }

    /// `Gap`.
    pub(super) fn gap(&self, from: u64, to: u64) -> zbus::Result<Message> {
        self.signal("Gap").build(&(from, to))
    }

    /// `PropertiesChanged`, with the properties of these names.
    pub(super) fn changed(&self, names: &[&str]) -> zbus::Result<Message> {
        let mut changed = super::task::properties(&self.task);
        changed.retain(|(name, _)| names.contains(name));
        properties_changed(task_path(self.task.id()), Some(&self.client), TASK_INTERFACE, changed)
    }

    /// `Finished`.
    pub(super) fn finished(&self) -> zbus::Result<Message> {
        let record = self.task.record();
        let (name, message) = failure(record.failure.as_ref());
        self.signal("Finished").build(&(
            state(self.task.state()),
            name,
            message.as_str(),
            record.last_seq,
        ))
    }
}

/// `PropertiesChanged` of an object, to one client or to everybody.
pub(super) fn properties_changed(
    path: String,
    client: Option<&str>,
    interface: &'static str,
    changed: impl IntoIterator<Item = (&'static str, Variant<'static>)>,
) -> zbus::Result<Message> {
    let mut signal = Message::signal(path, PROPERTIES, "PropertiesChanged");
    if let Some(client) = client {
        signal = signal.destination(client);
    }
    let changed: HashMap<&str, Variant<'static>> = changed.into_iter().collect();
    let none: [&str; 0] = [];
    signal.build(&(interface, changed, none.as_slice()))
}

/// The name of a state.
pub(super) const fn state(state: State) -> &'static str {
    match state {
        State::Submitted => "submitted",
        State::Working => "working",
        State::InputRequired => "input_required",
        State::Completed => "completed",
        State::Failed => "failed",
        State::Cancelled => "cancelled",
        State::Rejected => "rejected",
    }
}

/// Name and text of a failure; both empty if there is none.
pub(super) fn failure(failure: Option<&Failure>) -> (&'static str, String) {
    failure.cloned().map(Error::from).map_or(("", String::new()), |error| {
        (error::name(error.kind()), text::shown(error.message()).into_owned())
    })
}

fn too_large(seq: u64, size: usize) -> Error {
    Error::limit(
        "D-Bus inline body",
        MAX_INLINE_BYTES,
        format_args!(
            "message {seq} takes {size} bytes; call with the option output-fd, or read the task over gRPC"
        ),
    )
}

/// The reply of `ReadMessages`. Ends before a message that cannot travel, unless it is the first.
///
/// # Errors
/// As [`Signals::message`], of the first message.
pub(super) fn read_reply(
    call: &Header<'_>,
    method: &Method,
    messages: &[task::Message],
    extra: &HashMap<&str, Variant<'_>>,
) -> Result<Message, Error> {
    if let [first, ..] = messages
        && first.payload.len() > MAX_INLINE_BYTES
    {
        return Err(too_large(first.seq, first.payload.len()));
    }
    let kind = Kind::Message(method.output);
    let build = |messages: &[task::Message]| {
        let encoder = Encoder::new(&method.arena);
        let body = Many { encoder: &encoder, kind: &kind, messages, done: Cell::new(0), extra };
        match Message::method_return(call).build(&body) {
            Ok(reply) => Ok(reply),
            Err(error) => {
                let done = body.done.get();
                Err((done, encoder.into_error(error)))
            }
        }
    };
    match build(messages) {
        Ok(reply) => Ok(reply),
        Err((done, error)) if done > 0 => build(&messages[..done]).map_err(|_| error),
        Err((_, error)) => Err(error),
    }
}

/// One message of a task as `(tta{sv})`.
struct Entry<'e, 'p> {
    encoder: &'e Encoder<'p>,
    kind: &'e Kind,
    message: &'e task::Message,
}

impl Serialize for Entry<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { encoder, kind, message } = *self;
        let payload = Some(Payload::Bytes(&message.payload));
        let mut entry = serializer.serialize_tuple(3)?;
        entry.serialize_element(&message.seq)?;
        entry.serialize_element(&message.offset)?;
        entry.serialize_element(&Item { encoder, kind, payload })?;
        entry.end()
    }
}

fn entry_signature() -> Signature {
    let fields = Signature::dict(Signature::Str, Signature::Variant);
    Signature::structure([Signature::U64, Signature::U64, fields])
}

/// The body of the signal `Message`.
struct One<'e, 'p>(Entry<'e, 'p>);

impl DynamicType for One<'_, '_> {
    fn signature(&self) -> Signature {
        entry_signature()
    }
}

impl Serialize for One<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// The body of the reply of `ReadMessages`.
struct Many<'e, 'p> {
    encoder: &'e Encoder<'p>,
    kind: &'e Kind,
    messages: &'e [task::Message],
    /// How many messages have been written.
    done: Cell<usize>,
    extra: &'e HashMap<&'e str, Variant<'e>>,
}

impl DynamicType for Many<'_, '_> {
    fn signature(&self) -> Signature {
        let extra = Signature::dict(Signature::Str, Signature::Variant);
        Signature::structure([Signature::array(entry_signature()), extra])
    }
}

impl Serialize for Many<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut body = serializer.serialize_tuple(2)?;
        body.serialize_element(&List(self))?;
        body.serialize_element(self.extra)?;
        body.end()
    }
}

struct List<'e, 'p>(&'e Many<'e, 'p>);

impl Serialize for List<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Many { encoder, kind, messages, done, .. } = self.0;
        let mut list = serializer.serialize_seq(None)?;
        for (index, message) in messages.iter().enumerate() {
            done.set(index);
            list.serialize_element(&Entry { encoder, kind, message })?;
        }
        list.end()
    }
}
