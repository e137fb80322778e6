//! A rule, as the configuration has it, and what it matches.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::layers::Layer;
use super::who::Who;
use super::{followed, pattern};

/// A rule of `[[commands.rule]]`. What it does not say matches anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What becomes of a program that it matches.
    pub decision: Decision,
    /// The program: the path of a file, or of a folder if it ends with `/`. Links are followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<PathBuf>,
    /// A pattern for each argument after the program: `*` is any text, `?` any character, and the
    /// pattern `**` any number of arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Vec<String>>,
    /// Users by name or number, of whom the caller must be one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// Groups by name or number, in one of which the caller must be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What the caller is told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What becomes of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It runs.
    Allow,
    /// It runs if somebody approves the call.
    Ask,
    /// It does not run.
    Deny,
}

impl From<Rule> for toml::Value {
    fn from(rule: Rule) -> Self {
        // Texts and lists of texts can always be written.
        Self::try_from(rule).unwrap_or_else(|error| Self::String(error.to_string()))
    }
}

impl Rule {
    pub(super) fn matches(&self, layer: &Layer, who: &Who) -> bool {
        self.is_of_program(layer)
            && self.arguments.as_ref().is_none_or(|patterns| {
                pattern::all_match(patterns, &layer.arguments)
            })
            // A name that cannot be looked up must not open anything.
            && self.is_of(&self.users, |name| who.is(name))
            && self.is_of(&self.groups, |name| who.is_in(name))
    }

    fn is_of_program(&self, layer: &Layer) -> bool {
        let Some(wanted) = &self.program else { return true };
        let Some(program) = &layer.program else { return false };
        match wanted.as_os_str().as_encoded_bytes().ends_with(b"/") {
            true => program.starts_with(followed(wanted)),
            false => *program == followed(wanted),
        }
    }

    fn is_of(&self, names: &[String], is_it: impl Fn(&str) -> Option<bool>) -> bool {
        let if_unknown = self.decision != Decision::Allow;
        names.is_empty() || names.iter().any(|name| is_it(name).unwrap_or(if_unknown))
    }
}
