//! Contexts of sessions: seen from theirs only, and gone or saved with its end.

use op_dbus::agents::Setup;
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
    let (one, two) = (client.in_session("one"), client.in_session("two"));
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
    is_gone(&client.other().in_session("one"), "talk").await;

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
    client.in_session("one").refused("Save", user, invalid, "auto_save").await;
    let append = AppendRequest {
        name: "a".into(),
        items: user_items(),
        scope: SESSION,
        auto_save: true,
        ..AppendRequest::default()
    };
    client.in_session("one").refused("Append", append, invalid, "auto_save").await;
}

fn user_items() -> Vec<NewItem> {
    user(&["x"])
}

#[tokio::test]
async fn the_end_of_a_session_takes_its_contexts_and_saves_those_that_ask_for_it() {
    let client = Client::new();
    let (one, two) = (client.in_session("one"), client.in_session("two"));
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
    client.end_session("never").await;
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
    let one = client.in_session("one");
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
    let manager = op_dbus::agents::context_manager::ContextManager::open(&setup).unwrap();
    let alone = super::caller(1);
    let inside = op_dbus::call::Context { session: Some("s".into()), ..super::caller(1) };
    manager.save(&alone, SaveRequest { scope: 0, ..save("a", &["1"]) }).await.unwrap();
    manager.save(&inside, kept("b", &["1", "2", "3"])).await.unwrap();
    let full = manager.save(&alone, SaveRequest { scope: 0, ..save("c", &["1"]) }).await;
    assert_eq!(full.unwrap_err().fact("limit"), Some("context_manager.max_contexts"));
    let session = op_dbus::call::SessionScope { uid: 1, id: "s".into() };
    manager.session_ended(&session).await.unwrap();
    assert_eq!(texts(&manager.load(&alone, load("b")).await.unwrap().items), ["1", "2", "3"]);
}

/// The service was ended, or killed, while a session was open.
#[tokio::test]
async fn what_an_earlier_run_left_is_saved_or_gone_and_never_seen() {
    let folder = tempfile::tempdir().unwrap();
    let setup =
        super::bounds::setup(folder.path(), op_dbus::agents::context_manager::Config::default());
    let inside = op_dbus::call::Context { session: Some("s".into()), ..super::caller(1) };
    let open = || op_dbus::agents::context_manager::ContextManager::open(&setup).unwrap();
    let manager = open();
    manager.save(&inside, kept("kept", &["x"])).await.unwrap();
    manager.save(&inside, save("scratch", &["y"])).await.unwrap();
    drop(manager);
    let manager = open();
    let request = LoadRequest { scope: SESSION, ..load("scratch") };
    let error = manager.load(&inside, request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "a session of the same id is another one");
    let alone = super::caller(1);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let saved = loop {
        match manager.load(&alone, load("kept")).await {
            Ok(saved) => break saved,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(texts(&saved.items), ["x"]);
}
