//! Compares two answers to one call field by field, and says where they differ without saying what the
//! values are. How the answers were got is `mod.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use prost_reflect::{DynamicMessage, FieldDescriptor, MapKey, ReflectMessage as _, Value};
use ring::digest::{SHA256, digest};

use crate::client::Error;
use crate::contract::is_secret;

/// An answer as it is compared: the response, or why there is none.
pub(crate) type Compared = Result<DynamicMessage, Error>;

/// The places that are compared one by one in an answer; what is beyond is compared as a whole.
const MAX_PLACES: usize = 10_000;

/// A place at which two answers differ, and what each has there, as `text of 12 bytes, sha256 3f1a9c22`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// As `entries[3].version`, `error`, or empty for the whole answer.
    pub(crate) field: String,
    pub(crate) one: String,
    pub(crate) other: String,
}

/// Fields that differ between two answers over one way, so that nothing follows if they differ between
/// two ways: as `entries[].age`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Volatile(BTreeSet<String>);

/// The most volatile fields that are kept of one operation. Beyond them everything counts as volatile:
/// such answers cannot be compared.
const MAX_VOLATILE: usize = 1000;

impl Volatile {
    /// Adds the places at which two answers over one way differ.
    pub(crate) fn learn(&mut self, places: &[Place]) {
        for place in places {
            if self.0.len() < MAX_VOLATILE {
                self.0.insert(pattern(&place.field));
            }
        }
    }

    /// True for a place in a volatile field. In a list or map whose length is volatile everything is.
    pub(crate) fn holds(&self, place: &Place) -> bool {
        let field = pattern(&place.field);
        let within = || {
            let lists = field.match_indices(ANY).map(|(at, any)| at + any.len());
            lists
                .map(|end| format!("{}{LENGTH}", &field[..end - ANY.len()]))
                .any(|length| self.0.contains(&length))
        };
        self.0.len() >= MAX_VOLATILE || self.0.contains(&field) || within()
    }
}

/// What stands for the index or key of any item.
const ANY: &str = "[]";

/// What the length of a list or map is called.
const LENGTH: &str = ".length()";

/// The field that a place is in: the same for each item of a list or map.
fn pattern(place: &str) -> String {
    let mut pattern = String::with_capacity(place.len());
    let mut is_within = false;
    for character in place.chars() {
        is_within = match character {
            '[' => {
                pattern.push_str(ANY);
                true
            }
            ']' => false,
            other => {
                if !is_within {
                    pattern.push(other);
                }
                is_within
            }
        };
    }
    pattern
}

/// The places at which two answers differ, sorted.
pub(crate) fn differences(one: &Compared, other: &Compared) -> Vec<Place> {
    let reason = |answer: &Compared| match answer {
        Ok(_) => "nothing",
        Err(Error::Failed(failure)) => failure.kind.reason(),
        Err(Error::Unreachable(_)) => "UNREACHABLE",
    };
    let (Ok(first), Ok(second)) = (one, other) else {
        let (one, other) = (reason(one), reason(other));
        let place = Place { field: "error".into(), one: one.into(), other: other.into() };
        return (one != other).then_some(place).into_iter().collect();
    };
    let (first, second) = (leaves(first), leaves(second));
    let fields: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
    let told = |leaf: Option<&Leaf<'_>>| leaf.map_or("nothing".to_owned(), Leaf::told);
    fields
        .into_iter()
        .map(|field| (field, first.get(field), second.get(field)))
        .filter(|(_, one, other)| one != other)
        .map(|(field, one, other)| Place {
            field: field.clone(),
            one: told(one),
            other: told(other),
        })
        .collect()
}

/// What stands at a place.
#[derive(Debug)]
enum Leaf<'a> {
    /// A value, which is compared as it is.
    Value(&'a Value),
    /// How many items a list or map has.
    Count(usize),
    /// That there is a message, whatever is in it.
    Message,
}

impl PartialEq for Leaf<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            // What is no number is the same as itself here.
            (Self::Value(Value::F64(one)), Self::Value(Value::F64(other))) => {
                one.to_bits() == other.to_bits()
            }
            (Self::Value(Value::F32(one)), Self::Value(Value::F32(other))) => {
                one.to_bits() == other.to_bits()
            }
            (Self::Value(one), Self::Value(other)) => one == other,
            (Self::Count(one), Self::Count(other)) => one == other,
            (Self::Message, Self::Message) => true,
            (Self::Value(_) | Self::Count(_) | Self::Message, _) => false,
        }
    }
}

impl Leaf<'_> {
    /// What may be told of it: of what has so few values that its digest would give it away, no digest.
    fn told(&self) -> String {
        match self {
            Self::Count(count) => format!("{count} items"),
            Self::Message => "a message".to_owned(),
            Self::Value(value) => match value {
                Value::Bool(_) => "truth value".to_owned(),
                Value::I32(_)
                | Value::I64(_)
                | Value::U32(_)
                | Value::U64(_)
                | Value::F32(_)
                | Value::F64(_) => "number".to_owned(),
                Value::EnumNumber(_) => "choice".to_owned(),
                Value::String(text) => {
                    format!(
                        "text of {} bytes, sha256 {}",
                        text.len(),
                        short_digest(text.as_bytes())
                    )
                }
                Value::Bytes(bytes) => {
                    format!("{} bytes, sha256 {}", bytes.len(), short_digest(bytes))
                }
                Value::Message(_) => "message".to_owned(),
                Value::List(_) => "list".to_owned(),
                Value::Map(_) => "map".to_owned(),
            },
        }
    }
}

/// Every value of an answer, by its place.
fn leaves(answer: &DynamicMessage) -> BTreeMap<String, Leaf<'_>> {
    let mut leaves = BTreeMap::new();
    walk_fields(answer, "", &mut leaves);
    leaves
}

fn walk_fields<'a>(
    message: &'a DynamicMessage,
    path: &str,
    leaves: &mut BTreeMap<String, Leaf<'a>>,
) {
    for (field, value) in message.fields() {
        // Of a secret nothing is told, and no digest: it would show that a short one is the same again.
        if is_secret(&field) || is_absent(&field, value) {
            continue;
        }
        let separator = if path.is_empty() { "" } else { "." };
        let path = format!("{path}{separator}{}", field.name());
        // D-Bus gives every REQUIRED message, so that an empty one is the same as none.
        if let Value::Message(message) = value
            && leaves.len() < MAX_PLACES
            && !is_one_value(message)
        {
            walk_fields(message, &path, leaves);
        } else {
            walk(value, path, leaves);
        }
    }
}

/// True for a field that holds its default and cannot tell that from not being there.
fn is_absent(field: &FieldDescriptor, value: &Value) -> bool {
    !field.supports_presence() && *value == field.default_value()
}

fn walk<'a>(value: &'a Value, path: String, leaves: &mut BTreeMap<String, Leaf<'a>>) {
    let is_full = leaves.len() >= MAX_PLACES;
    match value {
        Value::Message(message) if !is_full && !is_one_value(message) => {
            walk_fields(message, &path, leaves);
            leaves.insert(path, Leaf::Message);
        }
        Value::List(items) if !is_full => {
            leaves.insert(format!("{path}{LENGTH}"), Leaf::Count(items.len()));
            for (index, item) in items.iter().enumerate() {
                walk(item, format!("{path}[{index}]"), leaves);
            }
        }
        Value::Map(entries) if !is_full => {
            leaves.insert(format!("{path}{LENGTH}"), Leaf::Count(entries.len()));
            for (key, item) in entries {
                walk(item, format!("{path}[{}]", told_key(key)), leaves);
            }
        }
        Value::Message(_)
        | Value::List(_)
        | Value::Map(_)
        | Value::Bool(_)
        | Value::I32(_)
        | Value::I64(_)
        | Value::U32(_)
        | Value::U64(_)
        | Value::F32(_)
        | Value::F64(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::EnumNumber(_) => {
            leaves.insert(path, Leaf::Value(value));
        }
    }
}

/// True for a message whose fields mean nothing apart: a time has changed as a whole.
fn is_one_value(message: &DynamicMessage) -> bool {
    let descriptor = message.descriptor();
    matches!(descriptor.full_name(), "google.protobuf.Timestamp" | "google.protobuf.Duration")
}

/// A map's key, as it may be told: it is as much the user's own as a value.
fn told_key(key: &MapKey) -> String {
    match key {
        MapKey::String(text) => format!("sha256 {}", short_digest(text.as_bytes())),
        MapKey::Bool(value) => value.to_string(),
        MapKey::I32(value) => value.to_string(),
        MapKey::I64(value) => value.to_string(),
        MapKey::U32(value) => value.to_string(),
        MapKey::U64(value) => value.to_string(),
    }
}

/// The first four bytes of the SHA-256, in hexadecimal.
fn short_digest(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    digest.as_ref().iter().take(4).fold(String::new(), |mut text, byte| {
        // Writing to a `String` cannot fail.
        if write!(text, "{byte:02x}").is_err() {
            text.clear();
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::*;
    use crate::client::Failure;
    use crate::error::ErrorKind;
    use crate::proto::DESCRIPTOR_SET;

    fn message(name: &str, json: &str) -> Compared {
        let pool = DescriptorPool::decode(DESCRIPTOR_SET).unwrap();
        let descriptor = pool.get_message_by_name(name).unwrap();
        let mut json = serde_json::Deserializer::from_str(json);
        Ok(DynamicMessage::deserialize(descriptor, &mut json).unwrap())
    }

    fn task(json: &str) -> Compared {
        message("opdbus.v1.GetTaskResponse", json)
    }

    fn fields(one: &Compared, other: &Compared) -> Vec<String> {
        differences(one, other).into_iter().map(|place| place.field).collect()
    }

    #[test]
    fn each_place_is_named_and_its_value_is_not_told() {
        let one = task(r#"{"task":{"id":"secret one","agent":"memory","bytes":"7"}}"#);
        let other = task(r#"{"task":{"id":"secret two","agent":"memory","cancelable":true}}"#);
        let found = differences(&one, &other);
        let told: Vec<&str> = found.iter().map(|place| place.field.as_str()).collect();
        assert_eq!(told, ["task.bytes", "task.cancelable", "task.id"]);
        assert_eq!((&*found[0].one, &*found[0].other), ("number", "nothing"));
        assert!(found[2].one.starts_with("text of 10 bytes, sha256 "), "{found:?}");
        assert!(!format!("{found:?}").contains("secret"), "{found:?}");
        assert!(differences(&one, &one).is_empty());
    }

    #[test]
    fn lists_maps_and_times_are_walked() {
        let name = "opdbus.v1.ListTasksResponse";
        let one = message(name, r#"{"tasks":[{"id":"a"},{"id":"b"}]}"#);
        let other = message(name, r#"{"tasks":[{"id":"a"},{"id":"c"},{}]}"#);
        assert_eq!(fields(&one, &other), ["tasks.length()", "tasks[1].id", "tasks[2]"]);
        let one = task(r#"{"task":{"startedAt":"2026-01-01T00:00:00Z"}}"#);
        let other = task(r#"{"task":{"startedAt":"2026-01-01T00:00:01.5Z"}}"#);
        assert_eq!(fields(&one, &other), ["task.started_at"]);
        let one = task(r#"{"task":{"failure":{"facts":{"my key":"a"}}}}"#);
        let other = task(r#"{"task":{"failure":{"facts":{"my key":"b"}}}}"#);
        let found = fields(&one, &other);
        assert!(found[0].starts_with("task.failure.facts[sha256 "), "{found:?}");
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn errors_are_compared_by_their_reason() {
        let failed = |kind, text: &str| Err(Failure::new(kind, text).into());
        let missing = failed(ErrorKind::NotFound, "no such key");
        assert!(differences(&missing, &failed(ErrorKind::NotFound, "other words")).is_empty());
        let found = differences(&missing, &task("{}"));
        assert_eq!(
            (&*found[0].field, &*found[0].one, &*found[0].other),
            ("error", "NOT_FOUND", "nothing")
        );
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn what_differs_by_itself_is_volatile_in_every_item() {
        let name = "opdbus.v1.ListTasksResponse";
        let list = |json: &str| message(name, json);
        let mut volatile = Volatile::default();
        let first = list(r#"{"tasks":[{"id":"a","bytes":"1"},{"id":"b"}]}"#);
        volatile
            .learn(&differences(&first, &list(r#"{"tasks":[{"id":"a","bytes":"2"},{"id":"b"}]}"#)));
        let over_grpc = list(r#"{"tasks":[{"id":"a","bytes":"3"},{"id":"x","bytes":"9"}]}"#);
        let left: Vec<Place> = differences(&first, &over_grpc)
            .into_iter()
            .filter(|place| !volatile.holds(place))
            .collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].field, "tasks[1].id");
        // Where the length changes, what is where in it means nothing.
        volatile.learn(&differences(&first, &list(r#"{"tasks":[]}"#)));
        assert!(volatile.holds(&left[0]));
    }

    #[test]
    fn a_secret_is_not_looked_at() {
        let name = "opdbus.agent.probe.v1.GuardedRequest";
        let one = message(name, r#"{"text":"a","secret":"one","inner":{"secret":"one"}}"#);
        let other = message(name, r#"{"text":"a","secret":"two","inner":{"secret":"two"}}"#);
        assert!(differences(&one, &other).is_empty());
    }
}
