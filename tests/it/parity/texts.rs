//! The cases of what is written down: contexts and chains of thoughts.

use serde_json::{Value, json};

use super::cases::{Case, case};

pub(super) fn cases() -> Vec<Case> {
    let all = [contexts_and_chains(), contexts(), chains()];
    all.into_iter().flatten().collect()
}

fn contexts_and_chains() -> Vec<Case> {
    let items =
        json!([{"role": "ROLE_USER", "text": "hello"}, {"role": "ROLE_TOOL", "text": "there"}]);
    let talk = || json!({"name": "KEY", "items": items});
    vec![
        case("context_manager", "Save", talk()),
        case("context_manager", "Save", json!({"name": "KEY", "items": []})),
        case(
            "context_manager",
            "Save",
            json!({"name": "KEY", "content": "x", "scope": "SCOPE_SESSION"}),
        ),
        case(
            "context_manager",
            "Load",
            json!({"name": "KEY", "budget_tokens": "6", "strategy": "STRATEGY_TAIL"}),
        )
        .after("Save", talk()),
        case("context_manager", "Save", json!({"name": "KEY"})),
        case("context_manager", "Load", json!({"name": "KEY"})),
        case(
            "context_manager",
            "Budget",
            json!({"names": ["KEY"], "context_window_tokens": "100"}),
        )
        .after("Save", talk()),
        case("sequential_thinking", "StartChain", json!({"problem": ""})),
        case("sequential_thinking", "StartChain", json!({"problem": "KEY", "goals": ["g"]})),
        case("sequential_thinking", "ListChains", json!({"query": "KEY"}))
            .after("StartChain", json!({"problem": "KEY", "tags": ["t"]})),
        case("sequential_thinking", "GetChain", json!({"chain_id": "KEY"})),
        case(
            "sequential_thinking",
            "SequentialThinking",
            json!({"thought": "x", "thought_number": 1, "total_thoughts": 0, "next_thought_needed": true}),
        ),
        case(
            "sequential_thinking",
            "SequentialThinking",
            json!({"thought": "x", "thought_number": 1, "total_thoughts": 2, "next_thought_needed": true}),
        ),
    ]
}

fn contexts() -> Vec<Case> {
    let items =
        json!([{"role": "ROLE_USER", "text": "hello"}, {"role": "ROLE_TOOL", "text": "there"}]);
    let long = "One sentence that says something. ".repeat(20);
    let chat: Vec<Value> = (0..8)
        .map(|number| json!({"role": "ROLE_USER", "text": format!("{number} {long}")}))
        .collect();
    let of = |operation, arguments| {
        case("context_manager", operation, arguments)
            .after("Save", json!({"name": "KEY", "items": items}))
    };
    let compacted = |operation, arguments| {
        case("context_manager", operation, arguments)
            .after("Save", json!({"name": "KEY", "items": chat}))
            .after("Compact", json!({"name": "KEY", "target_tokens": "300", "keep_last": 2}))
    };
    vec![
        of("Append", json!({"name": "KEY", "items": items})),
        of("Append", json!({"name": "KEY", "items": items, "if_version": "1"})),
        of("List", json!({"query": "KEY"})),
        of("Delete", json!({"name": "KEY"})),
        of("Undelete", json!({"undo_token": "GIVEN"})).after("Delete", json!({"name": "KEY"})),
        case("context_manager", "Undelete", json!({"undo_token": "no such"})),
        of("Versions", json!({"name": "KEY"}))
            .after("Append", json!({"name": "KEY", "items": items})),
        case("context_manager", "Diff", json!({"name": "KEY"})),
        of("Diff", json!({"name": "KEY"})).after("Append", json!({"name": "KEY", "items": items})),
        of("Fork", json!({"name": "KEY", "new_name": "KEY-2"})),
        of("SetPinned", json!({"name": "KEY", "ids": ["1"], "pinned": true})),
        of("SetPinned", json!({"name": "KEY", "ids": ["77"], "pinned": true})),
        of("Search", json!({"query": "hello", "name": "KEY"})),
        of(
            "Assemble",
            json!({"budget_tokens": "100", "sections": [{"title": "talk", "context": "KEY"}]}),
        ),
        case("context_manager", "Assemble", json!({"budget_tokens": "0", "sections": []})),
        compacted("Dropped", json!({"name": "KEY", "limit": 3})),
        compacted("Uncompact", json!({"name": "KEY"})),
        case(
            "context_manager",
            "Compact",
            json!({"name": "KEY", "target_tokens": "300", "keep_last": 2}),
        )
        .after("Save", json!({"name": "KEY", "items": chat})),
    ]
}

fn chains() -> Vec<Case> {
    let of = |operation, arguments| {
        case("sequential_thinking", operation, arguments)
            .after("StartChain", json!({"problem": "KEY"}))
            .after("Think", think("a first thought", "STEP_KIND_HYPOTHESIS"))
    };
    let branch = || json!({"chain_id": "GIVEN", "from_step": 1, "name": "other"});
    let resolve = || json!({"chain_id": "GIVEN", "step": 1, "resolution": "RESOLUTION_DROPPED", "note": "no"});
    vec![
        of("Think", think("another one", "STEP_KIND_QUESTION")),
        of("Think", json!({"chain_id": "GIVEN", "thought": "x", "parent": 99})),
        of("Revise", json!({"chain_id": "GIVEN", "step": 1, "thought": "a better one"})),
        of("Branch", branch()),
        of("Merge", json!({"chain_id": "GIVEN", "branches": ["other"], "note": "both"}))
            .after("Branch", branch())
            .after("Think", json!({"chain_id": "GIVEN", "thought": "aside", "branch": "other"})),
        of("Merge", json!({"chain_id": "GIVEN", "branches": ["nobody"], "note": "both"})),
        of("Resolve", resolve()),
        of(
            "Score",
            json!({"chain_id": "GIVEN", "step": 1, "criteria": {"cost": 0.25, "use": 0.75}}),
        ),
        of("GetChain", json!({"chain_id": "GIVEN", "view": "CHAIN_VIEW_FULL"})),
        of("Search", json!({"query": "first", "chain_id": "GIVEN"})),
        of("Check", json!({"chain_id": "GIVEN"})),
        of("Conclude", json!({"chain_id": "GIVEN", "conclusion": "done"})),
        of("Conclude", json!({"chain_id": "GIVEN", "conclusion": "done"}))
            .after("Resolve", resolve()),
        of("DeleteChain", json!({"chain_id": "GIVEN"})),
        case("sequential_thinking", "DeleteChain", json!({"chain_id": "KEY"})),
    ]
}

fn think(thought: &str, kind: &str) -> Value {
    json!({"chain_id": "GIVEN", "thought": thought, "kind": kind, "confidence": 0.5})
}
