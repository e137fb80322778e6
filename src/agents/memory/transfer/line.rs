//! One key as a line of JSON, and back.

use std::str::FromStr as _;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Timestamp, Value};
use serde::{Deserialize, Serialize};

use crate::agents::memory::time::timestamp;
use crate::agents::memory::value::MAX_INTEGER;
use crate::error::Error;

/// A line.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) key: String,
    #[serde(default)]
    pub(super) namespace: String,
    pub(super) value: serde_json::Value,
    #[serde(default)]
    pub(super) tags: Vec<String>,
    #[serde(default)]
    pub(super) version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) created_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) updated_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<String>,
}

impl Line {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map_err(|error| Error::invalid("data", error))
    }

    /// Appends the line, with its end.
    pub(super) fn write(&self, text: &mut Vec<u8>) -> Result<(), Error> {
        serde_json::to_writer(&mut *text, self)
            .map_err(|error| Error::internal(format!("a key has no JSON form: {error}")))?;
        text.push(b'\n');
        Ok(())
    }
}

/// A time as it is written.
pub(super) fn time_text(micros: i64) -> String {
    timestamp(micros).to_string()
}

/// A time as it is stored; `field` is where it stands.
pub(super) fn time(field: &str, text: &str) -> Result<i64, Error> {
    let invalid = || Error::invalid(field, "is no time as RFC 3339 has it");
    let time = Timestamp::from_str(text).map_err(|_unreadable| invalid())?;
    time.seconds
        .checked_mul(1_000_000)
        .and_then(|micros| micros.checked_add(i64::from(time.nanos / 1000)))
        .filter(|micros| *micros >= 0)
        .ok_or_else(invalid)
}

/// A value as JSON.
pub(super) fn json(value: Value) -> serde_json::Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(truth)) => truth.into(),
        Some(Kind::NumberValue(number)) => number_json(number),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect(),
        Some(Kind::StructValue(object)) => {
            object.fields.into_iter().map(|(name, value)| (name, json(value))).collect()
        }
    }
}

/// Integers are written as such.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "exact up to MAX_INTEGER"
)]
fn number_json(number: f64) -> serde_json::Value {
    if number.fract() == 0.0 && number.abs() <= MAX_INTEGER as f64 && !is_negative_zero(number) {
        return (number as i64).into();
    }
    number.into()
}

fn is_negative_zero(number: f64) -> bool {
    number == 0.0 && number.is_sign_negative()
}

/// A value from JSON. An integer that a double cannot hold exactly is refused.
#[expect(clippy::cast_precision_loss, reason = "exact up to MAX_INTEGER")]
pub(super) fn value(json: serde_json::Value) -> Result<Value, Error> {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(truth) => Kind::BoolValue(truth),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Number(number) => {
            let inexact =
                || Error::invalid("value", format_args!("a double cannot hold {number} exactly"));
            match (number.as_i64(), number.as_u64()) {
                (Some(integer), _) if integer.unsigned_abs() <= MAX_INTEGER.unsigned_abs() => {
                    Kind::NumberValue(integer as f64)
                }
                (None, None) => Kind::NumberValue(number.as_f64().ok_or_else(inexact)?),
                (_, _) => return Err(inexact()),
            }
        }
        serde_json::Value::Array(values) => {
            let values = values.into_iter().map(value).collect::<Result<_, _>>()?;
            Kind::ListValue(ListValue { values })
        }
        serde_json::Value::Object(fields) => {
            let fields = fields
                .into_iter()
                .map(|(name, json)| Ok((name, value(json)?)))
                .collect::<Result<_, Error>>()?;
            Kind::StructValue(Struct { fields })
        }
    };
    Ok(Value { kind: Some(kind) })
}
