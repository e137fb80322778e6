//! Contexts as text and back. Reading checks everything and names the line that is wrong; storing is
//! done elsewhere.

mod anthropic;
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

/// Writes contexts one after the other: what it gives, put together, is the text.
pub(super) struct Writer {
    format: Format,
    is_first: bool,
}

impl Writer {
    pub(super) fn new(format: Format) -> Self {
        Self { format, is_first: true }
    }

    /// What comes before the first context.
    pub(super) fn beginning(&self) -> &'static str {
        match self.format {
            Format::Json => json::BEGINNING,
            Format::Unspecified
            | Format::JsonLines
            | Format::Markdown
            | Format::Openai
            | Format::Anthropic => "",
        }
    }

    /// A further context.
    ///
    /// # Errors
    /// `Internal` if it cannot be written.
    pub(super) fn write(&mut self, document: &Document) -> Result<String, Error> {
        let is_first = std::mem::take(&mut self.is_first);
        match self.format {
            Format::Unspecified | Format::JsonLines => json::write_lines(document),
            Format::Json => json::write(document, is_first),
            Format::Markdown => markdown::write(document),
            Format::Openai => openai::write(document),
            Format::Anthropic => anthropic::write(document),
        }
    }

    /// What comes after the last context.
    pub(super) fn end(&self) -> &'static str {
        match self.format {
            Format::Json => json::END,
            Format::Unspecified
            | Format::JsonLines
            | Format::Markdown
            | Format::Openai
            | Format::Anthropic => "",
        }
    }
}

/// True if a format holds one context, without its name.
pub(super) const fn holds_one(format: Format) -> bool {
    match format {
        Format::Openai | Format::Anthropic => true,
        Format::Unspecified | Format::JsonLines | Format::Json | Format::Markdown => false,
    }
}

/// Whether there must be a name beside the text, and what it may be.
///
/// # Errors
/// `InvalidArgument` naming `name`.
pub(super) fn check_name(format: Format, name: &str) -> Result<(), Error> {
    if holds_one(format) {
        fields::name("name", name)
    } else if name.is_empty() {
        Ok(())
    } else {
        Err(Error::invalid("name", "must be empty: this format has names in it"))
    }
}

/// Reads contexts; `name` is for a format that has none in it.
///
/// # Errors
/// `InvalidArgument` naming the line that is wrong.
pub(super) fn read(format: Format, data: &str, name: &str) -> Result<Vec<Document>, Error> {
    match format {
        Format::Unspecified | Format::JsonLines => json::read_lines(data),
        Format::Json => json::read(data),
        Format::Markdown => markdown::read(data),
        Format::Openai => openai::read(data, name),
        Format::Anthropic => anthropic::read(data, name),
    }
}

/// The media type of a format.
pub(super) const fn media_type(format: Format) -> &'static str {
    match format {
        Format::Unspecified | Format::JsonLines => "application/x-ndjson",
        Format::Json | Format::Openai | Format::Anthropic => "application/json",
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
