//! Contexts as text and back. Reading checks everything and names the line that is wrong; storing is
//! done elsewhere.

mod json;
mod markdown;
mod openai;

use super::fields;
use super::item::Draft;
use crate::error::Error;
use crate::proto::opdbus::agent::context_manager::v1::Format;

/// A context outside the store.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Document {
    pub(super) name: String,
    pub(super) tags: Vec<String>,
    pub(super) items: Vec<Draft>,
}

/// Writes contexts.
///
/// # Errors
/// `InvalidArgument` if the format cannot hold several, `Internal` if a text cannot be written.
pub(super) fn write(format: Format, documents: &[Document]) -> Result<String, Error> {
    match format {
        Format::Unspecified | Format::JsonLines => json::write_lines(documents),
        Format::Json => json::write(documents),
        Format::Markdown => markdown::write(documents),
        Format::Openai => openai::write(documents),
    }
}

/// Reads contexts; `name` is for a format that has none in it.
///
/// # Errors
/// `InvalidArgument` naming the line that is wrong.
pub(super) fn read(format: Format, data: &str, name: &str) -> Result<Vec<Document>, Error> {
    if format == Format::Openai {
        fields::name("name", name)?;
    } else if !name.is_empty() {
        return Err(Error::invalid("name", "must be empty: this format has names in it"));
    }
    match format {
        Format::Unspecified | Format::JsonLines => json::read_lines(data),
        Format::Json => json::read(data),
        Format::Markdown => markdown::read(data),
        Format::Openai => openai::read(data, name),
    }
}

/// The media type of a format.
pub(super) const fn media_type(format: Format) -> &'static str {
    match format {
        Format::Unspecified | Format::JsonLines => "application/x-ndjson",
        Format::Json | Format::Openai => "application/json",
        Format::Markdown => "text/markdown",
    }
}

/// The error for a line of the text, counted from 1.
fn wrong_line(line: usize, problem: impl std::fmt::Display) -> Error {
    Error::invalid("data", format_args!("line {line}: {problem}"))
        .with_fact("line", line.to_string())
}

/// The error that JSON text gives, whose first line is the line `first` of all.
fn wrong_json(first: usize, error: &serde_json::Error) -> Error {
    let line = first + error.line().saturating_sub(1);
    let text = error.to_string();
    // serde_json ends its texts with the place as it counts it.
    let problem = text.split(" at line ").next().unwrap_or(&text);
    wrong_line(line, format_args!("{problem} (column {})", error.column()))
}

#[cfg(test)]
mod tests;
