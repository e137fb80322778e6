//! Values of requests and answers in the forms that they have on the bus and as JSON.

#![expect(clippy::wildcard_enum_match_arm, reason = "a case that has another type fails the test")]

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};
use zbus::Variant;

/// A positional argument from its JSON form.
pub fn argument_of(field: &FieldDescriptor, value: &Value) -> Variant<'static> {
    match field.kind() {
        // A variant as an argument is a variant in a variant here.
        Kind::Message(message) if message.full_name() == "google.protobuf.Value" => {
            Variant::Variant(Box::new(variant_of(value)))
        }
        _ => field_of(field, value),
    }
}

/// A message, as `a{sv}`.
pub fn message_of(
    message: &MessageDescriptor,
    fields: &Map<String, Value>,
) -> HashMap<String, Variant<'static>> {
    let fields = fields.iter().map(|(name, value)| {
        let field = message.get_field_by_name(name).expect("a case has the fields of its message");
        (name.clone(), field_of(&field, value))
    });
    fields.collect()
}

fn field_of(field: &FieldDescriptor, value: &Value) -> Variant<'static> {
    let items = || value.as_array().cloned().unwrap_or_default().into_iter();
    if field.is_map() {
        return map_of(field, value.as_object().unwrap_or(&Map::new()));
    }
    if !field.is_list() {
        return one_of(&field.kind(), value);
    }
    match field.kind() {
        Kind::String => {
            Variant::from(items().map(|item| item.as_str().unwrap().to_owned()).collect::<Vec<_>>())
        }
        Kind::Enum(kind) => {
            Variant::from(items().map(|item| name_of(&kind, &item)).collect::<Vec<_>>())
        }
        Kind::Uint64 => {
            Variant::from(items().map(|item| integer(&item).unsigned_abs()).collect::<Vec<_>>())
        }
        Kind::Message(message) => {
            let items = items().map(|item| message_of(&message, item.as_object().unwrap()));
            Variant::from(items.collect::<Vec<_>>())
        }
        other => panic!("no case has a list of {other:?}"),
    }
}

fn map_of(field: &FieldDescriptor, entries: &Map<String, Value>) -> Variant<'static> {
    let kind = field.kind().as_message().unwrap().map_entry_value_field().kind();
    let with = |value: fn(&Value) -> Variant<'static>| {
        entries.iter().map(|(name, it)| (name.clone(), value(it))).collect::<HashMap<_, _>>()
    };
    match kind {
        Kind::Double => {
            let numbers = entries.iter().map(|(name, it)| (name.clone(), it.as_f64().unwrap()));
            Variant::from(numbers.collect::<HashMap<_, _>>())
        }
        Kind::String => {
            let texts =
                entries.iter().map(|(name, it)| (name.clone(), it.as_str().unwrap().to_owned()));
            Variant::from(texts.collect::<HashMap<_, _>>())
        }
        Kind::Message(message) if message.full_name() == "google.protobuf.Value" => {
            Variant::from(with(variant_of))
        }
        other => panic!("no case has a map of {other:?}"),
    }
}

fn one_of(kind: &Kind, value: &Value) -> Variant<'static> {
    match kind {
        Kind::Bool => Variant::from(value.as_bool().unwrap_or_default()),
        Kind::Int32 => Variant::from(i32::try_from(integer(value)).unwrap()),
        Kind::Int64 => Variant::from(integer(value)),
        Kind::Uint32 => Variant::from(u32::try_from(integer(value)).unwrap()),
        Kind::Uint64 => Variant::from(integer(value).unsigned_abs()),
        Kind::Double => Variant::from(value.as_f64().unwrap()),
        Kind::String => Variant::from(value.as_str().unwrap_or_default().to_owned()),
        Kind::Bytes => Variant::from(BASE64.decode(value.as_str().unwrap_or_default()).unwrap()),
        Kind::Enum(kind) => Variant::from(name_of(kind, value)),
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Value" | "google.protobuf.Struct" => variant_of(value),
            "google.protobuf.Duration" => Variant::from(micros(value)),
            "google.protobuf.Timestamp" => Variant::from(moment(value)),
            _ => Variant::from(message_of(message, value.as_object().unwrap_or(&Map::new()))),
        },
        other => panic!("no case has a {other:?}"),
    }
}

/// The name of an enum's value on the bus: lower case, without the enum's own.
fn name_of(kind: &EnumDescriptor, value: &Value) -> String {
    let prefix = format!("{}_", upper_snake(kind.name()));
    let default = kind.default_value();
    let name = value.as_str().unwrap_or(default.name());
    name.strip_prefix(&prefix).unwrap().to_ascii_lowercase()
}

/// A `google.protobuf.Value`.
fn variant_of(value: &Value) -> Variant<'static> {
    match value {
        Value::Null => Variant::Signature(zbus::Signature::Unit),
        Value::Bool(value) => Variant::from(*value),
        Value::Number(number) => Variant::from(number.as_f64().unwrap()),
        Value::String(text) => Variant::from(text.clone()),
        Value::Array(items) => Variant::from(items.iter().map(variant_of).collect::<Vec<_>>()),
        Value::Object(fields) => Variant::from(
            fields
                .iter()
                .map(|(name, value)| (name.clone(), variant_of(value)))
                .collect::<HashMap<_, _>>(),
        ),
    }
}

/// An integer of the canonical mapping, where those of 64 bits are texts; none is 0.
fn integer(value: &Value) -> i64 {
    match value {
        Value::Null => 0,
        Value::String(text) => text.parse().unwrap(),
        other => other.as_i64().unwrap(),
    }
}

/// A time of the calendar as microseconds since the epoch.
fn moment(value: &Value) -> i64 {
    let time: prost_types::Timestamp = value.as_str().unwrap().parse().unwrap();
    time.seconds * 1_000_000 + i64::from(time.nanos) / 1000
}

/// A duration of the canonical mapping in microseconds; none is 0.
#[expect(clippy::cast_possible_truncation, reason = "no case has so long a time")]
fn micros(value: &Value) -> i64 {
    let seconds: f64 =
        value.as_str().map_or(0.0, |text| text.strip_suffix('s').unwrap().parse().unwrap());
    (seconds * 1e6).round() as i64
}

/// A value from the bus as JSON.
pub fn json_of(value: &Variant<'_>) -> Value {
    match value {
        Variant::Variant(inner) => json_of(inner),
        Variant::Bool(value) => json!(value),
        Variant::I32(value) => json!(value),
        Variant::U32(value) => json!(value),
        Variant::I64(value) => json!(value),
        Variant::U64(value) => json!(value),
        Variant::F64(value) => json!(value),
        Variant::Str(text) => json!(text.as_str()),
        Variant::Signature(_) => Value::Null,
        Variant::Array(items) if *items.element_signature() == zbus::Signature::U8 => {
            let bytes: Vec<u8> = items.iter().map(|item| u8::try_from(item).unwrap()).collect();
            json!(BASE64.encode(bytes))
        }
        Variant::Array(items) => items.iter().map(json_of).collect(),
        Variant::Dict(entries) => {
            let entries = entries.iter().map(|(key, value)| {
                let Variant::Str(key) = key else { panic!("{key:?} is no text") };
                (key.as_str().to_owned(), json_of(value))
            });
            Value::Object(entries.collect())
        }
        other => panic!("{other:?} is not in any case"),
    }
}

/// Takes out what differs between ways by nature: the key, times and versions, numbers as texts, and
/// what is left out when it is empty.
pub fn plain(value: &Value, key: &str) -> Value {
    const VOLATILE: [&str; 27] = [
        "version",
        "token",
        "took",
        "newest",
        // Of a stage.
        "changed",
        "oldest",
        "revision",
        "from_version",
        // It depends on what else is stored.
        "score",
        "next_page_token",
        // Of a task.
        "ended_at",
        "deadline",
        "expected_end",
        "created_at",
        "registered_at",
        "requested_at",
        "updated_at",
        "expires_at",
        "undo_token",
        "chain_id",
        "started",
        "finished",
        // Of a session: a bus connection holds what is started on it, and says where it was started.
        "started_at",
        "used_at",
        "transport",
        "held",
        "object_path",
    ];
    match value {
        Value::Object(fields) => {
            let of_its_kind = of_its_kind(fields);
            let kept = fields.iter().filter(|(name, _)| {
                !VOLATILE.contains(&name.as_str()) && !of_its_kind.contains(&name.as_str())
            });
            let plain = kept.map(|(name, value)| match (name.as_str(), value) {
                // JSON has the whole name of an enum's value, the bus the part that tells.
                (
                    "level" | "role" | "status" | "state" | "cause" | "kind" | "mode"
                    | "on_disconnect" | "stream" | "event" | "activation" | "host" | "reason"
                    | "decision" | "risk" | "may_approve" | "stage" | "next" | "way",
                    Value::String(text),
                ) => {
                    let part = text.rsplit('_').next().unwrap_or_default();
                    let part = match part.to_ascii_lowercase().as_str() {
                        // An agent is told to be busy until a while after its last call.
                        "busy" => "running".to_owned(),
                        // A task begins by itself.
                        "submitted" => "working".to_owned(),
                        part => part.to_owned(),
                    };
                    (name.clone(), json!(part))
                }
                _ => (name.clone(), plain(value, key)),
            });
            let mut plain: Vec<_> = plain.filter(|(_, value)| !is_empty(value)).collect();
            plain.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(plain.into_iter().collect())
        }
        Value::Array(items) => items.iter().map(|item| plain(item, key)).collect(),
        Value::Number(number) => json!(number.as_f64().unwrap().to_string()),
        Value::String(text) => json!(text.replace(key, "KEY")),
        Value::Null | Value::Bool(_) => value.clone(),
    }
}

/// The same for the fields of one kind of message.
fn of_its_kind(fields: &Map<String, Value>) -> &'static [&'static str] {
    match () {
        // Of a command and of its end.
        () if fields.contains_key("argv") => &["id", "pid"],
        // Of a change of a key.
        () if fields.contains_key("event") => &["time"],
        // Of a shell.
        () if fields.contains_key("opened_at") => &["opened_at", "pid"],
        // How far a task is that has not ended.
        () if fields.contains_key("on_disconnect")
            && fields.get("ended_at").is_none_or(is_empty) =>
        {
            &["first_seq", "last_seq"]
        }
        // It follows from the name that the client gives itself.
        () if fields.contains_key("routes") => &["client"],
        () if fields.contains_key("wall") => &["wall", "user", "system", "memory_max_bytes"],
        () => &[],
    }
}

fn is_empty(value: &Value) -> bool {
    // JSON names an enum that says nothing, the bus leaves it out.
    if value.as_str().is_some_and(|text| text.to_ascii_lowercase().ends_with("unspecified")) {
        return true;
    }
    [json!(null), json!(""), json!("0"), json!([]), json!({}), json!(false)].contains(value)
}

/// `UPPER_SNAKE` for `UpperSnake`.
pub fn upper_snake(name: &str) -> String {
    let mut snake = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(character.to_ascii_uppercase());
    }
    snake
}

/// The same with the bytes of `data` as what they say, where that is text or lines of JSON.
pub fn readable(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| match (name.as_str(), value) {
                ("data", Value::String(bytes)) => (name.clone(), text_of(bytes)),
                _ => (name.clone(), readable(value)),
            });
            Value::Object(fields.collect())
        }
        Value::Array(items) => items.iter().map(readable).collect(),
        other => other.clone(),
    }
}

fn text_of(bytes: &str) -> Value {
    let decoded = BASE64.decode(bytes).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let Some(text) = decoded else { return json!(bytes) };
    let lines: Option<Vec<Value>> =
        text.lines().map(|line| serde_json::from_str(line).ok()).collect();
    lines.map_or_else(|| json!(text), Value::Array)
}

pub fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}
