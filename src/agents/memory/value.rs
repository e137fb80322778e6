//! Values: which are stored, and as which bytes. Equal values have equal bytes.

use prost::Message as _;
use prost_types::Value;
use prost_types::value::Kind;

use crate::error::Error;

/// The size of an encoded value at most, in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// How many lists and objects may be within one another: what D-Bus can carry.
const MAX_DEPTH: usize = 15;

/// Integers up to this one are exact in a double, and so are their sums.
pub(super) const MAX_INTEGER: i64 = 1 << 53;

/// The bytes of a value; `at` is where it stands.
pub(super) fn encode(at: &str, value: Option<Value>) -> Result<Vec<u8>, Error> {
    let value = value.ok_or_else(|| Error::invalid(format!("{at}value"), "is missing"))?;
    let value = checked(at, "value", value)?;
    let size = value.encoded_len();
    if size > MAX_BYTES {
        return Err(Error::invalid(
            format!("{at}value"),
            format_args!("takes {size} bytes; {MAX_BYTES} are the most"),
        ));
    }
    Ok(value.encode_to_vec())
}

/// A value as it would be stored and read again, of any size; it stands in the field `field` at `at`.
pub(super) fn checked(at: &str, field: &str, mut value: Value) -> Result<Value, Error> {
    normalize(&mut value, MAX_DEPTH)
        .map_err(|problem| Error::invalid(format!("{at}{field}"), problem))?;
    Ok(value)
}

/// The value of stored bytes.
pub(super) fn decode(bytes: &[u8]) -> Result<Value, Error> {
    Value::decode(bytes)
        .map_err(|error| Error::internal(format!("a stored value cannot be decoded: {error}")))
}

/// The bytes of an integer within ±[`MAX_INTEGER`].
#[expect(clippy::cast_precision_loss, reason = "exact up to MAX_INTEGER")]
pub(super) fn encode_integer(integer: i64) -> Vec<u8> {
    Value { kind: Some(Kind::NumberValue(integer as f64)) }.encode_to_vec()
}

/// The integer that stored bytes hold, if they hold one within ±[`MAX_INTEGER`].
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "exact up to MAX_INTEGER"
)]
pub(super) fn decode_integer(bytes: &[u8]) -> Result<Option<i64>, Error> {
    Ok(match decode(bytes)?.kind {
        Some(Kind::NumberValue(number))
            if number.fract() == 0.0 && number.abs() <= MAX_INTEGER as f64 =>
        {
            Some(number as i64)
        }
        _ => None,
    })
}

/// Makes nothing a null, and refuses what JSON or D-Bus cannot say.
fn normalize(value: &mut Value, depth: usize) -> Result<(), String> {
    const TOO_DEEP: &str = "has more than 15 lists and objects within one another";
    match &mut value.kind {
        Some(Kind::NumberValue(number)) if !number.is_finite() => {
            Err(format!("holds {number}, which JSON cannot say"))
        }
        Some(Kind::StructValue(object)) => {
            let depth = depth.checked_sub(1).ok_or(TOO_DEEP)?;
            object.fields.values_mut().try_for_each(|value| normalize(value, depth))
        }
        Some(Kind::ListValue(list)) => {
            let depth = depth.checked_sub(1).ok_or(TOO_DEEP)?;
            list.values.iter_mut().try_for_each(|value| normalize(value, depth))
        }
        Some(
            Kind::NullValue(_) | Kind::NumberValue(_) | Kind::StringValue(_) | Kind::BoolValue(_),
        ) => Ok(()),
        None => {
            value.kind = Some(Kind::NullValue(0));
            Ok(())
        }
    }
}
