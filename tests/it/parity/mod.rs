//! The same call over every way gives the same result or the same error, and is counted on the
//! transport that it came by.

mod ways;

use op_dbus::call::Transport;
use op_dbus::error::ErrorKind;
use serde_json::{Value, json};

use ways::{Outcome, Way, World};

/// One call. `KEY` in a text of the arguments becomes a key that only this way uses.
struct Case {
    agent: &'static str,
    operation: &'static str,
    arguments: Value,
    /// Calls that come before, on the same way, and must end well.
    before: Vec<(&'static str, Value)>,
}

fn case(agent: &'static str, operation: &'static str, arguments: Value) -> Case {
    Case { agent, operation, arguments, before: Vec::new() }
}

fn memory(operation: &'static str, arguments: Value) -> Case {
    case("memory", operation, arguments)
}

fn session(operation: &'static str, arguments: Value) -> Case {
    case("sessions", operation, arguments)
}

impl Case {
    fn after(mut self, operation: &'static str, arguments: Value) -> Self {
        self.before.push((operation, arguments));
        self
    }
}

fn cases() -> Vec<Case> {
    let stored = || json!({"key": "KEY", "value": {"a": [1, 2.5, "x", null, true]}, "tags": ["t"]});
    let started = || json!({"client_name": "test", "session_id": "KEY"});
    let mut cases = vec![
        memory("Remember", stored()),
        memory("Remember", json!({"key": "KEY", "value": 1, "ttl": "60s"})),
        memory("Remember", json!({"key": "KEY", "value": 2, "if_absent": true}))
            .after("Remember", stored()),
        memory("Remember", json!({"key": "KEY", "value": 2, "if_version": "999999"}))
            .after("Remember", stored()),
        memory("Remember", json!({"key": "", "value": 1})),
        memory("Remember", json!({"key": "KEY", "value": 1, "namespace": "x".repeat(65)})),
        memory("Remember", json!({"key": "KEY", "value": 1, "ttl": "-5s"})),
        memory("Recall", json!({"key": "KEY"})).after("Remember", stored()),
        memory("Recall", json!({"key": "KEY"})),
        memory("Recall", json!({"key": "KEY", "default": "nothing"})),
        memory("Forget", json!({"key": "KEY"})).after("Remember", stored()),
        memory("Forget", json!({"key": "KEY", "dry_run": true})).after("Remember", stored()),
        memory("List", json!({"pattern": "KEY"})).after("Remember", stored()),
        memory("List", json!({"page_size": 5000})),
        memory("Increment", json!({"key": "KEY", "by": "5"}))
            .after("Increment", json!({"key": "KEY"})),
        memory("Increment", json!({"key": "KEY"})).after("Remember", stored()),
        memory("Search", json!({"query": "("})),
        memory("Remember", json!({"key": "KEY", "value": 1, "scope": "SCOPE_SESSION"})),
        memory("History", json!({"key": "KEY"}))
            .after("Remember", stored())
            .after("Remember", json!({"key": "KEY", "value": 2})),
        memory("Restore", json!({"undo_token": "no such token"})),
        memory(
            "Transact",
            json!({"compare": [{"key": "KEY", "version": "0"}], "success": [{"remember": {"key": "KEY", "value": 7}}, {"recall": {"key": "KEY"}}]}),
        ),
        case("probe", "Nothing", json!({})),
        case("probe", "Sleep", json!({"duration": "0.001s"})),
        case("probe", "Fail", json!({"reason": "no such reason"})),
        case("probe", "Fail", json!({"reason": "PANIC"})),
        case("agents", "Ping", json!({"payload": "AAEC"})),
        case("agents", "DescribeAgent", json!({"agent": "nobody"})),
        case("agents", "DescribeAgent", json!({"agent": "memory", "operation": "nothing"})),
        session("EndSession", json!({"session_id": "KEY"})).after("StartSession", started()),
        session("EndSession", json!({"session_id": "KEY"})),
        session("KeepAlive", json!({"session_id": "KEY"})),
        session("GetSession", json!({"session_id": ""})),
        session("ListSessions", json!({"page_size": 1001})),
        session("StartSession", started()).after("StartSession", started()),
        session("StartSession", json!({"client_name": "test", "session_id": "KEY", "token": "x"})),
        session("StartSession", json!({"client_name": ""})),
    ];
    cases.extend(contexts_and_chains());
    for kind in ErrorKind::ALL {
        cases.push(case("probe", "Fail", json!({"reason": kind.reason(), "message": "as asked"})));
    }
    cases
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
        case("context_manager", "Load", json!({"name": "KEY"})),
        case(
            "context_manager",
            "Budget",
            json!({"names": ["KEY"], "context_window_tokens": "100"}),
        )
        .after("Save", talk()),
        case("sequential_thinking", "StartChain", json!({"problem": ""})),
        case("sequential_thinking", "ListChains", json!({"query": "KEY"}))
            .after("StartChain", json!({"problem": "KEY", "tags": ["t"]})),
        case("sequential_thinking", "GetChain", json!({"chain_id": "KEY"})),
        case(
            "sequential_thinking",
            "SequentialThinking",
            json!({"thought": "x", "thought_number": 1, "total_thoughts": 0, "next_thought_needed": true}),
        ),
    ]
}

#[tokio::test]
async fn every_way_gives_the_same_answer_and_counts_it() {
    let world = World::start().await;
    let (mut compared, mut failed) = (0, 0);
    for (number, case) in cases().iter().enumerate() {
        let mut first: Option<(Way, Outcome)> = None;
        for way in Way::ALL {
            let key = format!("key-{number}-{way:?}");
            for (operation, arguments) in &case.before {
                let outcome =
                    world.call(way, case.agent, operation, with_key(arguments, &key)).await;
                assert!(outcome.is_ok(), "{way:?} {operation}: {outcome:?}");
            }
            let counted = world.counts(case.agent, case.operation);
            let outcome =
                world.call(way, case.agent, case.operation, with_key(&case.arguments, &key)).await;
            let label =
                outcome.as_ref().map_or_else(|reason| reason.to_ascii_lowercase(), |_| "ok".into());
            world.check_counted(case.agent, case.operation, way.transport(), &label, &counted);
            let outcome = outcome.map(|value| ways::plain(&value, &key));
            match &first {
                None => first = Some((way, outcome)),
                Some((other, expected)) => {
                    let what = format!("{}.{} {}", case.agent, case.operation, case.arguments);
                    assert_eq!(&outcome, expected, "{what}: {way:?} differs from {other:?}");
                    compared += 1;
                }
            }
        }
        failed += usize::from(first.is_some_and(|(_, outcome)| outcome.is_err()));
    }
    // Nothing may be compared with nothing.
    assert_eq!(compared, cases().len() * (Way::ALL.len() - 1));
    assert!(failed >= ErrorKind::ALL.len() && failed < cases().len(), "{failed} cases fail");
}

/// What only one way can ask for wrongly: names that are not there.
#[tokio::test]
async fn unknown_names_have_one_error_on_both_transports() {
    let world = World::start().await;
    for way in [Way::JsonOverGrpc, Way::JsonOverDbus] {
        for (agent, operation, reason) in
            [("nobody", "Recall", "UNKNOWN_AGENT"), ("memory", "Nothing", "UNKNOWN_OPERATION")]
        {
            let outcome = world.call_json(way.transport(), agent, operation, "{}").await;
            assert_eq!(outcome, Err(reason.to_owned()), "{way:?}");
        }
        let outcome = world.call_json(way.transport(), "memory", "Recall", r#"{"kye": 1}"#).await;
        assert_eq!(outcome, Err("INVALID_ARGUMENT".to_owned()), "{way:?}");
        let integer = r#"{"key": "k", "value": 9007199254740993}"#;
        let outcome = world.call_json(way.transport(), "memory", "Remember", integer).await;
        assert_eq!(outcome, Err("INVALID_ARGUMENT".to_owned()), "{way:?}");
    }
    assert_eq!(Way::TypedOverGrpc.transport(), Transport::Grpc);
}

fn with_key(arguments: &Value, key: &str) -> Value {
    serde_json::from_str(&arguments.to_string().replace("KEY", key)).unwrap()
}
