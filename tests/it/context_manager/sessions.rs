//! Contexts of sessions: seen from theirs only, and gone or saved with its end.

use std::path::Path;
use std::time::{Duration, Instant};

use op_dbus::agents::Setup;
use op_dbus::agents::context_manager::ContextManager;
use op_dbus::call::{Context, SessionScope};
use op_dbus::error::ErrorKind;
use op_dbus::proto::opdbus::agent::context_manager::v1::*;

use super::{Client, load, texts, user};

const SESSION: i32 = Scope::Session as i32;

fn save(name: &str, said: &[&str]) -> SaveRequest {
    let items = user(said);
    SaveRequest { name: name.into(), items, scope: SESSION, ..SaveRequest::default() }
}

fn kept(name: &str, said: &[&str]) -> SaveRequest {
    SaveRequest { auto_save: true, ..save(name, said) }
}

async fn said(client: &Client, name: &str) -> Vec<String> {
    let request = LoadRequest { scope: SESSION, ..load(name) };
    let items = client.call::<LoadResponse>("Load", request).await.unwrap().items;
    items.into_iter().map(|item| item.text).collect()
}

async fn is_gone(client: &Client, name: &str) {
    let request = LoadRequest { scope: SESSION, ..load(name) };
    client.refused("Load", request, ErrorKind::NotFound, "name").await;
}

#[tokio::test]
async fn a_context_of_a_session_is_seen_from_there_only() {
    let client = Client::new();
    let (one, two) = (client.in_session("one").await, client.in_session("two").await);
    client.save("talk", user(&["mine"])).await;
    one.call::<SaveResponse>("Save", save("talk", &["of one"])).await.unwrap();
    two.call::<SaveResponse>("Save", save("talk", &["of two"])).await.unwrap();
    assert_eq!(said(&one, "talk").await, ["of one"]);
    assert_eq!(said(&two, "talk").await, ["of two"]);
    // Without the scope a session changes nothing.
    assert_eq!(texts(&one.load("talk").await.items), ["mine"]);

    two.call::<SaveResponse>("Save", save("secret", &["a word to find"])).await.unwrap();
    is_gone(&one, "secret").await;
    let search = SearchRequest { query: "find".into(), ..SearchRequest::default() };
    for (client, scope, found) in [(&two, SESSION, 1), (&one, SESSION, 0), (&two, 0, 0)] {
        let request = SearchRequest { scope, ..search.clone() };
        let response: SearchResponse = client.call("Search", request).await.unwrap();
        assert_eq!(response.matches.len(), found);
        let request = ListRequest { scope, query: "secret".into(), ..ListRequest::default() };
        let response: ListResponse = client.call("List", request).await.unwrap();
        assert_eq!(response.contexts.len(), found);
    }
    // Another user's session may have the same id.
    is_gone(&client.other().in_session("one").await, "talk").await;

    let delete = DeleteRequest { name: "secret".into(), scope: SESSION, ..Default::default() };
    let deleted: DeleteResponse = two.call("Delete", delete).await.unwrap();
    let undelete = UndeleteRequest {
        undo_token: deleted.undo_token,
        scope: SESSION,
        ..UndeleteRequest::default()
    };
    one.refused("Undelete", undelete.clone(), ErrorKind::NotFound, "undo_token").await;
    let user = UndeleteRequest { scope: 0, ..undelete.clone() };
    two.refused("Undelete", user, ErrorKind::NotFound, "undo_token").await;
    two.call::<UndeleteResponse>("Undelete", undelete).await.unwrap();
    assert_eq!(said(&two, "secret").await, ["a word to find"]);
}

#[tokio::test]
async fn the_scope_of_a_session_needs_one() {
    let client = Client::new();
    let invalid = ErrorKind::InvalidArgument;
    client.refused("Save", save("a", &["x"]), invalid, "session-id").await;
    let request = LoadRequest { scope: SESSION, ..load("a") };
    client.refused("Load", request, invalid, "opdbus-session-id").await;
    let unknown = LoadRequest { scope: 9, ..load("a") };
    client.refused("Load", unknown, invalid, "scope").await;
    let user = SaveRequest { scope: 0, ..kept("a", &["x"]) };
    client.in_session("one").await.refused("Save", user, invalid, "auto_save").await;
    let append = AppendRequest {
        name: "a".into(),
        items: user_items(),
        scope: SESSION,
        auto_save: true,
        ..AppendRequest::default()
    };
    client.in_session("one").await.refused("Append", append, invalid, "auto_save").await;
}

fn user_items() -> Vec<NewItem> {
    user(&["x"])
}

#[tokio::test]
async fn the_end_of_a_session_takes_its_contexts_and_saves_those_that_ask_for_it() {
    let client = Client::new();
    let (one, two) = (client.in_session("one").await, client.in_session("two").await);
    client.save("known", user(&["a", "b"])).await;
    let before = client.load("known").await;
    for number in 0..5 {
        let name = format!("scratch {number}");
        one.call::<SaveResponse>("Save", save(&name, &["x"])).await.unwrap();
    }
    one.call::<SaveResponse>("Save", kept("known", &["b", "c"])).await.unwrap();
    one.call::<SaveResponse>("Save", kept("fresh", &["first"])).await.unwrap();
    one.call::<SaveResponse>("Save", kept("fresh", &["first", "second"])).await.unwrap();
    one.call::<SaveResponse>("Save", kept("thrown away", &["x"])).await.unwrap();
    let delete = DeleteRequest { name: "thrown away".into(), scope: SESSION, ..Default::default() };
    one.call::<DeleteResponse>("Delete", delete).await.unwrap();
    two.call::<SaveResponse>("Save", save("other", &["stays"])).await.unwrap();

    one.end_session("one").await;

    for name in ["scratch 0", "scratch 4", "known", "fresh", "thrown away"] {
        is_gone(&one, name).await;
    }
    assert_eq!(said(&two, "other").await, ["stays"]);
    let known = client.load("known").await;
    assert_eq!(texts(&known.items), ["b", "c"]);
    assert_eq!(known.items[0].id, before.items[1].id, "what is the same keeps its id");
    let versions = client.versions("known").await.versions;
    assert_eq!(versions[0].cause(), Cause::SessionEnd);
    assert_eq!(client.load_version("known", versions[1].version).await.items, before.items);
    assert_eq!(texts(&client.load("fresh").await.items), ["first", "second"]);
    assert_eq!(client.versions("fresh").await.versions.len(), 2);
    client.refused("Load", load("thrown away"), ErrorKind::NotFound, "name").await;
    client.refused("Load", load("scratch 0"), ErrorKind::NotFound, "name").await;
    assert_eq!(client.gauge("contexts"), 3);

    // Once more, and for a session without contexts, nothing happens.
    one.end_session("one").await;
    client.in_session("never").await.end_session("never").await;
    assert_eq!(client.gauge("contexts"), 3);
    two.end_session("two").await;
    for name in ["known", "fresh"] {
        let request =
            DeleteRequest { name: name.into(), permanent: true, ..DeleteRequest::default() };
        client.call::<DeleteResponse>("Delete", request).await.unwrap();
    }
    assert_eq!((client.gauge("contexts"), client.gauge("bytes")), (0, 0));
}

#[tokio::test]
async fn a_fork_crosses_the_scope_if_asked_to() {
    let client = Client::new();
    let one = client.in_session("one").await;
    one.call::<SaveResponse>("Save", save("draft", &["x"])).await.unwrap();
    let fork = ForkRequest {
        name: "draft".into(),
        new_name: "kept".into(),
        scope: SESSION,
        ..ForkRequest::default()
    };
    one.call::<ForkResponse>("Fork", fork.clone()).await.unwrap();
    client.refused("Load", load("kept"), ErrorKind::NotFound, "name").await;
    let unknown = ForkRequest { new_scope: 9, ..fork.clone() };
    one.refused("Fork", unknown, ErrorKind::InvalidArgument, "scope").await;
    let fork = ForkRequest { new_scope: Scope::User.into(), ..fork };
    one.call::<ForkResponse>("Fork", fork).await.unwrap();
    one.end_session("one").await;
    assert_eq!(texts(&client.load("kept").await.items), ["x"]);
    assert_eq!(client.gauge("contexts"), 1);
}

#[tokio::test]
async fn a_full_user_loses_nothing_with_the_end_of_a_session() {
    let folder = tempfile::tempdir().unwrap();
    let setup: Setup = super::bounds::setup(folder.path(), super::bounds::narrow());
    let manager = ContextManager::open(&setup).unwrap();
    let alone = super::caller(1);
    let inside = inside("s");
    manager.save(&alone, SaveRequest { scope: 0, ..save("a", &["1"]) }).await.unwrap();
    manager.save(&inside, kept("b", &["1", "2", "3"])).await.unwrap();
    let full = manager.save(&alone, SaveRequest { scope: 0, ..save("c", &["1"]) }).await;
    assert_eq!(full.unwrap_err().fact("limit"), Some("context_manager.max_contexts"));
    let session = SessionScope { uid: 1, id: "s".into() };
    manager.session_ended(&session).await.unwrap();
    assert_eq!(texts(&manager.load(&alone, load("b")).await.unwrap().items), ["1", "2", "3"]);
}

/// An agent of its own on what `folder` holds.
fn open(folder: &Path) -> ContextManager {
    let config = op_dbus::agents::context_manager::Config::default();
    ContextManager::open(&super::bounds::setup(folder, config)).unwrap()
}

fn inside(session: &str) -> Context {
    Context { session: Some(session.into()), ..super::caller(1) }
}

/// The service was ended, or killed, while a session was open.
#[tokio::test]
async fn contexts_of_a_session_outlive_a_restart_and_not_the_session() {
    let folder = tempfile::tempdir().unwrap();
    let manager = open(folder.path());
    manager.save(&inside("s"), kept("kept", &["x"])).await.unwrap();
    manager.save(&inside("s"), save("scratch", &["y"])).await.unwrap();
    drop(manager);
    let manager = open(folder.path());
    let scratch = LoadRequest { scope: SESSION, ..load("scratch") };
    let found = manager.load(&inside("s"), scratch.clone()).await.unwrap();
    assert_eq!(texts(&found.items), ["y"]);
    manager.session_ended(&SessionScope { uid: 1, id: "s".into() }).await.unwrap();
    let error = manager.load(&inside("s"), scratch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "a session of the same id is another one");
    let saved = manager.load(&super::caller(1), load("kept")).await.unwrap();
    assert_eq!(texts(&saved.items), ["x"]);
}

/// Nobody told of the session's end, as when the service was killed before it knew of the contexts.
#[tokio::test]
async fn contexts_that_a_session_left_are_saved_or_gone_after_seven_days() {
    let folder = tempfile::tempdir().unwrap();
    let manager = open(folder.path());
    for session in ["left", "used"] {
        manager.save(&inside(session), kept(&format!("kept of {session}"), &["x"])).await.unwrap();
        manager.save(&inside(session), save("scratch", &["y"])).await.unwrap();
    }
    drop(manager);
    let days = |days: i64| days * 24 * 3600 * 1_000_000;
    let database = rusqlite::Connection::open(folder.path().join("context_manager.db")).unwrap();
    let mut age = database
        .prepare("UPDATE context SET updated_at = updated_at - ?3 WHERE session = ?1 AND name = ?2")
        .unwrap();
    for (session, name, old) in [
        ("left", "kept of left", days(8)),
        ("left", "scratch", days(9)),
        ("used", "kept of used", days(6)),
        ("used", "scratch", days(9)),
    ] {
        assert_eq!(age.execute(rusqlite::params![session, name, old]).unwrap(), 1);
    }
    drop(age);
    drop(database);

    let manager = open(folder.path());
    let deadline = Instant::now() + Duration::from_secs(20);
    let saved = loop {
        match manager.load(&super::caller(1), load("kept of left")).await {
            Ok(saved) => break saved,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(texts(&saved.items), ["x"]);
    let scratch = LoadRequest { scope: SESSION, ..load("scratch") };
    while manager.load(&inside("left"), scratch.clone()).await.is_ok() {
        assert!(Instant::now() < deadline, "what nobody wants stays");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // One in which anything was changed since has all of its contexts.
    let used = manager.load(&inside("used"), scratch).await.unwrap();
    assert_eq!(texts(&used.items), ["y"]);
    let error = manager.load(&super::caller(1), load("kept of used")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
