//! `google.protobuf.Struct` as JSON, for schemas and arguments.

use prost_types::value::Kind;
use prost_types::{Struct, Value as Proto};
use serde_json::{Map, Number, Value};

use super::definition::no_zero_byte;
use crate::error::Error;

/// How deep objects and lists may be within each other.
const DEPTH_MAX: usize = 24;

/// The largest whole number up to which every one is a `double`.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// The object as JSON. Whole numbers are integers.
///
/// # Errors
/// `InvalidArgument` naming `field` if it is nested too deeply, or has a number that JSON has not or a
/// text with a zero byte, which neither a program nor D-Bus could be given.
pub(super) fn object(fields: Struct, field: &str) -> Result<Value, Error> {
    map(fields, field, 1)
}

fn map(fields: Struct, field: &str, depth: usize) -> Result<Value, Error> {
    let entries = fields.fields.into_iter();
    let entries = entries.map(|(name, entry)| {
        no_zero_byte(field, &name)?;
        Ok((name, value(entry, field, depth)?))
    });
    entries.collect::<Result<Map<_, _>, Error>>().map(Value::Object)
}

fn value(proto: Proto, field: &str, depth: usize) -> Result<Value, Error> {
    if depth > DEPTH_MAX {
        let problem = format!("is nested more than {DEPTH_MAX} deep");
        return Err(Error::invalid(field, problem));
    }
    Ok(match proto.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::StringValue(text)) => {
            no_zero_byte(field, &text)?;
            text.into()
        }
        Some(Kind::NumberValue(number)) => Value::Number(self::number(number, field)?),
        Some(Kind::StructValue(fields)) => map(fields, field, depth + 1)?,
        Some(Kind::ListValue(list)) => {
            let items = list.values.into_iter().map(|item| value(item, field, depth + 1));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
    })
}

fn number(number: f64, field: &str) -> Result<Number, Error> {
    if number.fract() == 0.0 && number.abs() <= WHOLE_MAX {
        // It has no fraction and fits, so nothing is lost.
        #[expect(clippy::cast_possible_truncation, reason = "a whole number of at most 2⁵³")]
        let whole = number as i64;
        return Ok(whole.into());
    }
    Number::from_f64(number)
        .ok_or_else(|| Error::invalid(field, format!("{number} is no number of JSON")))
}
