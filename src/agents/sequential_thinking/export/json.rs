//! A chain as a JSON object, with everything in it. Names are those of the contract.

use serde_json::{Value, json};

use super::Whole;
use crate::agents::sequential_thinking::graph::Node;
use crate::agents::sequential_thinking::names;
use crate::agents::sequential_thinking::steps::Content;
use crate::proto::opdbus::agent::sequential_thinking::v1::evidence::Source;

pub(super) fn write(whole: &Whole) -> String {
    let branches: Vec<Value> = whole
        .graph
        .branches
        .iter()
        .map(|branch| {
            json!({
                "name": branch.name,
                "from_step": branch.from_step,
                "head": branch.head,
                "merged_by": branch.merged_by,
            })
        })
        .collect();
    let steps: Vec<Value> =
        whole.steps().map(|(node, content)| step(whole, node, content)).collect();
    let chain = json!({
        "chain_id": whole.chain.name,
        "status": names::chain_status(whole.chain.status),
        "max_steps": whole.chain.max_steps,
        "revision": whole.chain.revision,
        "created_at_us": whole.chain.created_at,
        "updated_at_us": whole.chain.updated_at,
        "tags": whole.chain.tags,
        "problem": whole.texts.problem,
        "context": whole.texts.context,
        "goals": whole.texts.goals,
        "conclusion": whole.texts.conclusion,
        "branches": branches,
        "steps": steps,
    });
    format!("{chain:#}\n")
}

fn step(whole: &Whole, node: &Node, content: &Content) -> Value {
    let sources = content.evidence.iter().filter_map(|evidence| evidence.source.as_ref());
    json!({
        "step": node.id,
        "kind": names::kind(node.kind),
        "status": names::status(node.status),
        "thought": content.thought,
        "branch": whole.graph.branches[node.branch].name,
        "parents": node.parents,
        "number": node.number,
        "confidence": node.confidence,
        "evidence": sources.map(source).collect::<Vec<_>>(),
        "revises": node.revises,
        "reason": content.reason,
        "superseded_by": node.superseded_by,
        "resolved_by": node.resolved_by,
        "resolved_at_us": node.resolved_at,
        "note": content.note,
        "scores": content.scores,
        "created_at_us": node.created_at,
    })
}

fn source(source: &Source) -> Value {
    match source {
        Source::TaskId(id) => json!({ "task_id": id }),
        Source::Uri(uri) => json!({ "uri": uri }),
        Source::Text(text) => json!({ "text": text }),
        Source::Step(step) => json!({ "step": step }),
    }
}
