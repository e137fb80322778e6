//! Limits, wrong fields, times that are over, restarts; and that nothing is left behind.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use op_dbus::agents::context_manager::{Config, ContextManager};
use op_dbus::agents::{Settings, Setup};
use op_dbus::error::ErrorKind;
use op_dbus::metrics::Metrics;
use op_dbus::proto::opdbus::agent::context_manager::v1::*;
use op_dbus::status::Status;
use op_dbus::storage::{self, Durability};

use super::{Client, caller, load, says, texts, user};
use crate::process::PATIENCE;

pub fn setup(folder: &Path, config: Config) -> Setup {
    Setup {
        storage: storage::Config { path: folder.to_owned(), durability: Durability::Normal },
        metrics: Arc::new(Metrics::new().unwrap()),
        status: Arc::new(Status::default()),
        settings: Settings { context_manager: config, ..Settings::default() },
    }
}

fn open(folder: &Path, config: Config) -> ContextManager {
    ContextManager::open(&setup(folder, config)).unwrap()
}

/// A user has room for two contexts of three items.
pub fn narrow() -> Config {
    Config { max_contexts: 2, max_items: 3, max_context_bytes: 100, ..Config::default() }
}

fn save(name: &str, items: Vec<NewItem>) -> SaveRequest {
    SaveRequest { name: name.into(), items, ..SaveRequest::default() }
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let client = Client::new();
    let invalid = ErrorKind::InvalidArgument;
    let long = "x".repeat(257);
    for name in ["", "a\nb", "a\0b", &long] {
        client.refused("Save", save(name, user(&["x"])), invalid, "name").await;
        client.refused("Load", load(name), invalid, "name").await;
    }
    client.refused("Save", save("a", vec![]), invalid, "items").await;
    client.refused("Save", save("a", user(&["x", ""])), invalid, "items[1].text").await;
    client.refused("Save", save("a", user(&["x\0"])), invalid, "items[0].text").await;
    let both = SaveRequest { content: Some("x".into()), ..save("a", user(&["x"])) };
    client.refused("Save", both, invalid, "items").await;
    let tags = SaveRequest { tags: vec!["ok".into(), String::new()], ..save("a", user(&["x"])) };
    client.refused("Save", tags, invalid, "tags[1]").await;
    let ttl = Some(prost_types::Duration { seconds: 0, nanos: 0 });
    client.refused("Save", SaveRequest { ttl, ..save("a", user(&["x"])) }, invalid, "ttl").await;
    let item = NewItem { importance: Some(f64::NAN), ..says(Role::User, "x") };
    client.refused("Save", save("a", vec![item]), invalid, "items[0].importance").await;
    let item = NewItem { role: 42, ..says(Role::User, "x") };
    client.refused("Save", save("a", vec![item]), invalid, "items[0].role").await;
    let time = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
    let item = NewItem { created_at: time, ..says(Role::User, "x") };
    client.refused("Save", save("a", vec![item]), invalid, "items[0].created_at").await;
    let big = says(Role::User, &"x".repeat((1 << 20) + 1));
    let error = client
        .refused("Save", save("a", vec![big]), ErrorKind::LimitExceeded, "items[0].text")
        .await;
    assert_eq!(error.fact("limit"), Some("context_manager.max_item_bytes"));
    assert_eq!(client.gauge("contexts"), 0);
}

#[tokio::test]
async fn limits_are_kept_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let manager = open(folder.path(), narrow());
    let context = caller(1);
    manager.save(&context, save("a", user(&["1", "2", "3"]))).await.unwrap();
    manager.save(&context, save("b", user(&["1"]))).await.unwrap();
    let items = user(&["4"]);
    let append = AppendRequest { name: "a".into(), items, ..AppendRequest::default() };
    let large = save("a", user(&[&"x".repeat(101)]));
    let failures = [
        (manager.append(&context, append).await.unwrap_err(), "max_items"),
        (manager.save(&context, large).await.unwrap_err(), "max_context_bytes"),
        (manager.save(&context, save("c", user(&["x"]))).await.unwrap_err(), "max_contexts"),
    ];
    for (error, limit) in failures {
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
        assert_eq!(error.fact("limit"), Some(format!("context_manager.{limit}").as_str()));
    }
    assert_eq!(manager.load(&context, load("a")).await.unwrap().items.len(), 3);
    // Another user has limits of his own.
    manager.save(&caller(2), save("c", user(&["x"]))).await.unwrap();
}

#[tokio::test]
async fn what_was_deleted_makes_room_then_old_versions_do() {
    let folder = tempfile::tempdir().unwrap();
    let manager = open(folder.path(), Config { max_bytes: 10_000, ..Config::default() });
    let context = caller(1);
    let text = |letter: &str| user(&[&letter.repeat(4000)]);
    let deleted = |name: &str| DeleteRequest { name: name.into(), ..DeleteRequest::default() };
    manager.save(&context, save("a", text("a"))).await.unwrap();
    let token = manager.delete(&context, deleted("a")).await.unwrap().undo_token;
    manager.save(&context, save("b", text("b"))).await.unwrap();
    manager.save(&context, save("c", text("c"))).await.unwrap();
    let undelete = UndeleteRequest { undo_token: token, ..UndeleteRequest::default() };
    let error = manager.undelete(&context, undelete).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    manager.save(&context, save("c", text("d"))).await.unwrap();
    let versions = VersionsRequest { name: "c".into(), ..VersionsRequest::default() };
    assert_eq!(manager.versions(&context, versions).await.unwrap().versions.len(), 1);
    let error = manager.save(&context, save("e", text("e"))).await.unwrap_err();
    assert_eq!(error.fact("limit"), Some("context_manager.max_bytes"));
    assert_eq!(manager.load(&context, load("b")).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn nothing_is_left_behind() {
    let client = Client::new();
    for round in 0..3 {
        for name in ["a", "b"] {
            let items = (0..30).map(|n| NewItem {
                source: format!("söurce {n}"),
                ..says(Role::User, &format!("Word {n} of round {round}."))
            });
            let items: Vec<_> = items.collect();
            client.save(name, items).await;
            let request =
                CompactRequest { name: name.into(), target_tokens: 100, ..Default::default() };
            client.call::<CompactResponse>("Compact", request).await.unwrap();
            client.append(name, user(&["more"])).await;
        }
        for number in 0..110 {
            client.append("a", user(&[&format!("item {number}")])).await;
        }
    }
    let fork = ForkRequest { name: "a".into(), new_name: "c".into(), ..ForkRequest::default() };
    client.call::<ForkResponse>("Fork", fork).await.unwrap();
    assert!(client.gauge("bytes") > 0);
    for name in ["a", "b", "c"] {
        let request =
            DeleteRequest { name: name.into(), permanent: true, ..DeleteRequest::default() };
        client.call::<DeleteResponse>("Delete", request).await.unwrap();
    }
    assert_eq!((client.gauge("contexts"), client.gauge("bytes")), (0, 0));
    let path = client.service.folder.path().join("context_manager.db");
    let database = rusqlite::Connection::open(path).unwrap();
    for table in ["context", "version", "place", "content"] {
        let count = format!("SELECT count(*) FROM {table}");
        assert_eq!(database.query_row(&count, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    }
    let index = "INSERT INTO words_1000(words_1000) VALUES ('integrity-check')";
    database.execute(index, []).unwrap();
}

#[tokio::test]
async fn a_context_whose_time_is_over_is_gone() {
    let client = Client::new();
    let ttl = Some(prost_types::Duration { seconds: 0, nanos: 1 });
    let request = SaveRequest { ttl, ..save("a", user(&["brief"])) };
    let saved: SaveResponse = client.call("Save", request).await.unwrap();
    assert!(saved.expires_at.is_some());
    client.refused("Load", load("a"), ErrorKind::NotFound, "name").await;
    let search = SearchRequest { query: "brief".into(), ..SearchRequest::default() };
    let found: SearchResponse = client.call("Search", search).await.unwrap();
    assert!(found.matches.is_empty());
    let again = client.save("a", user(&["anew"])).await;
    assert!(again.created && again.version > saved.version);
    assert_eq!(client.versions("a").await.versions.len(), 1);
    let ttl = Some(prost_types::Duration { seconds: 0, nanos: 1 });
    let request = SaveRequest { ttl, ..save("b", user(&["brief"])) };
    client.call::<SaveResponse>("Save", request).await.unwrap();
    tokio::time::timeout(PATIENCE, async {
        while client.gauge("contexts") != 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the sweeper removes it");
}

#[tokio::test]
async fn everything_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let context = caller(1);
    let first = {
        let manager = open(folder.path(), Config::default());
        let saved = manager.save(&context, save("a", user(&["one", "two"]))).await.unwrap();
        manager.save(&context, save("a", user(&["three"]))).await.unwrap();
        saved.version
    };
    let manager = open(folder.path(), Config::default());
    assert_eq!(texts(&manager.load(&context, load("a")).await.unwrap().items), ["three"]);
    let old = LoadRequest { version: Some(first), ..load("a") };
    assert_eq!(texts(&manager.load(&context, old).await.unwrap().items), ["one", "two"]);
    let search = SearchRequest { query: "three".into(), ..SearchRequest::default() };
    assert_eq!(manager.search(&context, search).await.unwrap().matches.len(), 1);
}

#[tokio::test]
async fn ten_thousand_items_are_served() {
    let client = Client::new();
    let items: Vec<_> = (0..10_000)
        .map(|n| says(Role::User, &format!("Message {n}: the value of field {} is set.", n % 97)))
        .collect();
    client.save("a", items).await;
    let one_more = AppendRequest { name: "a".into(), items: user(&["x"]), ..Default::default() };
    let error = client.refused("Append", one_more, ErrorKind::LimitExceeded, "items").await;
    assert_eq!(error.fact("limit"), Some("context_manager.max_items"));
    let request = CompactRequest { name: "a".into(), target_tokens: 5_000, ..Default::default() };
    let done: CompactResponse = client.call("Compact", request).await.unwrap();
    assert!(done.target_reached && done.after_tokens > 2_500, "{done:?}");
    let back = UncompactRequest { name: "a".into(), ..UncompactRequest::default() };
    client.call::<UncompactResponse>("Uncompact", back).await.unwrap();
    assert_eq!(client.load("a").await.items.len(), 10_000);
}

#[tokio::test]
async fn nobody_has_no_contexts() {
    let folder = tempfile::tempdir().unwrap();
    let manager = open(folder.path(), Config::default());
    let mut context = caller(1);
    let identity = op_dbus::call::Identity::Unknown;
    context.caller = Arc::new(op_dbus::call::Caller { identity, ..(*context.caller).clone() });
    let error = manager.load(&context, load("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn json_and_the_bus_have_the_same_operations() {
    let client = Client::new();
    let executor = &client.service.executor;
    let call = |operation, arguments| {
        executor.call_json("context_manager", operation, arguments, caller(1000))
    };
    let items = r#"{"name":"a","items":[{"role":"ROLE_SYSTEM","text":"be brief","pinned":true}]}"#;
    call("Save", items).await.unwrap();
    let loaded = call("Load", r#"{"name":"a"}"#).await.unwrap();
    let loaded: serde_json::Value = serde_json::from_str(&loaded).unwrap();
    assert_eq!(loaded["items"][0]["role"], "ROLE_SYSTEM");
    assert_eq!(loaded["tokens_exact"], false);
    let error = call("Save", r#"{"name":"a","item":[]}"#).await.unwrap_err();
    assert!(error.message().contains("item"), "{error}");
    let shape = |operation: &str| {
        let route = executor.find("context_manager", operation).unwrap();
        let shape = &route.operation.shape;
        format!("{} {}", shape.in_signature, shape.out_signature)
    };
    assert_eq!(shape("Save"), "sa{sv} tbta{sv}");
    assert_eq!(shape("Load"), "sa{sv} taa{sv}a{sv}");
    assert_eq!(shape("SetPinned"), "satba{sv} tua{sv}");
}
