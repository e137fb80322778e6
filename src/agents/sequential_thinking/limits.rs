//! The bounds of what a user keeps here, and what the fields of requests may hold. Each check names
//! the field as the client wrote it.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::Error;
use crate::proto::opdbus::agent::sequential_thinking::v1::Evidence;
use crate::proto::opdbus::agent::sequential_thinking::v1::evidence::Source;

/// How many steps a chain has at most.
pub(super) const MAX_STEPS: u32 = 1000;

/// How many branches a chain has at most, `main` included.
pub(super) const MAX_BRANCHES: usize = 100;

/// How many items a page has when the client does not say, and at most.
pub(super) const PAGE: Sizes = Sizes { default: 100, max: 1000 };

/// The same for a search.
pub(super) const HITS: Sizes = Sizes { default: 10, max: 100 };

/// The same for the steps that are planned.
pub(super) const PLAN: Sizes = Sizes { default: 50, max: MAX_STEPS };

const MAX_THOUGHT_BYTES: usize = 16 * 1024;
const MAX_NOTE_BYTES: usize = 2048;
const MAX_EVIDENCE_BYTES: usize = 2048;
const MAX_EVIDENCE: usize = 16;
const MAX_GOAL_BYTES: usize = 1024;
const MAX_GOALS: usize = 32;
const MAX_TAGS: usize = 32;
const MAX_NAME_BYTES: usize = 64;
const MAX_CRITERIA: usize = 16;
const MAX_QUERY_BYTES: usize = 1024;

/// A number that a client may leave open.
pub(super) struct Sizes {
    default: u32,
    max: u32,
}

impl Sizes {
    /// What `asked` means: 0 is the default.
    pub(super) fn check(&self, field: &str, asked: u32) -> Result<u32, Error> {
        match asked {
            0 => Ok(self.default),
            asked if asked > self.max => Err(Error::invalid(
                field,
                format_args!("must be {} at most, not {asked}", self.max),
            )),
            asked => Ok(asked),
        }
    }
}

/// A thought, a problem or the like, which must not be empty.
pub(super) fn thought(field: &str, text: &str) -> Result<(), Error> {
    filled(field, text)?;
    long_text(field, text)
}

/// A text as long as a thought, which may be empty.
pub(super) fn long_text(field: &str, text: &str) -> Result<(), Error> {
    bounded(field, text, "sequential_thinking.max_thought_bytes", MAX_THOUGHT_BYTES)
}

/// A reason or a remark, which may be empty.
pub(super) fn note(field: &str, text: &str) -> Result<(), Error> {
    bounded(field, text, "sequential_thinking.max_note_bytes", MAX_NOTE_BYTES)
}

/// The name of a branch.
pub(super) fn name(field: &str, text: &str) -> Result<(), Error> {
    filled(field, text)?;
    bounded(field, text, "sequential_thinking.max_name_bytes", MAX_NAME_BYTES)
}

/// The words of a search.
pub(super) fn query(field: &str, text: &str) -> Result<(), Error> {
    bounded(field, text, "sequential_thinking.max_query_bytes", MAX_QUERY_BYTES)
}

/// The goals of a chain.
pub(super) fn goals(goals: &[String]) -> Result<(), Error> {
    count("goals", goals.len(), "sequential_thinking.max_goals", MAX_GOALS)?;
    goals.iter().enumerate().try_for_each(|(index, goal)| {
        let field = format!("goals[{index}]");
        filled(&field, goal)?;
        bounded(&field, goal, "sequential_thinking.max_goal_bytes", MAX_GOAL_BYTES)
    })
}

/// Labels: sorted, each once.
pub(super) fn tags(mut tags: Vec<String>) -> Result<Vec<String>, Error> {
    count("tags", tags.len(), "sequential_thinking.max_tags", MAX_TAGS)?;
    for (index, tag) in tags.iter().enumerate() {
        name(&format!("tags[{index}]"), tag)?;
    }
    tags.sort_unstable();
    tags.dedup();
    Ok(tags)
}

/// How sure a step is.
pub(super) fn confidence(field: &str, confidence: Option<f64>) -> Result<(), Error> {
    confidence.map_or(Ok(()), |confidence| unit(field, confidence))
}

/// The rating of a step.
pub(super) fn scores(field: &str, scores: &BTreeMap<String, f64>) -> Result<(), Error> {
    for (criterion, rating) in scores {
        name(field, criterion)?;
        unit(&format!("{field}[{criterion}]"), *rating)?;
    }
    count(field, scores.len(), "sequential_thinking.max_criteria", MAX_CRITERIA)
}

/// What supports a step; whether the steps that it names are there is not looked at.
pub(super) fn evidence(field: &str, evidence: &[Evidence]) -> Result<(), Error> {
    count(field, evidence.len(), "sequential_thinking.max_evidence", MAX_EVIDENCE)?;
    for (index, evidence) in evidence.iter().enumerate() {
        let (name, text) = match &evidence.source {
            None => {
                return Err(Error::invalid(
                    format!("{field}[{index}]"),
                    "must have one of task_id, uri, text and step",
                ));
            }
            Some(Source::Step(_)) => continue,
            Some(Source::TaskId(text)) => ("task_id", text),
            Some(Source::Uri(text)) => ("uri", text),
            Some(Source::Text(text)) => ("text", text),
        };
        let field = format!("{field}[{index}].{name}");
        filled(&field, text)?;
        bounded(&field, text, "sequential_thinking.max_evidence_bytes", MAX_EVIDENCE_BYTES)?;
    }
    Ok(())
}

fn filled(field: &str, text: &str) -> Result<(), Error> {
    if text.trim().is_empty() { Err(Error::invalid(field, "must not be empty")) } else { Ok(()) }
}

fn unit(field: &str, number: f64) -> Result<(), Error> {
    if (0.0..=1.0).contains(&number) {
        return Ok(());
    }
    Err(Error::invalid(field, format_args!("must be from 0 to 1, not {number}")))
}

fn bounded(field: &str, text: &str, limit: &'static str, max: usize) -> Result<(), Error> {
    if text.contains('\0') {
        return Err(Error::invalid(field, "must not contain U+0000"));
    }
    at_most(field, text.len(), "bytes", limit, max)
}

fn count(field: &str, len: usize, limit: &'static str, max: usize) -> Result<(), Error> {
    at_most(field, len, "entries", limit, max)
}

fn at_most(
    field: &str,
    number: usize,
    unit: impl fmt::Display,
    limit: &'static str,
    max: usize,
) -> Result<(), Error> {
    if number <= max {
        return Ok(());
    }
    Err(Error::limit(limit, max, format_args!("{field}: has {number} {unit}, too many"))
        .with_fact("field", field))
}
