//! Turns what the TOML reader says into a problem with a place, a key and a suggestion.

use toml::Spanned;
use toml::de::DeTable;

use super::keys::{RULE_KEYS, SECTIONS};
use super::problem::Problem;
use super::tables::MIGRATION_RULE_KEYS;
use crate::files::Source;

/// How alike a name must be to be suggested, from 0 to 1.
const LIKENESS: f64 = 0.8;

/// The line and column of an offset, both counted from 1; the column in characters.
pub(super) fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// A file that has not the shape of a configuration.
pub(super) fn problem(source: &Source, error: &toml::de::Error) -> Problem {
    let offset = error.span().map(|span| span.start);
    let path = offset.and_then(|offset| key_at(&source.text, offset)).unwrap_or_default();
    let name = error.span().and_then(|span| source.text.get(span)).unwrap_or_default();
    Problem {
        file: Some(source.path.clone()),
        place: offset.map(|offset| place(&source.text, offset)),
        key: (!path.is_empty()).then(|| path.join(".")),
        text: match error.message() {
            unknown_key if unknown_key.starts_with("unknown field") => unknown(&path),
            "duplicate key" => format!("the key {} stands in this section twice", name.trim()),
            other => plain(other, &path),
        },
    }
}

/// The path of the key whose name or value stands at `offset`. None if the file is no TOML.
fn key_at(text: &str, offset: usize) -> Option<Vec<String>> {
    search(DeTable::parse(text).ok()?.get_ref(), offset)
}

fn search(table: &DeTable<'_>, offset: usize) -> Option<Vec<String>> {
    for (key, value) in table {
        let mut tables = value.get_ref().as_array().into_iter().flatten();
        let listed = tables.find_map(|item| search(item.get_ref().as_table()?, offset));
        let inner = value.get_ref().as_table().and_then(|table| search(table, offset)).or(listed);
        let here = covers(key, offset) || covers(value, offset);
        if inner.is_some() || here {
            let mut path = vec![key.get_ref().to_string()];
            path.extend(inner.unwrap_or_default());
            return Some(path);
        }
    }
    None
}

fn covers<T>(spanned: &Spanned<T>, offset: usize) -> bool {
    spanned.span().contains(&offset)
}

/// What to say of a key that does not exist.
fn unknown(path: &[String]) -> String {
    let [sections @ .., name] = path else { return "there is no such key".to_owned() };
    let Some(section) = sections.last() else {
        let known = SECTIONS.iter().map(|(section, _)| *section);
        let owner = SECTIONS.iter().find(|(_, keys)| keys.contains(&name.as_str()));
        return match (owner, nearest(name, known.clone())) {
            (Some((section, _)), _) => format!("this key belongs in the section [{section}]"),
            (None, Some(near)) => format!("there is no such section; did you mean [{near}]?"),
            (None, None) => {
                format!(
                    "there is no such section; there are {}",
                    known.collect::<Vec<_>>().join(", ")
                )
            }
        };
    };
    let mut all = SECTIONS.iter().copied().chain([("policy", RULE_KEYS)]);
    let keys = match sections {
        [first, _] if first == "migration" => MIGRATION_RULE_KEYS,
        _ => all.find(|(known, _)| known == section).map_or(&[][..], |(_, keys)| keys),
    };
    if let Some(near) = nearest(name, keys.iter().copied()) {
        return format!("there is no such key; did you mean {near}?");
    }
    let owner = SECTIONS.iter().find(|(_, keys)| keys.contains(&name.as_str()));
    match owner {
        Some((section, _)) => format!("this key belongs in the section [{section}]"),
        None => format!("there is no such key; [{section}] has {}", keys.join(", ")),
    }
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// The reader's message without Rust's names for things.
fn plain(message: &str, path: &[String]) -> String {
    let text = message
        .trim()
        .replace('\n', "; ")
        .replace("expected i64", "expected a whole number")
        .replace("expected struct Shape", "expected a section, as [name] and keys below it");
    match path.last().map(String::as_str) {
        Some("unix_mode") => format!("{text}, as \"0660\""),
        _ => text,
    }
}
