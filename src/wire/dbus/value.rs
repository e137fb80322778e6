//! `google.protobuf.Value`, `Struct` and `ListValue` as D-Bus variants, both ways. Null is a variant
//! that holds the empty signature. All other types are in `decode.rs` and `encode.rs`.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeSeq as _, Serializer};
use zbus::Signature;

use super::decode::{Decoder, Elements, Seed, Target};
use super::encode::{Encoder, Item};
use super::plan::Kind;
use super::scalar::{Scalar, exact_double};
use super::wire::{self, Payload, Reader};

/// The kind of the elements of lists and structs.
static VALUE: Kind = Kind::Value;

/// The numbers of the fields of `google.protobuf.Value`.
mod field {
    pub(crate) const NULL: u32 = 1;
    pub(crate) const NUMBER: u32 = 2;
    pub(crate) const TEXT: u32 = 3;
    pub(crate) const BOOL: u32 = 4;
    pub(crate) const STRUCT: u32 = 5;
    pub(crate) const LIST: u32 = 6;
}

/// Decodes any D-Bus value as the content of a `Value`.
pub(crate) fn decode<'de, D: Deserializer<'de>>(
    decoder: &mut Decoder<'_>,
    signature: &Signature,
    deserializer: D,
) -> Result<(), D::Error> {
    if let Signature::Array(child) = signature {
        if **child == Signature::U8 {
            let problem = "bytes (ay) have no place in a value; send them as a text";
            return Err(decoder.fault.note(problem));
        }
        return decode_list(decoder, field::LIST, child, deserializer);
    }
    if let Signature::Dict { key, value } = signature
        && **key == Signature::Str
    {
        return decode_struct(decoder, field::STRUCT, value, deserializer);
    }
    if matches!(signature, Signature::Signature) {
        let text: &str = serde::Deserialize::deserialize(deserializer)?;
        if !text.is_empty() {
            return Err(decoder.fault.note("a signature is no value; the empty one is null"));
        }
        wire::push_varint_field(&mut decoder.out, field::NULL, 0);
        return Ok(());
    }
    let Some(scalar) = Scalar::read(signature, deserializer)? else {
        return Err(decoder.fault.note(format!("a value cannot hold {signature}")));
    };
    push(decoder, scalar).map_err(|problem| decoder.fault.note(problem))
}

fn push(decoder: &mut Decoder<'_>, scalar: Scalar<'_>) -> Result<(), String> {
    let out = &mut decoder.out;
    match scalar {
        Scalar::Bool(value) => wire::push_varint_field(out, field::BOOL, u64::from(value)),
        Scalar::Integer(value) => {
            wire::push_fixed64_field(out, field::NUMBER, exact_double(value)?.to_bits());
        }
        Scalar::Float(value) => wire::push_fixed64_field(out, field::NUMBER, value.to_bits()),
        Scalar::Text(text) => wire::push_bytes_field(out, field::TEXT, text.as_bytes()),
    }
    Ok(())
}

/// Decodes an array as a `ListValue`, written as the field `number`.
pub(crate) fn decode_list<'de, D: Deserializer<'de>>(
    decoder: &mut Decoder<'_>,
    number: u32,
    signature: &Signature,
    deserializer: D,
) -> Result<(), D::Error> {
    decoder.deeper()?;
    let start = wire::open(&mut decoder.out, number);
    let target = Target::One { kind: &VALUE, number: 1 };
    deserializer.deserialize_any(Elements { decoder: &mut *decoder, target, signature })?;
    wire::close(&mut decoder.out, start);
    decoder.shallower();
    Ok(())
}

/// Decodes a dictionary as a `Struct`, written as the field `number`.
pub(crate) fn decode_struct<'de, D: Deserializer<'de>>(
    decoder: &mut Decoder<'_>,
    number: u32,
    signature: &Signature,
    deserializer: D,
) -> Result<(), D::Error> {
    decoder.deeper()?;
    let start = wire::open(&mut decoder.out, number);
    deserializer.deserialize_any(Members { decoder: &mut *decoder, signature })?;
    wire::close(&mut decoder.out, start);
    decoder.shallower();
    Ok(())
}

/// The members of a `Struct`.
struct Members<'d, 'p, 's> {
    decoder: &'d mut Decoder<'p>,
    signature: &'s Signature,
}

impl<'de> Visitor<'de> for Members<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a dictionary")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self { decoder, signature } = self;
        while let Some(name) = members.next_key::<&str>()? {
            let start = wire::open(&mut decoder.out, 1);
            wire::push_bytes_field(&mut decoder.out, 1, name.as_bytes());
            let target = Target::One { kind: &VALUE, number: 2 };
            members
                .next_value_seed(Seed { decoder: &mut *decoder, target, signature })
                .inspect_err(|_| decoder.fault.within(name))?;
            wire::close(&mut decoder.out, start);
        }
        Ok(())
    }
}

/// A value that was found in an encoded `Value`.
pub(crate) enum Found<'a> {
    Null,
    Number(f64),
    Text(&'a [u8]),
    Bool(bool),
    Struct(&'a [u8]),
    List(&'a [u8]),
}

impl<'a> Found<'a> {
    /// Reads an encoded `Value`. One that holds nothing is null.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut found = Self::Null;
        for entry in Reader(bytes) {
            found = match entry.ok()? {
                (field::NULL, Payload::Varint(_)) => Self::Null,
                (field::NUMBER, Payload::Fixed64(bits)) => Self::Number(f64::from_bits(bits)),
                (field::TEXT, Payload::Bytes(text)) => Self::Text(text),
                (field::BOOL, Payload::Varint(value)) => Self::Bool(value != 0),
                (field::STRUCT, Payload::Bytes(content)) => Self::Struct(content),
                (field::LIST, Payload::Bytes(content)) => Self::List(content),
                (1..=6, _) => return None,
                _ => found,
            };
        }
        Some(found)
    }

    /// The type that the variant of this value bears.
    pub(crate) fn signature(&self) -> &'static str {
        match self {
            Self::Null => "g",
            Self::Number(_) => "d",
            Self::Text(_) => "s",
            Self::Bool(_) => "b",
            Self::Struct(_) => "a{sv}",
            Self::List(_) => "av",
        }
    }

    /// Writes the value without its variant.
    pub(crate) fn serialize<S: Serializer>(
        &self,
        encoder: &Encoder<'_>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_str(""),
            Self::Number(value) => serializer.serialize_f64(*value),
            Self::Text(text) => serializer.serialize_str(encoder.text(text)?),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Struct(content) => encode_struct(encoder, content, serializer),
            Self::List(content) => encode_list(encoder, content, serializer),
        }
    }
}

/// Writes an encoded `ListValue` as an array of variants.
pub(crate) fn encode_list<S: Serializer>(
    encoder: &Encoder<'_>,
    content: &[u8],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let _level = encoder.deeper()?;
    let mut list = serializer.serialize_seq(None)?;
    for entry in Reader(content) {
        match entry {
            Ok((1, payload)) => {
                list.serialize_element(&Item { encoder, kind: &VALUE, payload: Some(payload) })?;
            }
            Ok(_) => {}
            Err(malformed) => return Err(encoder.malformed(malformed)),
        }
    }
    list.end()
}

/// Writes an encoded `Struct` as a dictionary of variants.
pub(crate) fn encode_struct<S: Serializer>(
    encoder: &Encoder<'_>,
    content: &[u8],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let _level = encoder.deeper()?;
    let mut members = serializer.serialize_map(None)?;
    for entry in Reader(content) {
        let (number, payload) = entry.map_err(|malformed| encoder.malformed(malformed))?;
        if number != 1 {
            continue;
        }
        let (name, value) = encoder.entry(payload)?;
        let name = match name {
            Some(Payload::Bytes(name)) => encoder.text(name)?,
            _ => "",
        };
        members
            .serialize_entry(name, &Item { encoder, kind: &VALUE, payload: value })
            .inspect_err(|_| encoder.within(name))?;
    }
    members.end()
}
