//! Single values that are no containers: read from D-Bus with any integer type for any other, checked
//! and written as protobuf. Containers are not its business.

use std::fmt;

use serde::de::{Deserializer, Visitor};
use zbus::Signature;

use super::plan::Kind;
use super::wire;

/// A single value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar<'de> {
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(&'de str),
}

impl<'de> Scalar<'de> {
    /// Reads a value of the type `signature`; `None`, with nothing read, if that is no single value
    /// that a message can hold.
    pub(crate) fn read<D: Deserializer<'de>>(
        signature: &Signature,
        deserializer: D,
    ) -> Result<Option<Self>, D::Error> {
        let is_single = matches!(
            signature,
            Signature::Bool
                | Signature::U8
                | Signature::I16
                | Signature::U16
                | Signature::I32
                | Signature::U32
                | Signature::I64
                | Signature::U64
                | Signature::F64
                | Signature::Str
                | Signature::ObjectPath
        );
        if !is_single {
            return Ok(None);
        }
        deserializer.deserialize_any(ScalarVisitor).map(Some)
    }

    /// Writes the value as the field `number`.
    ///
    /// # Errors
    /// The problem, if the value is none of the kind.
    pub(crate) fn push(self, out: &mut Vec<u8>, kind: &Kind, number: u32) -> Result<(), String> {
        match (kind, self) {
            (Kind::Bool, Self::Bool(value)) => {
                wire::push_varint_field(out, number, u64::from(value));
            }
            (Kind::Int32, Self::Integer(value)) => {
                let value = i64::from(in_range::<i32>(value, "int32")?);
                wire::push_varint_field(out, number, value.cast_unsigned());
            }
            (Kind::Sint32, Self::Integer(value)) => {
                let value = i64::from(in_range::<i32>(value, "sint32")?);
                wire::push_varint_field(out, number, wire::zigzag(value));
            }
            (Kind::Sfixed32, Self::Integer(value)) => {
                let value: i32 = in_range(value, "sfixed32")?;
                wire::push_fixed32_field(out, number, value.cast_unsigned());
            }
            (Kind::Uint32, Self::Integer(value)) => {
                let value: u32 = in_range(value, "uint32")?;
                wire::push_varint_field(out, number, u64::from(value));
            }
            (Kind::Fixed32, Self::Integer(value)) => {
                wire::push_fixed32_field(out, number, in_range(value, "fixed32")?);
            }
            (Kind::Int64, Self::Integer(value)) => {
                let value: i64 = in_range(value, "int64")?;
                wire::push_varint_field(out, number, value.cast_unsigned());
            }
            (Kind::Sint64, Self::Integer(value)) => {
                wire::push_varint_field(out, number, wire::zigzag(in_range(value, "sint64")?));
            }
            (Kind::Sfixed64, Self::Integer(value)) => {
                let value: i64 = in_range(value, "sfixed64")?;
                wire::push_fixed64_field(out, number, value.cast_unsigned());
            }
            (Kind::Uint64, Self::Integer(value)) => {
                wire::push_varint_field(out, number, in_range(value, "uint64")?);
            }
            (Kind::Fixed64, Self::Integer(value)) => {
                wire::push_fixed64_field(out, number, in_range(value, "fixed64")?);
            }
            (Kind::Double, Self::Float(value)) => {
                wire::push_fixed64_field(out, number, value.to_bits());
            }
            (Kind::Double, Self::Integer(value)) => {
                wire::push_fixed64_field(out, number, exact_double(value)?.to_bits());
            }
            (Kind::Float, Self::Float(value)) => {
                wire::push_fixed32_field(out, number, to_float(value)?.to_bits());
            }
            (Kind::Float, Self::Integer(value)) => {
                let value = to_float(exact_double(value)?)?;
                wire::push_fixed32_field(out, number, value.to_bits());
            }
            (Kind::String, Self::Text(text)) => {
                wire::push_bytes_field(out, number, text.as_bytes());
            }
            (Kind::Enum(names), Self::Text(name)) => {
                let value = names
                    .number(name)
                    .ok_or_else(|| format!("{name:?} is none of {}", names.all()))?;
                wire::push_varint_field(out, number, i64::from(value).cast_unsigned());
            }
            (Kind::Timestamp | Kind::Duration, Self::Integer(value)) => {
                push_time(out, kind, number, in_range(value, "number of microseconds")?);
            }
            _ => return Err(format!("takes {}, not {self}", kind.expected())),
        }
        Ok(())
    }
}

/// Writes microseconds as seconds and nanoseconds. A duration's parts have the same sign; a
/// timestamp's nanoseconds count forward.
fn push_time(out: &mut Vec<u8>, kind: &Kind, number: u32, microseconds: i64) {
    const PER_SECOND: i64 = 1_000_000;
    let (seconds, rest) = if matches!(kind, Kind::Timestamp) {
        (microseconds.div_euclid(PER_SECOND), microseconds.rem_euclid(PER_SECOND))
    } else {
        (microseconds / PER_SECOND, microseconds % PER_SECOND)
    };
    let start = wire::open(out, number);
    for (part, value) in [(1, seconds), (2, rest * 1_000)] {
        if value != 0 {
            wire::push_varint_field(out, part, value.cast_unsigned());
        }
    }
    wire::close(out, start);
}

fn in_range<T: TryFrom<i128>>(value: i128, kind: &str) -> Result<T, String> {
    T::try_from(value).map_err(|_| format!("{value} is out of range for {kind}"))
}

/// The double that is exactly `value`.
///
/// # Errors
/// The problem, if there is none.
pub(crate) fn exact_double(value: i128) -> Result<f64, String> {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "checked")]
    let (double, back) = (value as f64, value as f64 as i128);
    if back == value {
        Ok(double)
    } else {
        Err(format!("{value} cannot be held exactly by a double; send it as a text"))
    }
}

fn to_float(value: f64) -> Result<f32, String> {
    #[expect(clippy::cast_possible_truncation, reason = "a float keeps what precision it has")]
    let float = value as f32;
    if value.is_finite() && !float.is_finite() {
        return Err(format!("{value} is out of range for float"));
    }
    Ok(float)
}

impl fmt::Display for Scalar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(_) => f.write_str("b"),
            Self::Integer(_) => f.write_str("an integer"),
            Self::Float(_) => f.write_str("d"),
            Self::Text(_) => f.write_str("s"),
        }
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a single value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Float(value))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(text))
    }
}
