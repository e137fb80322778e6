//! From an encoded message to the body of a call or a reply: reads protobuf by plan and writes D-Bus
//! values, with nothing in between. `google.protobuf.Value` and its kin are in `value.rs`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::ser::{
    Error as _, SerializeMap as _, SerializeSeq as _, SerializeTuple as _, Serializer,
};
#[cfg(feature = "daemon")]
use zbus::message::{Header, Message};
use zbus::{DynamicType, Signature};

use super::fault::Fault;
#[cfg(feature = "daemon")]
use super::plan::Method;
use super::plan::{Arena, Field, Kind, MAX_LEVELS, Shape};
use super::slot::{self, Slot, low_half};
use super::text;
use super::value::{self, Found};
use super::wire::{self, Malformed, Payload, Reader};
#[cfg(feature = "daemon")]
use crate::error::{Error, ErrorKind};

/// The largest message that this side sends, in bytes. A system bus takes no larger one unless it is
/// configured otherwise, and disconnects who sends it.
pub(crate) const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;

/// Writes the reply to the call with the header `call`.
///
/// # Errors
/// `LimitExceeded` if the response is too large or too deep for D-Bus; `Internal` naming the field if
/// it holds what D-Bus cannot carry or is no such message.
#[cfg(feature = "daemon")]
pub(crate) fn reply(method: &Method, call: &Header<'_>, response: &[u8]) -> Result<Message, Error> {
    if response.len() > MAX_MESSAGE_BYTES {
        return Err(too_large(response.len()));
    }
    let encoder = Encoder::new(&method.arena);
    let reply = if matches!(method.out_signature, Signature::Unit) {
        Message::method_return(call).build(&())
    } else {
        let output = method.arena.message(method.output);
        let slots = slot::read(output, response)
            .map_err(|Malformed| Error::internal("the response cannot be decoded"))?;
        Message::method_return(call).build(&Body {
            encoder: &encoder,
            fields: &output.fields,
            slots: &slots,
            arguments: &method.outputs,
            rest: method.has_extra.then_some(&[]),
            signature: &method.out_signature,
        })
    };
    let reply = reply.map_err(|error| encoder.into_error(error))?;
    let size = reply.data().len();
    if size > MAX_MESSAGE_BYTES { Err(too_large(size)) } else { Ok(reply) }
}

/// A reply that holds nothing of a client's or an agent's, so that it can be written.
///
/// # Errors
/// `Internal` if it cannot be all the same.
#[cfg(feature = "daemon")]
pub(crate) fn built(reply: zbus::Result<Message>) -> Result<Message, Error> {
    reply.map_err(|error| Error::internal(format!("the reply cannot be built: {error}")))
}

/// The error for a message that the bus would not take.
#[cfg(feature = "daemon")]
pub(crate) fn too_large(size: usize) -> Error {
    Error::limit(
        "D-Bus message size",
        MAX_MESSAGE_BYTES,
        format_args!("the result takes {size} bytes, more than the bus carries; call it over gRPC"),
    )
}

/// What is known while a response is written.
pub(crate) struct Encoder<'p> {
    arena: &'p Arena,
    fault: Mutex<Fault>,
    levels: AtomicUsize,
    too_deep: AtomicBool,
}

/// One level of nesting, until dropped.
pub(crate) struct Level<'e>(&'e AtomicUsize);

impl Drop for Level<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<'p> Encoder<'p> {
    pub(crate) fn new(arena: &'p Arena) -> Self {
        Self {
            arena,
            fault: Mutex::default(),
            levels: AtomicUsize::new(0),
            too_deep: AtomicBool::new(false),
        }
    }

    fn fail<E: serde::ser::Error>(&self, problem: &str) -> E {
        self.fault().set(problem.to_owned());
        E::custom(problem)
    }

    /// Begins a message, list or object of `Value` inside the current one.
    pub(crate) fn deeper<E: serde::ser::Error>(&self) -> Result<Level<'_>, E> {
        if self.levels.load(Ordering::Relaxed) == MAX_LEVELS {
            self.too_deep.store(true, Ordering::Relaxed);
            return Err(E::custom("too deep"));
        }
        self.levels.fetch_add(1, Ordering::Relaxed);
        Ok(Level(&self.levels))
    }

    /// The text in the bytes of a string field.
    pub(crate) fn text<'a, E: serde::ser::Error>(&self, bytes: &'a [u8]) -> Result<&'a str, E> {
        text::checked(bytes).map_err(|problem| self.fail(problem))
    }

    pub(crate) fn malformed<E: serde::ser::Error>(&self, _: Malformed) -> E {
        self.fail("cannot be decoded")
    }

    /// Notes that the problem is in the field `name`.
    pub(crate) fn within(&self, name: &str) {
        self.fault().within(name);
    }

    /// Key and value of an entry of a map.
    pub(crate) fn entry<'a, E: serde::ser::Error>(
        &self,
        payload: Payload<'a>,
    ) -> Result<(Option<Payload<'a>>, Option<Payload<'a>>), E> {
        let Payload::Bytes(content) = payload else {
            return Err(self.malformed(Malformed));
        };
        let (mut key, mut value) = (None, None);
        for field in Reader(content) {
            match field.map_err(|malformed| self.malformed(malformed))? {
                (1, payload) => key = Some(payload),
                (2, payload) => value = Some(payload),
                _ => {}
            }
        }
        Ok((key, value))
    }

    pub(super) fn fault(&self) -> MutexGuard<'_, Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_too_deep(&self, error: &zbus::Error) -> bool {
        self.too_deep.load(Ordering::Relaxed) || matches!(error, zbus::Error::MaxDepthExceeded(_))
    }

    /// The error for the caller, once serde has unwound with `error`.
    #[cfg(feature = "daemon")]
    pub(crate) fn into_error(self, error: zbus::Error) -> Error {
        if self.is_too_deep(&error) {
            return Error::limit(
                "D-Bus nesting",
                MAX_LEVELS,
                "the result is nested deeper than D-Bus carries; call it over gRPC",
            );
        }
        if matches!(error, zbus::Error::ExcessData) {
            return too_large(MAX_MESSAGE_BYTES);
        }
        let (place, problem) = std::mem::take(&mut *self.fault()).into_parts(error, "result");
        Error::new(ErrorKind::Internal, format!("{place}: {problem}")).with_fact("field", place)
    }
}

/// All arguments of a call or of its reply.
pub(crate) struct Body<'e, 'p> {
    pub(super) encoder: &'e Encoder<'p>,
    pub(super) fields: &'e [Field],
    pub(super) slots: &'e [Slot<'e>],
    /// The fields that are arguments, by position.
    pub(super) arguments: &'e [usize],
    /// What the dictionary at the end holds beside the other fields; `None` if there is no such one.
    pub(super) rest: Option<&'e [(&'e str, zbus::Variant<'e>)]>,
    pub(super) signature: &'e Signature,
}

impl DynamicType for Body<'_, '_> {
    fn signature(&self) -> Signature {
        self.signature.clone()
    }
}

impl Serialize for Body<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { encoder, fields, slots, arguments, rest, .. } = self;
        let length = arguments.len() + usize::from(rest.is_some());
        let mut body = serializer.serialize_tuple(length)?;
        for index in *arguments {
            let (field, slot) = (&fields[*index], &slots[*index]);
            body.serialize_element(&Whole { encoder, field, slot })
                .inspect_err(|_| encoder.within(&field.name))?;
        }
        if let Some(beside) = rest {
            body.serialize_element(&Fields { encoder, fields, slots, except: arguments, beside })?;
        }
        body.end()
    }
}

/// The fields of a message that are there, as a dictionary of variants.
struct Fields<'e, 'p> {
    encoder: &'e Encoder<'p>,
    fields: &'e [Field],
    slots: &'e [Slot<'e>],
    /// The fields that are arguments, by position.
    except: &'e [usize],
    /// What is there beside them.
    beside: &'e [(&'e str, zbus::Variant<'e>)],
}

impl Serialize for Fields<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { encoder, fields, slots, except, beside } = *self;
        let mut entries = serializer.serialize_map(None)?;
        for (name, value) in beside {
            entries.serialize_entry(name, value)?;
        }
        for (index, (field, slot)) in fields.iter().zip(slots).enumerate() {
            if slot.is_present(field) && !except.contains(&index) {
                let value = Whole { encoder, field, slot };
                let entry = match &field.shape {
                    // A value brings its own variant.
                    Shape::One(Kind::Value) => entries.serialize_entry(&*field.name, &value),
                    Shape::One(_) | Shape::List(_) | Shape::Map(..) => {
                        let signature = &field.signature_text;
                        entries.serialize_entry(&*field.name, &Variant { signature, value: &value })
                    }
                };
                entry.inspect_err(|_| encoder.within(&field.name))?;
            }
        }
        entries.end()
    }
}

/// A variant: its signature and then its value.
struct Variant<'e, T> {
    signature: &'e str,
    value: &'e T,
}

impl<T: Serialize> Serialize for Variant<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut variant = serializer.serialize_tuple(2)?;
        variant.serialize_element(self.signature)?;
        variant.serialize_element(self.value)?;
        variant.end()
    }
}

/// All values of a field.
struct Whole<'e, 'p> {
    encoder: &'e Encoder<'p>,
    field: &'e Field,
    slot: &'e Slot<'e>,
}

impl Serialize for Whole<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { encoder, field, slot } = *self;
        match &field.shape {
            Shape::One(kind) => {
                Item { encoder, kind, payload: slot.payload() }.serialize(serializer)
            }
            Shape::List(kind) => {
                let mut list = serializer.serialize_seq(None)?;
                for payload in slot.payloads() {
                    slot::unpack(kind, *payload, |payload| {
                        list.serialize_element(&Item { encoder, kind, payload: Some(payload) })
                    })
                    .map_err(|malformed| encoder.malformed(malformed))??;
                }
                list.end()
            }
            Shape::Map(key_kind, value_kind) => {
                let mut map = serializer.serialize_map(None)?;
                for payload in slot.payloads() {
                    let (key, value) = encoder.entry(*payload)?;
                    let key = Item { encoder, kind: key_kind, payload: key };
                    let value = Item { encoder, kind: value_kind, payload: value };
                    map.serialize_entry(&key, &value)?;
                }
                map.end()
            }
        }
    }
}

/// One value of a kind; its default if there is no payload.
pub(crate) struct Item<'e, 'p> {
    pub(crate) encoder: &'e Encoder<'p>,
    pub(crate) kind: &'e Kind,
    pub(crate) payload: Option<Payload<'e>>,
}

impl Serialize for Item<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { encoder, kind, payload } = *self;
        match (kind, payload.unwrap_or_else(|| slot::default_payload(kind))) {
            (_, Payload::Varint(value)) => varint(kind, value, serializer, encoder),
            (Kind::Fixed32, Payload::Fixed32(value)) => serializer.serialize_u32(value),
            (Kind::Sfixed32, Payload::Fixed32(value)) => {
                serializer.serialize_i32(value.cast_signed())
            }
            (Kind::Float, Payload::Fixed32(value)) => {
                serializer.serialize_f64(f32::from_bits(value).into())
            }
            (Kind::Fixed64, Payload::Fixed64(value)) => serializer.serialize_u64(value),
            (Kind::Sfixed64, Payload::Fixed64(value)) => {
                serializer.serialize_i64(value.cast_signed())
            }
            (Kind::Double, Payload::Fixed64(value)) => {
                serializer.serialize_f64(f64::from_bits(value))
            }
            (Kind::String, Payload::Bytes(content)) => {
                serializer.serialize_str(encoder.text(content)?)
            }
            (Kind::Bytes, Payload::Bytes(content)) => serializer.serialize_bytes(content),
            (Kind::Message(index), Payload::Bytes(content)) => {
                let _level = encoder.deeper()?;
                let message = encoder.arena.message(*index);
                let slots = slot::read(message, content)
                    .map_err(|malformed| encoder.malformed(malformed))?;
                let fields = &message.fields;
                Fields { encoder, fields, slots: &slots, except: &[], beside: &[] }
                    .serialize(serializer)
            }
            (Kind::Timestamp | Kind::Duration, Payload::Bytes(content)) => {
                let time = microseconds(content).ok_or_else(|| {
                    encoder.fail("is a time that D-Bus cannot carry in microseconds")
                })?;
                serializer.serialize_i64(time)
            }
            (Kind::Value, Payload::Bytes(content)) => {
                let value = Found::read(content).ok_or_else(|| encoder.malformed(Malformed))?;
                let signature = value.signature();
                Variant { signature, value: &Content { encoder, value } }.serialize(serializer)
            }
            (Kind::ListValue, Payload::Bytes(content)) => {
                value::encode_list(encoder, content, serializer)
            }
            (Kind::Struct, Payload::Bytes(content)) => {
                value::encode_struct(encoder, content, serializer)
            }
            (_, Payload::Fixed32(_) | Payload::Fixed64(_) | Payload::Bytes(_)) => {
                Err(encoder.malformed(Malformed))
            }
        }
    }
}

/// The content of the variant of a `Value`.
struct Content<'e, 'p> {
    encoder: &'e Encoder<'p>,
    value: Found<'e>,
}

impl Serialize for Content<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(self.encoder, serializer)
    }
}

fn varint<S: Serializer>(
    kind: &Kind,
    value: u64,
    serializer: S,
    encoder: &Encoder<'_>,
) -> Result<S::Ok, S::Error> {
    match kind {
        Kind::Bool => serializer.serialize_bool(value != 0),
        Kind::Int32 => serializer.serialize_i32(low_half(value).cast_signed()),
        Kind::Uint32 => serializer.serialize_u32(low_half(value)),
        Kind::Sint32 => {
            let value = wire::unzigzag(low_half(value).into());
            serializer.serialize_i32(i32::try_from(value).map_err(S::Error::custom)?)
        }
        Kind::Int64 => serializer.serialize_i64(value.cast_signed()),
        Kind::Uint64 => serializer.serialize_u64(value),
        Kind::Sint64 => serializer.serialize_i64(wire::unzigzag(value)),
        Kind::Enum(names) => {
            let number = low_half(value).cast_signed();
            match names.by_number.get(&number) {
                Some(name) => serializer.serialize_str(name),
                None => serializer.serialize_str(&number.to_string()),
            }
        }
        Kind::Sfixed32
        | Kind::Fixed32
        | Kind::Sfixed64
        | Kind::Fixed64
        | Kind::Float
        | Kind::Double
        | Kind::String
        | Kind::Bytes
        | Kind::Message(_)
        | Kind::Timestamp
        | Kind::Duration
        | Kind::Value
        | Kind::Struct
        | Kind::ListValue => Err(encoder.malformed(Malformed)),
    }
}

/// The microseconds of a `Timestamp` or `Duration`, which have the same form. What is smaller is cut
/// off: towards the past for a timestamp, whose nanoseconds count forward, towards zero for a duration.
fn microseconds(content: &[u8]) -> Option<i64> {
    let (mut seconds, mut nanos) = (0_i64, 0_i32);
    for field in Reader(content) {
        match field.ok()? {
            (1, Payload::Varint(value)) => seconds = value.cast_signed(),
            (2, Payload::Varint(value)) => nanos = low_half(value).cast_signed(),
            (1 | 2, _) => return None,
            _ => {}
        }
    }
    seconds.checked_mul(1_000_000)?.checked_add(i64::from(nanos / 1_000))
}
