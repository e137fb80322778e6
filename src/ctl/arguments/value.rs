//! One text as the JSON value that a schema asks for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::duration;
use super::schema::{Kind, short_names};

/// The largest integer that a double, and with it a JSON value of protobuf, holds exactly.
const MAX_EXACT: u64 = 1 << 53;

/// Types a text. The error says what is wrong with it.
pub(super) fn typed(kind: &Kind<'_>, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Bool => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(json!(true)),
            "false" | "no" | "off" | "0" => Ok(json!(false)),
            _ => Err(format!("{text:?} is not true or false")),
        },
        Kind::Integer { min, max, text: as_text } => {
            let number: i128 =
                text.parse().map_err(|_| format!("{text:?} is not a whole number"))?;
            if !(*min..=*max).contains(&number) {
                return Err(format!("{number} is not between {min} and {max}"));
            }
            match i64::try_from(number) {
                Ok(number) if !as_text => Ok(json!(number)),
                _ => Ok(json!(number.to_string())),
            }
        }
        Kind::Number => number(text),
        Kind::Text => Ok(json!(text)),
        Kind::Bytes => bytes(text),
        Kind::Choice(names) => choice(names, text),
        Kind::Time => match text.parse::<prost_types::Timestamp>() {
            Ok(time) => Ok(json!(time.to_string())),
            Err(_) => Err(format!("{text:?} is not a time in RFC 3339 form")),
        },
        Kind::Duration => duration::canonical(text).map(Value::String),
        Kind::Any => any(text),
        Kind::Struct | Kind::Message(_) | Kind::Map(_) => match serde_json::from_str(text) {
            Ok(value @ Value::Object(_)) => Ok(value),
            Ok(_) => Err("is not a JSON object".to_owned()),
            Err(error) => Err(format!("is not a JSON object: {error}")),
        },
        Kind::List(_) => match serde_json::from_str(text) {
            Ok(value @ Value::Array(_)) => Ok(value),
            Ok(_) | Err(_) => Err("is not a JSON array".to_owned()),
        },
    }
}

fn number(text: &str) -> Result<Value, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    Ok(if number.is_nan() {
        json!("NaN")
    } else if number.is_infinite() {
        json!(if number > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        json!(number)
    })
}

fn bytes(text: &str) -> Result<Value, String> {
    if let Some(path) = text.strip_prefix('@') {
        let content =
            std::fs::read(path).map_err(|error| format!("{path} cannot be read: {error}"))?;
        return Ok(json!(STANDARD.encode(content)));
    }
    match STANDARD.decode(text) {
        Ok(_) => Ok(json!(text)),
        Err(error) => Err(format!("is not base64 ({error}), nor @FILE")),
    }
}

fn choice(names: &[&str], text: &str) -> Result<Value, String> {
    let short = short_names(names);
    let wanted = text.replace('-', "_");
    names
        .iter()
        .zip(&short)
        .find(|(long, short)| {
            long.eq_ignore_ascii_case(&wanted) || short.eq_ignore_ascii_case(&wanted)
        })
        .map(|(long, _)| json!(long))
        .ok_or_else(|| format!("{text:?} is none of {}", short.join(", ")))
}

/// JSON if it is JSON, else text.
fn any(text: &str) -> Result<Value, String> {
    let Ok(value) = serde_json::from_str::<Value>(text) else { return Ok(json!(text)) };
    let plain = !text.contains(['.', 'e', 'E']);
    if is_exact(&value, plain) {
        Ok(value)
    } else {
        Err(format!(
            "holds a whole number beyond ±{MAX_EXACT}, which would be rounded; give it as JSON \
             text, in quotes"
        ))
    }
}

/// True if no whole number in the value would be rounded. `plain` says that none of its numbers is
/// written with a fraction or exponent, so that a double must have been a whole number too long.
fn is_exact(value: &Value, plain: bool) -> bool {
    match value {
        Value::Number(number) => {
            if let Some(number) = number.as_u64() {
                number <= MAX_EXACT
            } else if let Some(number) = number.as_i64() {
                number.unsigned_abs() <= MAX_EXACT
            } else {
                !plain
            }
        }
        Value::Array(values) => values.iter().all(|value| is_exact(value, plain)),
        Value::Object(members) => members.values().all(|value| is_exact(value, plain)),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}
