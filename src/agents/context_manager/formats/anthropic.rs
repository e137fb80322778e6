//! The requests of Anthropic's messages service: one context as `system` and `messages`. Members that
//! belong to other uses of such requests are passed over, as with other messages.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{Document, wrong_json};
use crate::agents::context_manager::fields;
use crate::agents::context_manager::item::Draft;
use crate::error::Error;
use crate::proto::opdbus::agent::context_manager::v1::Role;

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    system: System,
    messages: Vec<Said>,
}

/// What the system says; checked while it was read, so that an error says its line.
#[derive(Default)]
struct System(Vec<Draft>);

/// What one message says, checked in the same way.
struct Said(Vec<Draft>);

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Value,
}

impl<'de> Deserialize<'de> for System {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let content = Value::deserialize(deserializer)?;
        drafts(Role::System, "system", &content).map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let message = Message::deserialize(deserializer)?;
        let role = match message.role.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => return Err(D::Error::custom(format!("role: {other:?} is not known"))),
        };
        drafts(role, "content", &message.content).map(Self).map_err(D::Error::custom)
    }
}

pub(super) fn write(document: &Document) -> Result<String, Error> {
    let mut system: Vec<&str> = Vec::new();
    let mut messages: Vec<(&str, Vec<Value>)> = Vec::new();
    for draft in &document.items {
        let role = match draft.role {
            Role::System => {
                system.push(&draft.text);
                continue;
            }
            Role::Assistant => "assistant",
            Role::User | Role::Tool | Role::Unspecified => "user",
        };
        let block = json!({"type": "text", "text": draft.text});
        match messages.last_mut() {
            Some((last, blocks)) if *last == role => blocks.push(block),
            Some(_) | None => messages.push((role, vec![block])),
        }
    }
    let messages: Vec<Value> = messages
        .into_iter()
        .map(|(role, blocks)| json!({"role": role, "content": blocks}))
        .collect();
    let mut request = json!({"messages": messages});
    if !system.is_empty() {
        request["system"] = system.join("\n\n").into();
    }
    Ok(format!("{request:#}\n"))
}

pub(super) fn read(data: &str, name: &str) -> Result<Vec<Document>, Error> {
    let request: Request = serde_json::from_str(data).map_err(|error| wrong_json(1, &error))?;
    let said = request.messages.into_iter().flat_map(|Said(drafts)| drafts);
    let items = request.system.0.into_iter().chain(said).collect();
    Ok(vec![Document { name: name.to_owned(), tags: Vec::new(), items }])
}

/// The items of a content: one, or one for each of its blocks.
fn drafts(role: Role, field: &str, content: &Value) -> Result<Vec<Draft>, Error> {
    let items = if let Some(text) = content.as_str() {
        vec![Draft { role, ..Draft::of_text(text.to_owned()) }]
    } else if let Some(blocks) = content.as_array() {
        blocks.iter().map(|block| draft(role, field, block)).collect::<Result<_, _>>()?
    } else {
        return Err(Error::invalid(field, "must be a text or a list of blocks"));
    };
    items.iter().try_for_each(|draft| fields::check_draft("", draft))?;
    Ok(items)
}

fn draft(role: Role, field: &str, block: &Value) -> Result<Draft, Error> {
    match block["type"].as_str() {
        Some("text") => match block["text"].as_str() {
            Some(text) => Ok(Draft { role, ..Draft::of_text(text.to_owned()) }),
            None => Err(Error::invalid(field, "has a text block without text")),
        },
        // The call is what the message says.
        Some("tool_use") => Ok(Draft { role, ..Draft::of_text(block.to_string()) }),
        Some("tool_result") => {
            let content = &block["content"];
            let text = content.as_str().map_or_else(|| content.to_string(), str::to_owned);
            Ok(Draft { role: Role::Tool, ..Draft::of_text(text) })
        }
        Some(other) => Err(Error::invalid(
            field,
            format_args!("has a block of type {other:?}; only text and tools can be imported"),
        )),
        None => Err(Error::invalid(field, "has a block without a type")),
    }
}
