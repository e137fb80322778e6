//! Markdown that people can read and edit. What Markdown has no words for stands in comments.

use super::json::ItemForm;
use super::{Document, wrong_json, wrong_line};
use crate::agents::context_manager::fields;
use crate::agents::context_manager::item::Draft;
use crate::error::Error;

/// Begin the comments below the headings of a context and of an item. A heading without its comment is
/// text.
const CONTEXT: &str = "<!-- context ";
const ITEM: &str = "<!-- item ";
const END: &str = " -->";

/// The heading of an item that nobody in particular says.
const NOBODY: &str = "text";

pub(super) fn write(document: &Document) -> Result<String, Error> {
    let comment = write_comment(CONTEXT, &document.tags)?;
    let mut text = format!("# {}\n{comment}\n\n", document.name);
    for draft in &document.items {
        let mut form = ItemForm::from(draft);
        let role = std::mem::take(&mut form.role);
        let body = std::mem::take(&mut form.text);
        let role = if role.is_empty() { NOBODY } else { &role };
        let comment = write_comment(ITEM, &form)?;
        text += &format!("## {role}\n{comment}\n\n");
        for line in body.split_inclusive('\n') {
            if is_comment(line.trim_start_matches('\\')) {
                text.push('\\');
            }
            text += line;
        }
        text += "\n\n";
    }
    Ok(text)
}

fn write_comment(begin: &str, value: &impl serde::Serialize) -> Result<String, Error> {
    let json = serde_json::to_string(value).map_err(|error| {
        Error::internal(format!("a context cannot be written as Markdown: {error}"))
    })?;
    // A > can stand only in a string of the JSON, and would end the comment after two hyphens.
    Ok(format!("{begin}{}{END}", json.replace('>', "\\u003e")))
}

fn is_comment(line: &str) -> bool {
    line.starts_with(CONTEXT) || line.starts_with(ITEM)
}

pub(super) fn read(data: &str) -> Result<Vec<Document>, Error> {
    let lines: Vec<&str> = data.split_inclusive('\n').collect();
    let mut documents: Vec<Document> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let number = at + 1;
        let heading = lines[at].trim_end();
        let comment = lines.get(at + 1).map_or("", |line| line.trim_end());
        if let Some(json) = between(comment, CONTEXT) {
            let name = heading.strip_prefix("# ").ok_or_else(|| {
                wrong_line(number, "must be `# name`, because a context's comment follows")
            })?;
            documents.push(read_context(number, name, json)?);
            at = skip_empty(&lines, at + 2);
        } else if let Some(json) = between(comment, ITEM) {
            let role = heading.strip_prefix("## ").ok_or_else(|| {
                wrong_line(number, "must be `## role`, because an item's comment follows")
            })?;
            let end = (at + 2..lines.len())
                .find(|next| lines.get(next + 1).is_some_and(|line| is_comment(line)))
                .unwrap_or(lines.len());
            let draft = read_item(number, role, json, &lines[at + 2..end])?;
            let Some(document) = documents.last_mut() else {
                return Err(wrong_line(
                    number,
                    "an item must stand below the heading of a context",
                ));
            };
            document.items.push(draft);
            at = end;
        } else if heading.is_empty() {
            at += 1;
        } else {
            return Err(wrong_line(
                number,
                "must be `# name` or `## role` with its comment on the next line, as Export writes it",
            ));
        }
    }
    Ok(documents)
}

fn between<'a>(line: &'a str, begin: &str) -> Option<&'a str> {
    line.strip_prefix(begin)?.strip_suffix(END)
}

fn skip_empty(lines: &[&str], from: usize) -> usize {
    (from..lines.len()).find(|at| !lines[*at].trim().is_empty()).unwrap_or(lines.len())
}

fn read_context(number: usize, name: &str, json: &str) -> Result<Document, Error> {
    let tags: Vec<String> =
        serde_json::from_str(json).map_err(|error| wrong_json(number + 1, &error))?;
    let wrong = |error: Error| wrong_line(number, error.message());
    fields::name("name", name).map_err(wrong)?;
    fields::tags(tags.clone()).map_err(wrong)?;
    Ok(Document { name: name.to_owned(), tags, items: Vec::new() })
}

fn read_item(number: usize, role: &str, json: &str, body: &[&str]) -> Result<Draft, Error> {
    let mut form: ItemForm =
        serde_json::from_str(json).map_err(|error| wrong_json(number + 1, &error))?;
    if role != NOBODY {
        role.clone_into(&mut form.role);
    }
    let text: String = body
        .iter()
        .map(|line| {
            let is_escaped = line.starts_with('\\') && is_comment(line.trim_start_matches('\\'));
            if is_escaped { &line[1..] } else { line }
        })
        .collect();
    let text = text.strip_prefix('\n').unwrap_or(&text);
    let text = text.strip_suffix("\n\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text);
    text.clone_into(&mut form.text);
    form.try_into().map_err(|error: Error| wrong_line(number, error.message()))
}
