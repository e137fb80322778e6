//! Every mapped operation: what it does, what older clients read of it, and that it is the same operation.

use serde_json::{Value, json};

use super::super::{World, none};
use super::{ask, memory, result};

#[tokio::test]
async fn memory_remembers_recalls_and_forgets() {
    let world = World::new().await;
    for (number, word) in ["remember", "store", "set"].into_iter().enumerate() {
        let key = format!("host {number}");
        assert_eq!(world.data("Memory", word, &key, "atlas").await, format!("Remembered: {key}"));
    }
    for word in ["recall", "get", "retrieve"] {
        let exact = world.data("Memory", word, "host 1", "").await;
        assert_eq!(exact, "Recalled (exact): host 1 = atlas");
        assert_eq!(world.data("Memory", word, "", "host 1").await, exact);
    }
    let matches = world.data("Memory", "recall", "ost ", "").await;
    let expected = "Recalled (matches):\nhost 0 = atlas\nhost 1 = atlas\nhost 2 = atlas";
    assert_eq!(matches, expected);
    let listed: Value =
        serde_json::from_str(&world.data("Memory", "list", "*2", "").await).unwrap();
    assert_eq!(listed["keys"][0]["key"], "host 2");
    let searched: Value =
        serde_json::from_str(&world.data("Memory", "search", "", "atlas").await).unwrap();
    assert_eq!(searched["hits"].as_array().unwrap().len(), 3);
    for word in ["forget", "delete"] {
        assert_eq!(world.data("Memory", word, "host 0", "").await, "Forgotten: host 0");
    }
    let cleared: Value =
        serde_json::from_str(&world.data("Memory", "clear", "", "").await).unwrap();
    assert_eq!(cleared["count"], 2);
    let gone = world.operate("Memory", "recall", "host", "").await;
    assert_eq!(
        (&gone["success"], &gone["data"]),
        (&json!(false), &json!("Nothing found for 'host'"))
    );
}

#[tokio::test]
async fn a_key_with_the_letters_of_a_pattern_is_no_pattern() {
    let world = World::new().await;
    world.data("Memory", "remember", "a[b]*c?d", "1").await;
    world.data("Memory", "remember", "abxcyd", "2").await;
    let matches = world.data("Memory", "recall", "[b]*c?", "").await;
    assert_eq!(matches, "Recalled (matches):\na[b]*c?d = 1");
}

#[tokio::test]
async fn contexts_are_saved_restored_listed_and_cleared() {
    let world = World::new().await;
    let contexts = "ContextManager";
    assert_eq!(world.data(contexts, "list", "", "").await, "No context stored");
    assert_eq!(world.data(contexts, "save", "a", "one").await, "Context saved: a = one");
    world.data(contexts, "save", "b", "two").await;
    for word in ["restore", "load"] {
        assert_eq!(world.data(contexts, word, "a", "").await, "Context restored: a = one");
    }
    let listed = world.data(contexts, "list", "", "").await;
    assert_eq!(listed, "Stored context:\n  a = one\n  b = two");
    world.data(contexts, "delete", "a", "").await;
    let missing = world.operate(contexts, "restore", "a", "").await;
    assert_eq!(missing["data"], "Context key not found: a");
    world.data(contexts, "save", "c", "three").await;
    assert_eq!(world.data(contexts, "clear", "", "").await, "Context cleared");
    assert_eq!(world.data(contexts, "list", "", "").await, "No context stored");
    world.data(contexts, "save", "d", "four").await;
    world.data(contexts, "save", "e", "five").await;
    world.data(contexts, "clear", "d", "").await;
    assert_eq!(world.data(contexts, "list", "", "").await, "Stored context:\n  e = five");
}

#[tokio::test]
async fn a_long_list_shows_what_is_small() {
    let world = World::new().await;
    let long = "x".repeat(300 * 1024);
    world.data("ContextManager", "save", "long", &long).await;
    world.data("ContextManager", "save", "short", "y").await;
    let listed = world.data("ContextManager", "list", "", "").await;
    let expected = "Stored context:\n  long (307200 bytes, which load gives)\n  short = y";
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn thoughts_are_kept_with_and_without_a_chain() {
    let world = World::new().await;
    let thinking = "SequentialThinking";
    let json = |data: String| -> Value { serde_json::from_str(&data).unwrap() };
    for word in ["analyze", "think", "plan", "reflect", "add_thought"] {
        let thought = json(world.data(thinking, word, "", "Perhaps the linker.").await);
        assert_eq!(thought["thought_number"], 1, "{word}: {thought}");
        let chain = thought["chain_id"].as_str().unwrap();
        let kept = json(world.data(thinking, "get_chain", chain, "").await);
        assert_eq!(kept["steps"][0]["thought"], "Perhaps the linker.");
    }
    let task = json!({
        "type": "sequential-thinking", "operation": "think", "args": "One of two.",
        "config": {"step": 1, "total_steps": 2},
    });
    let thought = world.execute(thinking, task).await;
    assert_eq!(thought["metadata"]["response"]["next_thought_needed"], true, "{thought}");
    for word in ["start", "start_chain"] {
        let chain = json(world.data(thinking, word, "", "Why?").await);
        let chain = chain["chain_id"].as_str().unwrap();
        let step = json(world.data(thinking, "think", chain, "Because.").await);
        assert_eq!(step["step"], 1);
        let concluded = json(world.data(thinking, "conclude", chain, "So it is.").await);
        assert_eq!(concluded["conclusion"], "So it is.");
    }
}

#[tokio::test]
async fn the_response_is_the_one_that_a_typed_call_gives() {
    let world = World::new().await;
    let task = json!({
        "type": "memory", "operation": "remember", "path": "host", "args": "atlas",
        "config": {"tags": ["build"], "ttl_secs": 3600},
    });
    let remembered = world.execute("Memory", task).await;
    assert_eq!(remembered["metadata"]["response"]["version"], "1", "{remembered}");
    let recalled = world.execute("Memory", memory("recall", "host", "")).await;
    let typed = world
        .call(
            "/org/opdbus/Agents1/agent/memory",
            Some("org.opdbus.Agent1"),
            "CallJson",
            &("Recall", r#"{"key": "host"}"#, none()),
        )
        .await;
    let typed = result(typed);
    assert_eq!(typed["tags"], json!(["build"]));
    assert_eq!(recalled["metadata"]["response"], typed);
    assert_eq!(recalled["metadata"]["agent_operation"], "recall");
    // What was set the other way is read this way, and the other way round.
    let name = "/org/opdbus/Agents1/agent/memory";
    let body = ("other", r#"{"a": 1}"#, none());
    let body = (body.0, zbus::Variant::from(body.1), body.2);
    world.call(name, Some("org.opdbus.Memory1"), "Remember", &body).await.unwrap();
    let other = world.data("Memory", "recall", "other", "").await;
    assert_eq!(other, r#"Recalled (exact): other = {"a": 1}"#);
}

#[tokio::test]
async fn a_call_is_counted_as_the_operation_with_its_interface() {
    let world = World::new().await;
    world.data("Memory", "store", "a", "1").await;
    world.operate("Memory", "recall", "nothing", "").await;
    assert_eq!(world.counted("memory", "legacy", "Remember", "ok"), 1);
    assert_eq!(world.counted("memory", "own", "Remember", "ok"), 0);
    assert_eq!(world.counted("memory", "legacy", "Recall", "not_found"), 1);
    let typed = ("CallJson", "Recall", r#"{"key": "a"}"#);
    world
        .call(
            "/org/opdbus/Agents1/agent/memory",
            Some("org.opdbus.Agent1"),
            typed.0,
            &(typed.1, typed.2, none()),
        )
        .await
        .unwrap();
    assert_eq!(world.counted("memory", "own", "Recall", "ok"), 1);
    // The first generation's interface is the same.
    let task = memory("recall", "a", "").to_string();
    let first = result(ask(&world.client, "Memory", true, "Execute", &task).await);
    assert_eq!(first["data"], "Recalled (exact): a = 1");
    assert_eq!(world.counted("memory", "legacy", "Recall", "ok"), 1);
    let gauge = r#"opdbus_calls_in_flight{agent="memory",interface="legacy",operation="Recall",transport="dbus"} 0"#;
    assert!(world.metrics().contains(gauge));
}
