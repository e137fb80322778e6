//! The fields of an encoded message, each in its place, whatever order they were written in. It gives
//! what was found and converts nothing.

use super::plan::{Field, Kind, Message, Shape};
use super::wire::{Malformed, Payload, Reader};

/// What was found of one field.
#[derive(Clone, Debug)]
pub(crate) enum Slot<'a> {
    Absent,
    One(Payload<'a>),
    /// A message in several parts, which add up to one.
    Merged(Vec<u8>),
    Many(Vec<Payload<'a>>),
}

/// Reads all fields of a message; those that the plan does not know are skipped.
///
/// # Errors
/// If the bytes are no message.
pub(crate) fn read<'a>(message: &Message, bytes: &'a [u8]) -> Result<Vec<Slot<'a>>, Malformed> {
    let mut slots = vec![Slot::Absent; message.fields.len()];
    for entry in Reader(bytes) {
        let (number, payload) = entry?;
        let Some(index) = message.numbered(number) else { continue };
        let field = &message.fields[index];
        if let Some(oneof) = field.oneof {
            // Of the members of a oneof the last one counts.
            for (other, slot) in message.fields.iter().zip(&mut slots) {
                if other.oneof == Some(oneof) && other.number != number {
                    *slot = Slot::Absent;
                }
            }
        }
        slots[index].add(field, payload);
    }
    Ok(slots)
}

impl<'a> Slot<'a> {
    fn add(&mut self, field: &Field, payload: Payload<'a>) {
        match (&field.shape, &mut *self, payload) {
            (Shape::List(_) | Shape::Map(..), Self::Many(payloads), _) => payloads.push(payload),
            (Shape::List(_) | Shape::Map(..), _, _) => *self = Self::Many(vec![payload]),
            (Shape::One(kind), Self::One(Payload::Bytes(first)), Payload::Bytes(second))
                if is_message(kind) =>
            {
                *self = Self::Merged([first, second].concat());
            }
            (Shape::One(_), Self::Merged(parts), Payload::Bytes(next)) => {
                parts.extend_from_slice(next);
            }
            (Shape::One(_), _, _) => *self = Self::One(payload),
        }
    }

    /// The payload of a field that holds one value.
    pub(crate) fn payload(&self) -> Option<Payload<'_>> {
        match self {
            Self::One(payload) => Some(*payload),
            Self::Merged(parts) => Some(Payload::Bytes(parts)),
            Self::Absent | Self::Many(_) => None,
        }
    }

    /// The payloads of a list or map.
    pub(crate) fn payloads(&self) -> &[Payload<'a>] {
        match self {
            Self::Many(payloads) => payloads,
            Self::Absent | Self::One(_) | Self::Merged(_) => &[],
        }
    }

    /// True if the field is there: set, where that can be told from its default, else not its default.
    pub(crate) fn is_present(&self, field: &Field) -> bool {
        match self {
            Self::Absent => false,
            Self::Merged(_) => true,
            // A packed list may be written although it is empty.
            Self::Many(payloads) => match field.shape {
                Shape::List(_) if is_packable(&field.shape) => payloads
                    .iter()
                    .any(|payload| !matches!(payload, Payload::Bytes(bytes) if bytes.is_empty())),
                Shape::One(_) | Shape::List(_) | Shape::Map(..) => true,
            },
            Self::One(payload) => field.has_presence || !payload.is_default(),
        }
    }
}

/// True if an encoded field holds its default.
pub(crate) fn is_default(encoded: &[u8]) -> bool {
    matches!(Reader(encoded).next(), Some(Ok((_, payload))) if payload.is_default())
}

fn is_message(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Message(_)
            | Kind::Timestamp
            | Kind::Duration
            | Kind::Value
            | Kind::Struct
            | Kind::ListValue
    )
}

fn is_packable(shape: &Shape) -> bool {
    let (Shape::One(kind) | Shape::List(kind)) = shape else { return false };
    !is_message(kind) && !matches!(kind, Kind::String | Kind::Bytes)
}

/// What a value of the kind holds when it was not written.
pub(crate) fn default_payload(kind: &Kind) -> Payload<'static> {
    match kind {
        Kind::Bool
        | Kind::Int32
        | Kind::Sint32
        | Kind::Uint32
        | Kind::Int64
        | Kind::Sint64
        | Kind::Uint64
        | Kind::Enum(_) => Payload::Varint(0),
        Kind::Sfixed32 | Kind::Fixed32 | Kind::Float => Payload::Fixed32(0),
        Kind::Sfixed64 | Kind::Fixed64 | Kind::Double => Payload::Fixed64(0),
        Kind::String
        | Kind::Bytes
        | Kind::Message(_)
        | Kind::Timestamp
        | Kind::Duration
        | Kind::Value
        | Kind::Struct
        | Kind::ListValue => Payload::Bytes(&[]),
    }
}

/// Gives each element in a payload of a list: one, or many if they are packed.
///
/// # Errors
/// The outer one if the payload is malformed, the inner one as `each` gives it.
pub(crate) fn unpack<'a, E>(
    kind: &Kind,
    payload: Payload<'a>,
    mut each: impl FnMut(Payload<'a>) -> Result<(), E>,
) -> Result<Result<(), E>, Malformed> {
    let Payload::Bytes(bytes) = payload else { return Ok(each(payload)) };
    let mut packed = Reader(bytes);
    let empty = default_payload(kind);
    if matches!(empty, Payload::Bytes(_)) {
        return Ok(each(payload));
    }
    while !packed.is_empty() {
        let element = match empty {
            Payload::Varint(_) => Payload::Varint(packed.varint()?),
            Payload::Fixed32(_) => Payload::Fixed32(packed.fixed32()?),
            Payload::Fixed64(_) => Payload::Fixed64(packed.fixed64()?),
            Payload::Bytes(_) => return Err(Malformed),
        };
        if let Err(error) = each(element) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

/// The low half, which is what 32-bit fields take of a varint.
pub(crate) fn low_half(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
