//! A rule, as the configuration has it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It runs.
    Allow,
    /// It runs if somebody approves the call.
    Ask,
    /// It does not run.
    Deny,
}
