//! JSON Schema (2020-12) of a message, derived from its descriptor and comments.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::docs::Docs;
use super::service::is_required;

/// The JSON Schema of a message's canonical JSON form. Nested messages stand under `$defs`.
#[must_use]
pub fn message_schema(message: &MessageDescriptor) -> Value {
    let mut definitions = Definitions::default();
    let mut schema = definitions.object(message);
    while let Some(next) = definitions.pending.pop() {
        let definition = definitions.object(&next);
        definitions.done.insert(next.full_name().to_owned(), definition);
    }
    schema.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".into(), json!(message.name()));
    if !definitions.done.is_empty() {
        schema.insert("$defs".into(), json!(definitions.done));
    }
    Value::Object(schema)
}

/// The nested messages that were met, and those that still have to be described.
#[derive(Default)]
struct Definitions {
    seen: BTreeSet<String>,
    pending: Vec<MessageDescriptor>,
    done: BTreeMap<String, Map<String, Value>>,
}

impl Definitions {
    fn object(&mut self, message: &MessageDescriptor) -> Map<String, Value> {
        let docs = Docs::of(&message.parent_file());
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in message.fields() {
            let mut schema = self.field(&field);
            let text = docs.at(field.path());
            if !text.is_empty()
                && let Some(schema) = schema.as_object_mut()
            {
                schema.insert("description".into(), json!(text));
            }
            if is_required(&field) {
                required.push(json!(field.name()));
            }
            properties.insert(field.name().to_owned(), schema);
        }
        let mut schema = Map::new();
        schema.insert("type".into(), json!("object"));
        schema.insert("properties".into(), Value::Object(properties));
        schema.insert("additionalProperties".into(), json!(false));
        if !required.is_empty() {
            schema.insert("required".into(), Value::Array(required));
        }
        let text = docs.at(message.path());
        if !text.is_empty() {
            schema.insert("description".into(), json!(text));
        }
        schema
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        if field.is_map()
            && let Kind::Message(entry) = field.kind()
        {
            let values = self.kind(&entry.map_entry_value_field().kind());
            return json!({"type": "object", "additionalProperties": values});
        }
        let schema = self.kind(&field.kind());
        if field.is_list() { json!({"type": "array", "items": schema}) } else { schema }
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Bool => json!({"type": "boolean"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX})
            }
            Kind::Uint32 | Kind::Fixed32 => {
                json!({"type": "integer", "minimum": 0, "maximum": u32::MAX})
            }
            // Canonical JSON writes 64-bit integers as text and reads both.
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({"type": ["string", "integer"], "pattern": "^-?[0-9]+$", "format": "int64"})
            }
            Kind::Uint64 | Kind::Fixed64 => {
                json!({"type": ["string", "integer"], "pattern": "^[0-9]+$", "format": "uint64"})
            }
            // NaN and the infinities travel as text.
            Kind::Float | Kind::Double => json!({"type": ["number", "string"]}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Enum(descriptor) => enum_schema(descriptor),
            Kind::Message(message) => self.message(message),
        }
    }

    fn message(&mut self, message: &MessageDescriptor) -> Value {
        match message.full_name() {
            "google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
            "google.protobuf.Duration" => {
                json!({"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$"})
            }
            "google.protobuf.Value" => json!({}),
            "google.protobuf.Struct" => json!({"type": "object"}),
            "google.protobuf.ListValue" => json!({"type": "array"}),
            name => {
                if self.seen.insert(name.to_owned()) {
                    self.pending.push(message.clone());
                }
                json!({"$ref": format!("#/$defs/{name}")})
            }
        }
    }
}

fn enum_schema(descriptor: &EnumDescriptor) -> Value {
    let names: Vec<Value> = descriptor.values().map(|value| json!(value.name())).collect();
    json!({"type": "string", "enum": names})
}
