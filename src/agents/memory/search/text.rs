//! What of a value is text to be found.

use prost_types::Value;
use prost_types::value::Kind;

/// The text of a value: of a list or an object that of all in it, a line each.
pub(super) fn of(value: &Value) -> String {
    let mut text = String::new();
    add(value, &mut text);
    text
}

fn add(value: &Value, text: &mut String) {
    match &value.kind {
        Some(Kind::StringValue(string)) => line(string, text),
        Some(Kind::NumberValue(number)) => line(&number.to_string(), text),
        Some(Kind::BoolValue(truth)) => line(&truth.to_string(), text),
        Some(Kind::ListValue(list)) => list.values.iter().for_each(|value| add(value, text)),
        Some(Kind::StructValue(object)) => {
            for (name, value) in &object.fields {
                line(name, text);
                add(value, text);
            }
        }
        Some(Kind::NullValue(_)) | None => {}
    }
}

fn line(line: &str, text: &mut String) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(line);
}
