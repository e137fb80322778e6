//! What is kept of functions: through restarts, replacements, damage, and not without end.

use std::fs;

use op_dbus::error::ErrorKind;
use serde_json::json;

use super::{World, printing, refused};

#[tokio::test]
async fn functions_outlive_the_daemon_and_a_damaged_file_is_set_aside() {
    let state = tempfile::tempdir().unwrap();
    let config = format!("[storage]\npath = {:?}", state.path());
    let world = World::new(&config).await;
    world.register(printing("one", json!({}), &["first"])).await.unwrap();
    world.register(printing("two", json!({}), &["second"])).await.unwrap();
    world.register(printing("one", json!({}), &["replaced"])).await.unwrap();
    world.on(0, "RemoveFunction", json!({"name": "two"})).await.unwrap();
    assert_eq!(world.call("one", json!({})).await.unwrap(), "replaced\n");
    drop(world.clients);
    world.daemon.stop();

    let world = World::new(&config).await;
    assert_eq!(world.names().await, ["one"]);
    assert_eq!(world.call("one", json!({})).await.unwrap(), "replaced\n");
    drop(world.clients);
    world.daemon.stop();

    let path = state.path().join("functions.db");
    let mut bytes = fs::read(&path).unwrap();
    bytes[..64].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let world = World::new(&config).await;
    assert!(world.names().await.is_empty());
    let kept = |entry: &fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        name.starts_with("functions.db.") || name.contains("damaged")
    };
    assert!(fs::read_dir(state.path()).unwrap().flatten().any(|entry| kept(&entry)));
    world.register(printing("one", json!({}), &["again"])).await.unwrap();
    assert_eq!(world.call("one", json!({})).await.unwrap(), "again\n");
}

#[tokio::test]
async fn the_number_of_functions_is_bounded_and_the_list_has_pages() {
    let world = World::new("[commands]\nmax_functions = 5").await;
    for number in 0..5 {
        world.register(printing(&format!("f{number}"), json!({}), &[])).await.unwrap();
    }
    let sixth = world.register(printing("f5", json!({}), &[])).await;
    refused(sixth, ErrorKind::LimitExceeded, "commands.max_functions");
    world.register(printing("f4", json!({}), &["replaced"])).await.unwrap();
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let request = json!({"prefix": "f", "page_size": 2, "page_token": token});
        let page = world.on(names.len(), "ListFunctions", request).await.unwrap();
        let functions = page["functions"].as_array().unwrap();
        assert!(functions.len() <= 2);
        names.extend(functions.iter().map(|one| one["name"].as_str().unwrap().to_owned()));
        token = page["next_page_token"].as_str().unwrap().to_owned();
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["f0", "f1", "f2", "f3", "f4"]);
    world.on(0, "RemoveFunction", json!({"name": "f0"})).await.unwrap();
    world.register(printing("f5", json!({}), &[])).await.unwrap();
}

#[tokio::test]
async fn of_two_that_register_one_name_at_once_one_has_it() {
    let world = World::new("").await;
    for round in 0..10 {
        let name = format!("both{round}");
        let request = |text: &str| json!({"function": printing(&name, json!({}), &[text])});
        let (one, other) = tokio::join!(
            world.on(0, "RegisterFunction", request("0")),
            world.on(1, "RegisterFunction", request("1")),
        );
        let winner = usize::from(other.is_ok());
        assert_eq!(usize::from(one.is_ok()) + usize::from(other.is_ok()), 1);
        let loser = if winner == 0 { other } else { one };
        refused(loser, ErrorKind::AlreadyExists, &name);
        assert_eq!(world.call(&name, json!({})).await.unwrap(), format!("{winner}\n"));
    }
}
