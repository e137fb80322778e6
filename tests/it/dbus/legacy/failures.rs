//! What fails and how: a failed operation is a result, a task that cannot be read is an error.

use op_dbus::compat::dbusmcp::OlderAgent;
use op_dbus::executor::{Config, Decision, Policy, Rule, Who};
use serde_json::json;

use super::super::{World, failed};
use super::{ask, memory, path, result};
use crate::fixture::{Bus, denying};

const INVALID: &str = "org.freedesktop.DBus.Error.InvalidArgs";
const FAILED: &str = "org.freedesktop.DBus.Error.Failed";

#[tokio::test]
async fn a_task_that_cannot_be_read_is_an_error() {
    let world = World::new().await;
    for (task, why) in [
        ("{", "EOF"),
        ("[]", "invalid"),
        (r#"{"operation": "recall"}"#, "type"),
        (r#"{"type": "memory"}"#, "operation"),
        (r#"{"type": "memory", "operation": "recall", "path": 1}"#, "string"),
        (r#"{"type": "memory", "operation": "recall", "config": []}"#, "invalid"),
        (r#"{"type": "context-manager", "operation": "list"}"#, "context-manager"),
        (
            r#"{"type": "memory", "operation": "recall", "config": {"deadline-ms": "x"}}"#,
            "deadline-ms",
        ),
    ] {
        for is_first in [false, true] {
            let reply = ask(&world.client, "Memory", is_first, "Execute", &task).await;
            let text = failed(reply, INVALID);
            assert!(
                text.starts_with("Invalid task JSON: ") && text.contains(why),
                "{task}: {text}"
            );
        }
    }
    // The last of them says what it calls, so it is a call that cannot be read, as by every other way.
    let rejected = "opdbus_rejected_total{reason=\"invalid_request\"} 14";
    assert!(world.metrics().contains(rejected), "{}", world.metrics());
    assert_eq!(world.counted("memory", "legacy", "Recall", "invalid_argument"), 2);
}

#[tokio::test]
async fn arguments_that_cannot_be_translated_are_counted_as_a_call() {
    let world = World::new().await;
    for (agent, kind, word, does, config) in [
        (
            "Memory",
            "memory",
            "remember",
            "Remember",
            json!({"key": "a", "value": "b", "ttl_secs": -1}),
        ),
        ("ContextManager", "context-manager", "save", "Save", json!({"name": "a"})),
        (
            "SequentialThinking",
            "sequential-thinking",
            "plan",
            "SequentialThinking",
            json!({"step": "x"}),
        ),
        ("Executor", "executor", "execute", "Exec", json!({"command": "true", "timeout": 301})),
        ("Executor", "executor", "execute", "Exec", json!({"command": "true", "args": "x"})),
    ] {
        let id = OlderAgent::named(agent).unwrap().agent;
        let unread = || world.counted(id, "legacy", does, "invalid_argument");
        let before = unread();
        let task = json!({"type": kind, "operation": word, "config": config});
        let result = world.execute(agent, task).await;
        assert_eq!(result["metadata"]["reason"], "INVALID_ARGUMENT", "{result}");
        assert_eq!(unread(), before + 1, "{agent}.{word}");
    }
    // The same argument in two places.
    let result = world.operate("Memory", "recall", "a", "b").await;
    assert_eq!(result["metadata"]["reason"], "INVALID_ARGUMENT", "{result}");
    assert_eq!(world.counted("memory", "legacy", "Recall", "invalid_argument"), 1);
}

#[tokio::test]
async fn an_operation_that_there_is_not_is_an_error_that_names_those_there_are() {
    let world = World::new().await;
    for operation in ["dance", "bulk_recall", ""] {
        let reply = ask(&world.client, "Memory", false, "RunOperation", &(operation, "", "")).await;
        let text = failed(reply, INVALID);
        let begin = format!("Unsupported operation '{operation}'. Supported: [\"clear\", ");
        assert!(text.starts_with(&begin) && text.contains("\"recall\""), "{text}");
    }
    let task = memory("dance", "", "").to_string();
    let reply = ask(&world.client, "Memory", false, "Execute", &task).await;
    assert!(failed(reply, INVALID).starts_with("Unsupported operation 'dance'"));
}

#[tokio::test]
async fn what_is_missing_is_said_as_it_was() {
    let world = World::new().await;
    for (agent, operation, path, args, data) in [
        ("Memory", "remember", "", "x", "Key required"),
        ("Memory", "remember", "x", "", "Value required"),
        ("Memory", "recall", "", "", "Key required"),
        ("Memory", "forget", "", "", "Key required"),
        ("Memory", "recall", "nothing", "", "Nothing found for 'nothing'"),
        ("ContextManager", "save", "", "x", "Key required"),
        ("ContextManager", "save", "x", "", "Value required"),
        ("ContextManager", "restore", "", "", "Key required"),
        ("ContextManager", "restore", "x", "", "Context key not found: x"),
    ] {
        let result = world.operate(agent, operation, path, args).await;
        assert_eq!(result["success"], false, "{agent}.{operation}: {result}");
        assert_eq!(result["data"], data, "{agent}.{operation}");
    }
}

#[tokio::test]
async fn a_failed_operation_is_a_result_with_the_reason() {
    let world = World::new().await;
    let result = world.operate("SequentialThinking", "get_chain", "nothing", "").await;
    assert_eq!(result["success"], false);
    assert_eq!(result["metadata"]["reason"], "NOT_FOUND", "{result}");
    assert!(result["data"].as_str().unwrap().starts_with("NOT_FOUND: "), "{result}");
    let task = json!({
        "type": "memory", "operation": "remember", "path": "a", "args": "b",
        "config": {"colour": "red"}
    });
    let unknown = world.execute("Memory", task).await;
    assert_eq!(unknown["metadata"]["reason"], "INVALID_ARGUMENT");
    assert!(unknown["data"].as_str().unwrap().contains("colour"), "{unknown}");
    let twice = world.operate("Memory", "recall", "a", "b").await;
    assert_eq!(twice["metadata"]["facts"]["field"], "args", "{twice}");
}

#[tokio::test]
async fn what_the_policy_refuses_is_refused_here_too() {
    let world = World::with(Bus::start(), denying()).await;
    for (agent, operation) in
        [("Memory", "remember"), ("ContextManager", "save"), ("SequentialThinking", "think")]
    {
        let result = world.operate(agent, operation, "a", "b").await;
        assert_eq!(result["success"], false);
        assert_eq!(result["metadata"]["reason"], "ACCESS_DENIED", "{result}");
        assert!(result["data"].as_str().unwrap().starts_with("ACCESS_DENIED: "), "{result}");
    }
    assert_eq!(world.counted("memory", "legacy", "Remember", "access_denied"), 1);
    assert_eq!(world.counted("context_manager", "legacy", "Save", "access_denied"), 1);
}

#[tokio::test]
async fn clearing_does_not_ask_for_more_than_the_policy_gives() {
    let delete = Rule {
        operations: vec!["delete".into()],
        ..Rule::for_all(Who::everybody(), Decision::Deny)
    };
    let policy = Policy::new(vec![delete, Rule::for_all(Who::everybody(), Decision::Allow)]);
    let world = World::with(Bus::start(), Config { policy, ..Config::default() }).await;
    world.data("ContextManager", "save", "a", "1").await;
    let result = world.operate("ContextManager", "clear", "", "").await;
    assert_eq!(result["metadata"]["reason"], "ACCESS_DENIED", "{result}");
    world.data("ContextManager", "restore", "a", "").await;
}

#[tokio::test]
async fn options_of_the_call_are_taken_from_the_configuration_of_a_task() {
    let world = World::new().await;
    let mut task = json!({
        "type": "memory", "operation": "remember", "path": "a", "args": "1",
        "config": {"request-id": "one", "if_absent": true}
    });
    let first = world.execute("Memory", task.clone()).await;
    let again = world.execute("Memory", task.clone()).await;
    assert_eq!(first["metadata"]["response"], again["metadata"]["response"]);
    task["config"]["request-id"] = json!("two");
    let other = world.execute("Memory", task.clone()).await;
    assert_eq!(other["metadata"]["reason"], "ALREADY_EXISTS", "{other}");
    task["config"] = json!({"session-id": "none"});
    let unknown = world.execute("Memory", task).await;
    assert_eq!(unknown["metadata"]["reason"], "NOT_FOUND", "{unknown}");
}

#[tokio::test]
async fn a_service_that_stops_and_a_body_that_is_too_large_are_errors() {
    let world = World::new().await;
    let large = "x".repeat(1024 * 1024);
    let reply =
        ask(&world.client, "Memory", false, "RunOperation", &("remember", "a", large)).await;
    let text = failed(reply, FAILED);
    assert!(text.starts_with("Execution failed: LIMIT_EXCEEDED: "), "{text}");
    world.service.executor.drain();
    let reply = ask(&world.client, "Memory", false, "RunOperation", &("recall", "a", "")).await;
    let text = failed(reply, FAILED);
    assert!(text.starts_with("Execution failed: UNAVAILABLE: "), "{text}");
    // What tells something still does.
    let reply = world.call(&path("Memory"), None, "AgentType", &()).await.unwrap();
    assert_eq!(reply.body().deserialize::<String>().unwrap(), "memory");
}

#[tokio::test]
async fn values_with_any_letters_come_back_as_they_were() {
    let world = World::new().await;
    let value = "\u{1}\"\\ \u{1f600} = \n";
    let task = memory("remember", "odd", value).to_string();
    let remembered = result(ask(&world.client, "Memory", false, "Execute", &task).await);
    assert_eq!(remembered["success"], true);
    let recalled = world.data("Memory", "recall", "odd", "").await;
    assert_eq!(recalled, format!("Recalled (exact): odd = {value}"));
}
