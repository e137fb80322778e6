//! The messages of chat completion services: one context, roles and texts. Members that belong to other
//! uses of such messages are passed over, as those services do.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{Document, wrong_json};
use crate::agents::context_manager::fields;
use crate::agents::context_manager::item::{Draft, role_name};
use crate::error::Error;
use crate::proto::opdbus::agent::context_manager::v1::Role;

#[derive(Serialize, Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Value>,
}

/// A message that has been checked while it was read, so that an error says its line.
struct Checked(Draft);

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let message = Message::deserialize(deserializer)?;
        draft(message).map(Self).map_err(D::Error::custom)
    }
}

pub(super) fn write(document: &Document) -> Result<String, Error> {
    let messages: Vec<Message> = document
        .items
        .iter()
        .map(|draft| {
            let role = if draft.role == Role::Unspecified { Role::User } else { draft.role };
            Message {
                role: role_name(role).to_owned(),
                content: Value::String(draft.text.clone()),
                name: None,
                tool_calls: None,
            }
        })
        .collect();
    let mut text = serde_json::to_string_pretty(&messages).map_err(|error| {
        Error::internal(format!("a context cannot be written as messages: {error}"))
    })?;
    text.push('\n');
    Ok(text)
}

pub(super) fn read(data: &str, name: &str) -> Result<Vec<Document>, Error> {
    let messages: Vec<Checked> =
        serde_json::from_str(data).map_err(|error| wrong_json(1, &error))?;
    let items = messages.into_iter().map(|Checked(draft)| draft).collect();
    Ok(vec![Document { name: name.to_owned(), tags: Vec::new(), items }])
}

fn draft(message: Message) -> Result<Draft, Error> {
    let role = match message.role.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        other => return Err(Error::invalid("role", format_args!("{other:?} is not known"))),
    };
    let text = match (message.content, message.tool_calls) {
        (Value::String(text), _) if !text.is_empty() => text,
        (Value::Array(parts), _) => join_parts(&parts)?,
        // A message that only calls tools: the calls are what it says.
        (Value::Null | Value::String(_), Some(calls)) => calls.to_string(),
        _ => return Err(Error::invalid("content", "must be a text or a list of text parts")),
    };
    let source = message.name.unwrap_or_default();
    let draft = Draft { role, source, ..Draft::of_text(text) };
    fields::check_draft("", &draft)?;
    Ok(draft)
}

fn join_parts(parts: &[Value]) -> Result<String, Error> {
    let texts = parts.iter().map(|part| match (&part["type"], &part["text"]) {
        (Value::String(kind), Value::String(text)) if kind == "text" => Ok(text.as_str()),
        (Value::String(kind), _) => Err(Error::invalid(
            "content",
            format_args!("has a part of type {kind:?}; only text can be imported"),
        )),
        _ => Err(Error::invalid("content", "has a part without type and text")),
    });
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}
