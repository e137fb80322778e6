//! JSON and JSON lines. Both hold everything but ids and versions.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Document, wrong_json, wrong_line};
use crate::agents::context_manager::fields;
use crate::agents::context_manager::item::{Draft, role_name, role_of};
use crate::agents::context_manager::time::timestamp;
use crate::error::Error;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    contexts: Vec<Document>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Line {
    Context(ContextForm),
    Item(Draft),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContextForm {
    name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    items: Vec<Draft>,
}

/// An item; Markdown writes role and text outside of it.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ItemForm {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) role: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pinned: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    importance: Option<f64>,
    #[serde(default, skip_serializing_if = "is_false")]
    shortened: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl From<&Draft> for ItemForm {
    fn from(draft: &Draft) -> Self {
        Self {
            role: role_name(draft.role).to_owned(),
            text: draft.text.clone(),
            created_at: draft.created_at.map(|micros| timestamp(micros).to_string()),
            pinned: draft.pinned,
            source: draft.source.clone(),
            importance: draft.importance,
            shortened: draft.shortened,
        }
    }
}

impl TryFrom<ItemForm> for Draft {
    type Error = Error;

    fn try_from(form: ItemForm) -> Result<Self, Error> {
        let role = role_of(&form.role).ok_or_else(|| {
            Error::invalid("role", "must be system, user, assistant or tool, or be left out")
        })?;
        let created_at = form.created_at.map(|text| {
            let time: prost_types::Timestamp = text.parse().map_err(|_| {
                Error::invalid("created_at", "must be a time as 2026-01-31T12:00:00Z")
            })?;
            fields::micros("", &time)
        });
        let draft = Self {
            role,
            text: form.text,
            created_at: created_at.transpose()?,
            pinned: form.pinned,
            source: form.source,
            importance: form.importance,
            shortened: form.shortened,
        };
        fields::check_draft("", &draft)?;
        Ok(draft)
    }
}

impl TryFrom<ContextForm> for Document {
    type Error = Error;

    fn try_from(form: ContextForm) -> Result<Self, Error> {
        fields::name("name", &form.name)?;
        fields::tags(form.tags.clone())?;
        Ok(Self { name: form.name, tags: form.tags, items: form.items })
    }
}

// By hand, because checking while reading is what makes serde_json say the line.
impl<'de> Deserialize<'de> for Draft {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ItemForm::deserialize(deserializer)?.try_into().map_err(D::Error::custom)
    }
}

impl Serialize for Draft {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ItemForm::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ContextForm::deserialize(deserializer)?.try_into().map_err(D::Error::custom)
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { name, tags, items } = self.clone();
        ContextForm { name, tags, items }.serialize(serializer)
    }
}

fn unwritable(error: &serde_json::Error) -> Error {
    Error::internal(format!("a context cannot be written as JSON: {error}"))
}

/// What stands around the contexts of a file.
pub(super) const BEGINNING: &str = "{\"contexts\": [\n";
pub(super) const END: &str = "\n]}\n";

pub(super) fn write(document: &Document, is_first: bool) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(document).map_err(|error| unwritable(&error))?;
    Ok(if is_first { text } else { format!(",\n{text}") })
}

pub(super) fn read(data: &str) -> Result<Vec<Document>, Error> {
    let file: File = serde_json::from_str(data).map_err(|error| wrong_json(1, &error))?;
    Ok(file.contexts)
}

pub(super) fn write_lines(document: &Document) -> Result<String, Error> {
    let mut text = String::new();
    let Document { name, tags, .. } = document;
    let form = ContextForm { name: name.clone(), tags: tags.clone(), items: Vec::new() };
    let items = document.items.iter().cloned().map(Line::Item);
    for line in std::iter::once(Line::Context(form)).chain(items) {
        text += &serde_json::to_string(&line).map_err(|error| unwritable(&error))?;
        text.push('\n');
    }
    Ok(text)
}

pub(super) fn read_lines(data: &str) -> Result<Vec<Document>, Error> {
    let mut documents: Vec<Document> = Vec::new();
    for (index, line) in data.lines().enumerate() {
        let number = index + 1;
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str(line).map_err(|error| wrong_json(number, &error))? {
            Line::Context(form) => documents
                .push(form.try_into().map_err(|error: Error| wrong_line(number, error.message()))?),
            Line::Item(draft) => match documents.last_mut() {
                Some(document) => document.items.push(draft),
                None => {
                    return Err(wrong_line(
                        number,
                        "an item must stand below the line of its context",
                    ));
                }
            },
        }
    }
    Ok(documents)
}
