//! A chain as a Mermaid flowchart: shapes tell kinds, classes tell how steps stand, dotted arrows tell
//! revisions and resolutions. Thoughts are cut to their beginnings.

use super::Whole;
use crate::agents::sequential_thinking::chain::beginning;
use crate::agents::sequential_thinking::names;
use crate::proto::opdbus::agent::sequential_thinking::v1::{StepKind, StepStatus};

/// How many characters of a thought are shown.
const SHOWN: usize = 60;

/// The looks of the classes.
const CLASSES: [&str; 4] = [
    "classDef open stroke-dasharray: 5 5",
    "classDef settled stroke-width: 3px",
    "classDef fallen opacity: 0.5",
    "classDef conclusion stroke-width: 4px",
];

pub(super) fn write(whole: &Whole) -> String {
    let mut lines = vec!["flowchart TD".to_owned()];
    for (node, content) in whole.steps() {
        let (open, close) = shape(node.kind);
        lines.push(format!(
            "    s{}{open}\"{} {}: {}\"{close}{}",
            node.id,
            node.id,
            names::kind(node.kind),
            label(&content.thought),
            class(node.status)
        ));
    }
    if !whole.texts.conclusion.is_empty() {
        // With a word before it, no beginning can pass for a list, which Mermaid does not draw.
        lines.push(format!(
            "    result([\"conclusion: {}\"]):::conclusion",
            label(&whole.texts.conclusion)
        ));
    }
    for (node, _) in whole.steps() {
        let (id, name) = (node.id, &whole.graph.branches[node.branch].name);
        for parent in &node.parents {
            let from = whole.graph.get(*parent).map(|parent| parent.branch);
            let named = from.is_some_and(|branch| branch != node.branch) && node.parents.len() == 1;
            let name = if named { format!("|\"{}\"|", label(name)) } else { String::new() };
            lines.push(format!("    s{parent} -->{name} s{id}"));
        }
        if let Some(revised) = node.revises {
            lines.push(format!("    s{revised} -.->|revised| s{id}"));
        }
        if let Some(by) = node.resolved_by {
            lines.push(format!("    s{by} -.->|{}| s{id}", names::status(node.status)));
        }
    }
    if !whole.texts.conclusion.is_empty()
        && let Some(head) = whole.graph.branches[0].head
    {
        lines.push(format!("    s{head} --> result"));
    }
    lines.extend(CLASSES.map(|class| format!("    {class}")));
    lines.push(String::new());
    lines.join("\n")
}

fn shape(kind: StepKind) -> (&'static str, &'static str) {
    match kind {
        StepKind::Hypothesis => ("{{", "}}"),
        StepKind::Evidence => ("[/", "/]"),
        StepKind::Decision => ("[[", "]]"),
        StepKind::Question => ("{", "}"),
        StepKind::Risk => (">", "]"),
        StepKind::Synthesis => ("((", "))"),
        StepKind::Verification => ("(", ")"),
        StepKind::Unspecified | StepKind::Analysis => ("[", "]"),
    }
}

fn class(status: StepStatus) -> &'static str {
    match status {
        StepStatus::Open => ":::open",
        StepStatus::Confirmed | StepStatus::Answered => ":::settled",
        StepStatus::Refuted | StepStatus::Dropped | StepStatus::Superseded => ":::fallen",
        StepStatus::Unspecified | StepStatus::Active => "",
    }
}

/// The beginning of a text, with what Mermaid would take as its own written as character codes.
fn label(text: &str) -> String {
    let mut safe = String::new();
    for character in beginning(text, SHOWN).chars() {
        if character.is_alphanumeric() || " .,:-_/…()+=!?'".contains(character) {
            safe.push(character);
        } else {
            safe.push_str(&format!("#{};", u32::from(character)));
        }
    }
    safe
}
