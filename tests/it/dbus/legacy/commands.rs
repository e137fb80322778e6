//! The first generation's Executor: programs that run with the caller's rights.

use serde_json::{Value, json};

use super::super::World;
use super::{ask, result};

async fn execute(world: &World, task: Value) -> Value {
    let task = task.to_string();
    result(ask(&world.client, "Executor", true, "Execute", &task).await)
}

#[tokio::test]
async fn a_program_runs_and_its_end_is_told_as_it_was() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let task = json!({
        "type": "execute", "command": "echo", "args": ["a b", "$HOME;"],
        "timeout": 20, "working_dir": folder.path(),
    });
    let expected = json!({
        "success": true, "exit_code": 0, "stdout": "a b $HOME;\n", "stderr": "", "error": null
    });
    assert_eq!(execute(&world, task.clone()).await, expected);
    // The second generation's form of the same.
    let result = world.execute("Executor", task).await;
    assert_eq!((&result["success"], &result["data"]), (&json!(true), &json!("a b $HOME;\n")));
    let place = folder.path().to_str().unwrap();
    let result = world.operate("Executor", "execute", place, "pwd").await;
    assert_eq!(result["data"].as_str().unwrap().trim_end(), place, "{result}");
    assert_eq!(world.counted("commands", "legacy", "Exec", "ok"), 3);
}

#[tokio::test]
async fn a_program_that_fails_is_no_success() {
    let world = World::new().await;
    let failed = execute(&world, json!({"type": "execute", "command": "ls", "args": ["/none"]}));
    let failed = failed.await;
    assert_eq!(failed["success"], false);
    assert_ne!(failed["exit_code"], 0);
    assert!(failed["stderr"].as_str().unwrap().contains("/none"), "{failed}");
    let result = world.operate("Executor", "execute", "", "ls /none").await;
    assert_eq!(result["success"], false);
    assert!(result["data"].as_str().unwrap().contains("/none"), "{result}");
    let missing = json!({"type": "execute", "command": "no-such-program"});
    let missing = execute(&world, missing).await;
    assert_eq!((&missing["success"], &missing["exit_code"]), (&json!(false), &Value::Null));
    assert!(missing["error"].as_str().unwrap().contains("no-such-program"), "{missing}");
}

#[tokio::test]
async fn a_program_ends_when_its_time_is_over() {
    let world = World::new().await;
    let task = json!({"type": "execute", "command": "sleep", "args": ["60"], "timeout": 1});
    let ended = execute(&world, task).await;
    assert_eq!(ended["success"], false, "{ended}");
    assert!(ended["error"].as_str().unwrap().contains("limits.wall"), "{ended}");
    // The call's own time is the shorter one.
    let task = json!({
        "type": "executor", "operation": "execute",
        "config": {"command": "sleep", "args": ["60"], "deadline-ms": 1500},
    });
    let result = world.execute("Executor", task).await;
    assert_eq!(result["success"], false, "{result}");
    let text = result.to_string();
    assert!(text.contains("deadline") || text.contains("DEADLINE_EXCEEDED"), "{text}");
}

#[tokio::test]
async fn what_only_a_shell_would_understand_is_refused() {
    let world = World::new().await;
    for line in ["echo 'a b'", "echo a; rm b", "echo $HOME", "ls | wc"] {
        let result = world.operate("Executor", "execute", "", line).await;
        assert_eq!(result["success"], false, "{line}: {result}");
        assert_eq!(result["metadata"]["facts"]["field"], "args", "{result}");
    }
    let long = json!({"type": "execute", "command": "true", "timeout": 301});
    let refused = execute(&world, long).await;
    assert!(refused["error"].as_str().unwrap().contains("timeout"), "{refused}");
    assert_eq!(world.counted("commands", "legacy", "Exec", "ok"), 0);
}
