//! A chain as Markdown, with everything in it. Thoughts are quoted, so that what they contain cannot
//! pass for a heading or a list of the export.

use super::Whole;
use crate::agents::sequential_thinking::graph::Node;
use crate::agents::sequential_thinking::names;
use crate::agents::sequential_thinking::steps::Content;
use crate::proto::opdbus::agent::sequential_thinking::v1::evidence::Source;

pub(super) fn write(whole: &Whole) -> String {
    let chain = &whole.chain;
    let mut lines = vec![format!("# Chain {}", chain.name), String::new()];
    lines.push(format!(
        "Status: {}. {} of {} planned steps.",
        names::chain_status(chain.status),
        chain.steps,
        chain.max_steps
    ));
    if !chain.tags.is_empty() {
        lines.extend([String::new(), format!("Labels: {}", inline(&chain.tags.join(", ")))]);
    }
    section(&mut lines, "Problem", &whole.texts.problem);
    section(&mut lines, "Context", &whole.texts.context);
    if !whole.texts.goals.is_empty() {
        lines.extend([String::new(), "## Goals".to_owned(), String::new()]);
        lines.extend(whole.texts.goals.iter().map(|goal| format!("- {}", inline(goal))));
    }
    if whole.graph.branches.len() > 1 {
        branches(&mut lines, whole);
    }
    if chain.steps > 0 {
        lines.extend([String::new(), "## Steps".to_owned()]);
    }
    for (node, content) in whole.steps() {
        step(&mut lines, whole, node, content);
    }
    section(&mut lines, "Conclusion", &whole.texts.conclusion);
    lines.push(String::new());
    lines.join("\n")
}

fn branches(lines: &mut Vec<String>, whole: &Whole) {
    lines.extend([String::new(), "## Branches".to_owned(), String::new()]);
    for branch in whole.graph.branches.iter().skip(1) {
        let from = branch.from_step.map(|step| format!(" from step {step}")).unwrap_or_default();
        let merged = branch.merged_by.map(|step| format!(", merged by step {step}"));
        lines.push(format!("- {}{from}{}", inline(&branch.name), merged.unwrap_or_default()));
    }
}

fn step(lines: &mut Vec<String>, whole: &Whole, node: &Node, content: &Content) {
    lines.extend([
        String::new(),
        format!(
            "### Step {}: {} ({})",
            node.id,
            names::kind(node.kind),
            names::status(node.status)
        ),
        String::new(),
    ]);
    let mut facts = vec![format!("branch {}", inline(&whole.graph.branches[node.branch].name))];
    if !node.parents.is_empty() {
        let parents: Vec<String> = node.parents.iter().map(u32::to_string).collect();
        facts.push(format!("follows {}", parents.join(" and ")));
    }
    facts.extend(node.confidence.map(|confidence| format!("confidence {confidence}")));
    facts.extend(node.revises.map(|step| format!("revises step {step}")));
    facts.extend(node.superseded_by.map(|step| format!("superseded by step {step}")));
    facts.extend(node.resolved_by.map(|step| format!("settled by step {step}")));
    let scores = content.scores.iter();
    facts.extend(scores.map(|(name, score)| format!("{} {score}", inline(name))));
    lines.extend([facts.join(", "), String::new()]);
    lines.extend(quote(&content.thought));
    for (label, text) in [("Reason", &content.reason), ("Note", &content.note)] {
        if !text.is_empty() {
            lines.extend([String::new(), format!("{label}:"), String::new()]);
            lines.extend(quote(text));
        }
    }
    let evidence: Vec<String> = content
        .evidence
        .iter()
        .filter_map(|evidence| evidence.source.as_ref())
        .map(source)
        .collect();
    if !evidence.is_empty() {
        lines.extend([String::new(), "Evidence:".to_owned(), String::new()]);
        lines.extend(evidence);
    }
}

fn source(source: &Source) -> String {
    match source {
        Source::TaskId(id) => format!("- task {}", inline(id)),
        Source::Uri(uri) => format!("- {}", inline(uri)),
        Source::Text(text) => format!("- {}", inline(text)),
        Source::Step(step) => format!("- step {step}"),
    }
}

fn section(lines: &mut Vec<String>, title: &str, text: &str) {
    if !text.is_empty() {
        lines.extend([String::new(), format!("## {title}"), String::new()]);
        lines.extend(quote(text));
    }
}

fn quote(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(|line| if line.is_empty() { ">".to_owned() } else { format!("> {line}") })
}

/// A text on one line.
fn inline(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
