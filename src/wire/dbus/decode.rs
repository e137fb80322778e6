//! From the body of a call or a reply to the encoded message: reads the D-Bus values by plan and writes
//! protobuf, with nothing in between. `google.protobuf.Value` and its kin are in `value.rs`.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use zbus::{DynamicType, Signature};

use super::beside::{Beside, Newer, given};
use super::fault::Fault;
use super::plan::{Arena, Field, Kind, MAX_LEVELS, Method, Shape};
use super::scalar::Scalar;
use super::{slot, value, wire};
use crate::error::Error;

/// Reads the body of a call whose signature is the method's.
///
/// # Errors
/// `InvalidArgument` naming the argument or option.
#[cfg(feature = "daemon")]
pub(crate) fn request(
    method: &Method,
    body: &zbus::message::Body,
    options: &mut dyn Beside,
) -> Result<Vec<u8>, Error> {
    let side = Side {
        message: method.input,
        arguments: &method.inputs,
        has_rest: true,
        signature: &method.in_signature,
    };
    read(method, side, body, options).map_err(|(place, problem)| Error::invalid(place, problem))
}

/// Reads the body of a reply. Fields that the plan does not know come from a newer service and are left
/// out.
///
/// # Errors
/// `Internal` naming the argument that is not as the plan says.
pub(crate) fn response(method: &Method, body: &zbus::message::Body) -> Result<Vec<u8>, Error> {
    if matches!(method.out_signature, Signature::Unit) {
        return Ok(Vec::new());
    }
    let side = Side {
        message: method.output,
        arguments: &method.outputs,
        has_rest: method.has_extra,
        signature: &method.out_signature,
    };
    read(method, side, body, &mut Newer).map_err(|(place, problem)| {
        Error::internal(format!("the service's answer cannot be read: {place}: {problem}"))
    })
}

/// One side of a method: what it takes or what it gives.
#[derive(Clone, Copy)]
struct Side<'p> {
    /// The type of the message.
    message: usize,
    /// The fields that are arguments, by position.
    arguments: &'p [usize],
    /// True if a dictionary with the others ends the body.
    has_rest: bool,
    signature: &'p Signature,
}

/// Reads a body. An error is a place and the problem there.
fn read(
    method: &Method,
    side: Side<'_>,
    body: &zbus::message::Body,
    beside: &mut dyn Beside,
) -> Result<Vec<u8>, (String, String)> {
    let mut decoder = Decoder {
        arena: &method.arena,
        side,
        out: Vec::with_capacity(body.len()),
        beside,
        fault: Fault::default(),
        levels: 0,
    };
    match body.data().deserialize_with_seed(Arguments(&mut decoder)) {
        Ok(_) => Ok(decoder.out),
        Err(error) => Err(decoder.fault.into_parts(error, "body")),
    }
}

/// The message so far.
pub(crate) struct Decoder<'p> {
    arena: &'p Arena,
    side: Side<'p>,
    pub(crate) out: Vec<u8>,
    beside: &'p mut dyn Beside,
    pub(crate) fault: Fault,
    levels: usize,
}

impl Decoder<'_> {
    /// Begins a message, list or object of `Value` inside the current one.
    pub(crate) fn deeper<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.levels += 1;
        if self.levels > MAX_LEVELS {
            return Err(self.fault.note(format!("is nested deeper than {MAX_LEVELS} levels")));
        }
        Ok(())
    }

    /// Ends it.
    pub(crate) fn shallower(&mut self) {
        self.levels -= 1;
    }
}

/// What a value is decoded as.
#[derive(Clone, Copy)]
pub(crate) enum Target<'p> {
    /// All values of a field.
    Field(&'p Field),
    /// One value, written as the field `number`.
    One { kind: &'p Kind, number: u32 },
    /// Something beside the fields, by its place.
    Beside(usize),
}

/// Decodes one D-Bus value of the type `signature`.
pub(crate) struct Seed<'d, 'p, 's> {
    pub(crate) decoder: &'d mut Decoder<'p>,
    pub(crate) target: Target<'p>,
    pub(crate) signature: &'s Signature,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { decoder, target, signature } = self;
        if matches!(signature, Signature::Variant) {
            return deserializer.deserialize_any(Variant { decoder, target });
        }
        match target {
            Target::Field(field) => match (&field.shape, signature) {
                (Shape::One(kind), _) => {
                    let begin = decoder.out.len();
                    one(decoder, kind, field.number, signature, deserializer)?;
                    // As every other encoder leaves it out, so that equal requests are equal bytes.
                    if !field.has_presence && slot::is_default(&decoder.out[begin..]) {
                        decoder.out.truncate(begin);
                    }
                    Ok(())
                }
                (Shape::List(kind), Signature::Array(child)) => {
                    let target = Target::One { kind, number: field.number };
                    deserializer.deserialize_any(Elements { decoder, target, signature: child })
                }
                (Shape::Map(key, entry), Signature::Dict { key: key_type, value: entry_type }) => {
                    deserializer.deserialize_any(Entries {
                        decoder,
                        number: field.number,
                        key: (key, key_type),
                        value: (entry, entry_type),
                    })
                }
                (Shape::List(_) | Shape::Map(..), _) => {
                    Err(mismatch(decoder, &field.signature_text, signature))
                }
            },
            Target::One { kind, number } => one(decoder, kind, number, signature, deserializer),
            Target::Beside(position) => {
                let given = match given(signature, deserializer)? {
                    Some(given) => given,
                    None => return Err(decoder.fault.note(format!("is no {signature}"))),
                };
                let taken = decoder.beside.take(position, given);
                taken.map_err(|problem| decoder.fault.note(problem))
            }
        }
    }
}

/// Decodes one value of a kind.
fn one<'de, 'p, D: Deserializer<'de>>(
    decoder: &mut Decoder<'p>,
    kind: &'p Kind,
    number: u32,
    signature: &Signature,
    deserializer: D,
) -> Result<(), D::Error> {
    match (kind, signature) {
        (Kind::Bytes, Signature::Array(child)) if **child == Signature::U8 => {
            deserializer.deserialize_bytes(Bytes { decoder, number })
        }
        (Kind::Message(index), Signature::Dict { key, value }) if **key == Signature::Str => {
            decoder.deeper()?;
            let start = wire::open(&mut decoder.out, number);
            let fields = Fields { decoder, message: *index, signature: value, arguments: &[] };
            deserializer.deserialize_any(fields)?;
            wire::close(&mut decoder.out, start);
            decoder.shallower();
            Ok(())
        }
        (Kind::Value, _) => {
            let start = wire::open(&mut decoder.out, number);
            value::decode(decoder, signature, deserializer)?;
            wire::close(&mut decoder.out, start);
            Ok(())
        }
        (Kind::ListValue, Signature::Array(child)) if **child != Signature::U8 => {
            value::decode_list(decoder, number, child, deserializer)
        }
        (Kind::Struct, Signature::Dict { key, value }) if **key == Signature::Str => {
            value::decode_struct(decoder, number, value, deserializer)
        }
        (Kind::Message(_) | Kind::ListValue | Kind::Struct | Kind::Bytes, _) => {
            Err(mismatch(decoder, kind.expected(), signature))
        }
        _ => match Scalar::read(signature, deserializer)? {
            Some(scalar) => scalar
                .push(&mut decoder.out, kind, number)
                .map_err(|problem| decoder.fault.note(problem)),
            None => Err(mismatch(decoder, kind.expected(), signature)),
        },
    }
}

fn mismatch<E: serde::de::Error>(
    decoder: &mut Decoder<'_>,
    expected: &str,
    found: &Signature,
) -> E {
    decoder.fault.note(format!("takes {expected}, not {found}"))
}

/// All arguments, and the dictionary at the end.
struct Arguments<'d, 'p>(&'d mut Decoder<'p>);

impl DynamicType for Arguments<'_, '_> {
    fn signature(&self) -> Signature {
        self.0.side.signature.clone()
    }
}

impl<'de> DeserializeSeed<'de> for Arguments<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Side { arguments, has_rest, .. } = self.0.side;
        deserializer.deserialize_tuple(arguments.len() + usize::from(has_rest), self)
    }
}

impl<'de> Visitor<'de> for Arguments<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the arguments of the method")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut arguments: A) -> Result<(), A::Error> {
        let decoder = self.0;
        let side = decoder.side;
        let message = decoder.arena.message(side.message);
        for index in side.arguments {
            let field = &message.fields[*index];
            let seed = Seed {
                decoder: &mut *decoder,
                target: Target::Field(field),
                signature: &field.signature,
            };
            arguments.next_element_seed(seed).inspect_err(|_| decoder.fault.within(&field.name))?;
        }
        if side.has_rest {
            arguments.next_element_seed(Rest(&mut *decoder))?;
        }
        Ok(())
    }
}

/// The dictionary at the end.
struct Rest<'d, 'p>(&'d mut Decoder<'p>);

impl<'de> DeserializeSeed<'de> for Rest<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let side = self.0.side;
        deserializer.deserialize_any(Fields {
            decoder: self.0,
            message: side.message,
            signature: &Signature::Variant,
            arguments: side.arguments,
        })
    }
}

/// The fields of a message as a dictionary. At the end of a body it also bears what is beside them, and
/// the fields that are arguments have no place in it.
struct Fields<'d, 'p, 's> {
    decoder: &'d mut Decoder<'p>,
    message: usize,
    /// The type of the values.
    signature: &'s Signature,
    arguments: &'p [usize],
}

impl<'de> Visitor<'de> for Fields<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a dictionary of fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = Seen::default();
        // Only the dictionary that ends a body stands in no message.
        let is_rest = self.decoder.levels == 0;
        while let Some(name) = entries.next_key::<&str>()? {
            if self.decoder.beside.skips_unknown() && !self.knows(name) {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            let target = self.target(name, is_rest, &mut seen);
            let target = target.map_err(|problem| {
                self.decoder.fault.within(name);
                self.decoder.fault.note(problem)
            })?;
            let seed = Seed { decoder: &mut *self.decoder, target, signature: self.signature };
            entries.next_value_seed(seed).inspect_err(|_| self.decoder.fault.within(name))?;
        }
        Ok(())
    }
}

/// What a dictionary has held so far.
#[derive(Default)]
struct Seen {
    fields: Vec<usize>,
    beside: Vec<usize>,
}

impl<'p> Fields<'_, 'p, '_> {
    fn knows(&self, name: &str) -> bool {
        self.decoder.arena.message(self.message).named(name).is_some()
    }

    fn target(&self, name: &str, is_rest: bool, seen: &mut Seen) -> Result<Target<'p>, String> {
        if is_rest && let Some(position) = self.decoder.beside.position(name) {
            if seen.beside.contains(&position) {
                return Err("is given twice".to_owned());
            }
            seen.beside.push(position);
            return Ok(Target::Beside(position));
        }
        let message = self.decoder.arena.message(self.message);
        let Some(index) = message.named(name) else {
            return Err(self.unknown());
        };
        if self.arguments.contains(&index) {
            return Err("is an argument of the method, not an option".to_owned());
        }
        if seen.fields.contains(&index) {
            return Err("is given twice".to_owned());
        }
        let field = &message.fields[index];
        if let Some(oneof) = field.oneof
            && let Some(other) =
                seen.fields.iter().find(|other| message.fields[**other].oneof == Some(oneof))
        {
            let other = &message.fields[*other].name;
            return Err(format!("cannot be given together with {other}"));
        }
        seen.fields.push(index);
        Ok(Target::Field(field))
    }

    fn unknown(&self) -> String {
        let fields = &self.decoder.arena.message(self.message).fields;
        let known: Vec<&str> = fields
            .iter()
            .enumerate()
            .filter(|(index, _)| !self.arguments.contains(index))
            .map(|(_, field)| field.name.as_ref())
            .collect();
        if known.is_empty() {
            "is not known here; there is nothing that can be given".to_owned()
        } else {
            format!("is not known here; there are {}", known.join(", "))
        }
    }
}

/// The elements of an array.
pub(crate) struct Elements<'d, 'p, 's> {
    pub(crate) decoder: &'d mut Decoder<'p>,
    pub(crate) target: Target<'p>,
    pub(crate) signature: &'s Signature,
}

impl<'de> Visitor<'de> for Elements<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let Self { decoder, target, signature } = self;
        while elements
            .next_element_seed(Seed { decoder: &mut *decoder, target, signature })?
            .is_some()
        {}
        Ok(())
    }
}

/// The entries of a dictionary that is a map.
struct Entries<'d, 'p, 's> {
    decoder: &'d mut Decoder<'p>,
    number: u32,
    key: (&'p Kind, &'s Signature),
    value: (&'p Kind, &'s Signature),
}

impl<'de> Visitor<'de> for Entries<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a dictionary")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Self { decoder, number, key, value } = self;
        loop {
            let begin = decoder.out.len();
            let start = wire::open(&mut decoder.out, number);
            let target = Target::One { kind: key.0, number: 1 };
            let seed = Seed { decoder: &mut *decoder, target, signature: key.1 };
            if entries.next_key_seed(seed)?.is_none() {
                decoder.out.truncate(begin);
                return Ok(());
            }
            let target = Target::One { kind: value.0, number: 2 };
            entries.next_value_seed(Seed { decoder: &mut *decoder, target, signature: value.1 })?;
            wire::close(&mut decoder.out, start);
        }
    }
}

/// Bytes, as one slice.
struct Bytes<'d, 'p> {
    decoder: &'d mut Decoder<'p>,
    number: u32,
}

impl Visitor<'_> for Bytes<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<(), E> {
        wire::push_bytes_field(&mut self.decoder.out, self.number, bytes);
        Ok(())
    }
}

/// A variant: its signature and then its value.
struct Variant<'d, 'p> {
    decoder: &'d mut Decoder<'p>,
    target: Target<'p>,
}

impl<'de> Visitor<'de> for Variant<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a variant")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<(), A::Error> {
        let text: &str =
            parts.next_element()?.ok_or_else(|| A::Error::custom("a variant has no signature"))?;
        let signature = Signature::try_from(text).map_err(A::Error::custom)?;
        let Self { decoder, target } = self;
        parts
            .next_element_seed(Seed { decoder, target, signature: &signature })?
            .ok_or_else(|| A::Error::custom("a variant has no value"))
    }
}
