//! Contexts and their versions: Save, Load, Append, List, Delete, Fork, pins, Diff.

use op_dbus::error::ErrorKind;
use op_dbus::proto::opdbus::agent::context_manager::v1::*;

use super::{Client, load, says, texts, user};

#[tokio::test]
async fn a_text_comes_back_as_it_was_saved() {
    let client = Client::new();
    let content = "line one\n\n  line two\n";
    let request = SaveRequest {
        name: "notes".into(),
        content: Some(content.into()),
        tags: vec!["b".into(), "a".into(), "a".into()],
        ..SaveRequest::default()
    };
    let saved: SaveResponse = client.call("Save", request).await.unwrap();
    assert!(saved.created && saved.version > 0 && saved.tokens > 0 && !saved.tokens_exact);
    assert_eq!(saved.size_bytes, content.len() as u64);
    let request = LoadRequest { as_text: true, ..load("notes") };
    let loaded: LoadResponse = client.call("Load", request).await.unwrap();
    assert_eq!((loaded.content.as_str(), loaded.version), (content, saved.version));
    assert_eq!(loaded.tags, ["a", "b"]);
    assert!(loaded.items.is_empty() && loaded.expires_at.is_none());
    assert_eq!(loaded.tokens, saved.tokens);
}

#[tokio::test]
async fn items_keep_all_that_was_said_of_them() {
    let client = Client::new();
    let item = NewItem {
        role: Role::Tool.into(),
        text: "ok".into(),
        created_at: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5_000 }),
        pinned: true,
        source: "ls /srv".into(),
        importance: Some(0.75),
    };
    client.save("a", vec![item.clone()]).await;
    let loaded = client.load("a").await.items.remove(0);
    assert_eq!((loaded.role(), loaded.text, loaded.pinned), (Role::Tool, item.text, true));
    assert_eq!((loaded.created_at, loaded.source), (item.created_at, item.source));
    assert!((loaded.importance - 0.75).abs() < f64::EPSILON && loaded.tokens > 4);
}

#[tokio::test]
async fn an_unchanged_item_keeps_its_id_and_time() {
    let client = Client::new();
    client.save("a", user(&["one", "two", "two"])).await;
    let before = client.load("a").await.items;
    client.save("a", user(&["zero", "two", "one", "two", "two"])).await;
    let after = client.load("a").await.items;
    assert_eq!(texts(&after), ["zero", "two", "one", "two", "two"]);
    let ids: Vec<u64> = after.iter().map(|item| item.id).collect();
    assert_eq!(ids[1..4], [before[1].id, before[0].id, before[2].id]);
    assert_eq!(after[2].created_at, before[0].created_at);
    assert!(ids[0] > before[2].id && ids[4] > ids[0]);
}

#[tokio::test]
async fn every_change_is_a_version_that_stays() {
    let client = Client::new();
    let first = client.save("a", user(&["one"])).await.version;
    let second = client.append("a", user(&["two", "three"])).await.version;
    let third = client.save("a", user(&["four"])).await.version;
    assert!(first < second && second < third);
    assert_eq!(texts(&client.load_version("a", first).await.items), ["one"]);
    assert_eq!(texts(&client.load_version("a", second).await.items), ["one", "two", "three"]);
    assert_eq!(texts(&client.load("a").await.items), ["four"]);
    let versions = client.versions("a").await.versions;
    let seen: Vec<_> = versions.iter().map(|v| (v.version, v.cause(), v.items)).collect();
    let expected = [(third, Cause::Save, 1), (second, Cause::Append, 3), (first, Cause::Save, 1)];
    assert_eq!(seen, expected);
    let missing = LoadRequest { version: Some(third + 1), ..load("a") };
    client.refused("Load", missing, ErrorKind::NotFound, "version").await;
}

#[tokio::test]
async fn conditions_hold_or_nothing_happens() {
    let client = Client::new();
    let save = |if_version, if_absent| SaveRequest {
        name: "a".into(),
        content: Some("x".into()),
        if_version,
        if_absent,
        ..SaveRequest::default()
    };
    client.refused("Save", save(Some(1), false), ErrorKind::NotFound, "name").await;
    let first: SaveResponse = client.call("Save", save(None, true)).await.unwrap();
    let error = client.refused("Save", save(None, true), ErrorKind::AlreadyExists, "name").await;
    assert_eq!(error.fact("current_version"), Some(first.version.to_string().as_str()));
    let second: SaveResponse = client.call("Save", save(Some(first.version), false)).await.unwrap();
    let error = client
        .refused("Save", save(Some(first.version), false), ErrorKind::Conflict, "if_version")
        .await;
    assert_eq!(error.fact("current_version"), Some(second.version.to_string().as_str()));
    let delete =
        DeleteRequest { name: "a".into(), if_version: Some(1), ..DeleteRequest::default() };
    client.refused("Delete", delete, ErrorKind::Conflict, "if_version").await;
    assert_eq!(client.load("a").await.version, second.version);
}

#[tokio::test]
async fn appends_at_once_lose_nothing() {
    let client = Client::new();
    client.save("a", user(&["first"])).await;
    let appends = (0..50).map(|number| {
        let client = &client;
        async move { client.append("a", user(&[&format!("item {number}")])).await.ids[0] }
    });
    let mut ids = futures_util::future::join_all(appends).await;
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 50);
    let loaded = client.load("a").await;
    assert_eq!(loaded.items.len(), 51);
    let total: u64 = loaded.items.iter().map(|item| item.tokens).sum();
    assert_eq!(loaded.tokens, total);
    let create = AppendRequest {
        name: "b".into(),
        items: user(&["x"]),
        create: true,
        ..AppendRequest::default()
    };
    let created: AppendResponse = client.call("Append", create.clone()).await.unwrap();
    assert_eq!(created.items, 1);
    let missing = AppendRequest { name: "c".into(), create: false, ..create };
    client.refused("Append", missing, ErrorKind::NotFound, "name").await;
}

#[tokio::test]
async fn a_budget_is_kept_and_what_is_missing_is_said() {
    let client = Client::new();
    let mut items = user(&["the index of the database is slow"; 1]);
    items.extend((0..20).map(|number| says(Role::User, &format!("other words number {number}"))));
    items[2].pinned = true;
    client.save("a", items).await;
    let whole = client.load("a").await;
    let request = LoadRequest { budget_tokens: 60, ..load("a") };
    let tail: LoadResponse = client.call("Load", request.clone()).await.unwrap();
    assert!(tail.tokens <= 60 && tail.tokens > 40);
    assert_eq!(tail.items.len() + tail.dropped.len(), whole.items.len());
    assert_eq!(tail.items[0].id, whole.items[2].id);
    assert_eq!(tail.items.last(), whole.items.last());
    let request = LoadRequest { query: "slow database".into(), ..request };
    let relevant: LoadResponse = client.call("Load", request.clone()).await.unwrap();
    assert_eq!(relevant.items[0].id, whole.items[0].id);
    let strategy = Strategy::Tail.into();
    let wrong = LoadRequest { strategy, ..request };
    client.refused("Load", wrong, ErrorKind::InvalidArgument, "query").await;
    let wrong = LoadRequest { strategy, ..load("a") };
    client.refused("Load", wrong, ErrorKind::InvalidArgument, "strategy").await;
    let wrong = LoadRequest { strategy: 77, ..load("a") };
    client.refused("Load", wrong, ErrorKind::InvalidArgument, "strategy").await;
}

#[tokio::test]
async fn contexts_are_listed_in_pages() {
    let client = Client::new();
    for number in 0..25 {
        let tags = if number % 2 == 0 { vec!["even".into()] } else { vec![] };
        let request = SaveRequest {
            name: format!("Context {number:02}"),
            content: Some("x".into()),
            tags,
            ..SaveRequest::default()
        };
        client.call::<SaveResponse>("Save", request).await.unwrap();
    }
    let mut names = Vec::new();
    let mut request = ListRequest { tags: vec!["even".into()], page_size: 5, ..Default::default() };
    loop {
        let page: ListResponse = client.call("List", request.clone()).await.unwrap();
        assert!(page.contexts.len() <= 5);
        names.extend(page.contexts.into_iter().map(|context| context.name));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let expected: Vec<String> = (0..25).step_by(2).map(|n| format!("Context {n:02}")).collect();
    assert_eq!(names, expected);
    let request = ListRequest { query: "cONTEXT 1".into(), ..ListRequest::default() };
    let found: ListResponse = client.call("List", request).await.unwrap();
    assert_eq!(found.contexts.len(), 10);
    let wrong = ListRequest { page_size: 1001, ..ListRequest::default() };
    client.refused("List", wrong, ErrorKind::InvalidArgument, "page_size").await;
}

#[tokio::test]
async fn a_deleted_context_comes_back_with_its_versions() {
    let client = Client::new();
    let first = client.save("a", user(&["one"])).await.version;
    client.append("a", user(&["two"])).await;
    let delete = DeleteRequest { name: "a".into(), ..DeleteRequest::default() };
    let deleted: DeleteResponse = client.call("Delete", delete.clone()).await.unwrap();
    client.refused("Load", load("a"), ErrorKind::NotFound, "name").await;
    client.refused("Delete", delete, ErrorKind::NotFound, "name").await;
    client.save("a", user(&["new"])).await;
    let mut undelete =
        UndeleteRequest { undo_token: deleted.undo_token, ..UndeleteRequest::default() };
    let kind = ErrorKind::AlreadyExists;
    client.refused("Undelete", undelete.clone(), kind, "new_name").await;
    client.other().refused("Undelete", undelete.clone(), ErrorKind::NotFound, "undo_token").await;
    undelete.new_name = "b".into();
    let back: UndeleteResponse = client.call("Undelete", undelete.clone()).await.unwrap();
    assert_eq!(back.name, "b");
    assert_eq!(texts(&client.load("b").await.items), ["one", "two"]);
    assert_eq!(texts(&client.load_version("b", first).await.items), ["one"]);
    client.refused("Undelete", undelete, ErrorKind::NotFound, "undo_token").await;
    let wrong = UndeleteRequest { undo_token: "x".into(), ..UndeleteRequest::default() };
    client.refused("Undelete", wrong, ErrorKind::InvalidArgument, "undo_token").await;
    assert_eq!(client.gauge("contexts"), 2);
}

#[tokio::test]
async fn users_are_apart() {
    let client = Client::new();
    let other = client.other();
    client.save("a", user(&["secret plan"])).await;
    other.refused("Load", load("a"), ErrorKind::NotFound, "name").await;
    let search = SearchRequest { query: "secret".into(), ..SearchRequest::default() };
    let found: SearchResponse = other.call("Search", search.clone()).await.unwrap();
    assert!(found.matches.is_empty());
    other.save("a", user(&["other secret"])).await;
    let found: SearchResponse = other.call("Search", search).await.unwrap();
    assert_eq!(found.matches.len(), 1);
    let listed: ListResponse = other.call("List", ListRequest::default()).await.unwrap();
    assert_eq!(listed.contexts.len(), 1);
    assert_eq!(texts(&client.load("a").await.items), ["secret plan"]);
}

#[tokio::test]
async fn a_fork_goes_its_own_way() {
    let client = Client::new();
    let first = client.save("a", user(&["one"])).await.version;
    client.append("a", user(&["two"])).await;
    let fork = |version| ForkRequest {
        name: "a".into(),
        new_name: "b".into(),
        version,
        ..ForkRequest::default()
    };
    let forked: ForkResponse = client.call("Fork", fork(Some(first))).await.unwrap();
    assert_eq!(forked.items, 1);
    client.refused("Fork", fork(None), ErrorKind::AlreadyExists, "new_name").await;
    client.append("b", user(&["other"])).await;
    assert_eq!(texts(&client.load("a").await.items), ["one", "two"]);
    assert_eq!(texts(&client.load("b").await.items), ["one", "other"]);
    let delete = DeleteRequest { name: "a".into(), permanent: true, ..DeleteRequest::default() };
    let gone: DeleteResponse = client.call("Delete", delete).await.unwrap();
    assert!(gone.undo_token.is_empty());
    assert_eq!(texts(&client.load("b").await.items), ["one", "other"]);
}

#[tokio::test]
async fn pins_are_versions_too() {
    let client = Client::new();
    let saved = client.save("a", user(&["one", "two"])).await.version;
    let ids: Vec<u64> = client.load("a").await.items.iter().map(|item| item.id).collect();
    let pin = |ids: &[u64], pinned| SetPinnedRequest {
        name: "a".into(),
        ids: ids.to_vec(),
        pinned,
        if_version: None,
        ..SetPinnedRequest::default()
    };
    let done: SetPinnedResponse = client.call("SetPinned", pin(&ids[1..], true)).await.unwrap();
    assert!(done.changed == 1 && done.version > saved);
    let again: SetPinnedResponse = client.call("SetPinned", pin(&ids[1..], true)).await.unwrap();
    assert_eq!((again.changed, again.version), (0, done.version));
    assert!(client.load("a").await.items[1].pinned);
    assert!(!client.load_version("a", saved).await.items[1].pinned);
    let done: SetPinnedResponse = client.call("SetPinned", pin(&ids, false)).await.unwrap();
    assert_eq!(done.changed, 1);
    let kind = ErrorKind::InvalidArgument;
    client.refused("SetPinned", pin(&[ids[0], 99], true), kind, "ids[1]").await;
    client.refused("SetPinned", pin(&[], true), kind, "ids").await;
}

#[tokio::test]
async fn a_diff_shows_what_changed() {
    let client = Client::new();
    let first = client.save("a", user(&["one", "two"])).await.version;
    let request = DiffRequest { name: "a".into(), ..DiffRequest::default() };
    client.refused("Diff", request.clone(), ErrorKind::NotFound, "from_version").await;
    let second = client.save("a", user(&["one", "three"])).await.version;
    let diff: DiffResponse = client.call("Diff", request.clone()).await.unwrap();
    assert_eq!((diff.from_version, diff.to_version), (first, second));
    assert_eq!((diff.added_lines, diff.removed_lines), (2, 2));
    let head = format!("--- a@{first}\n+++ a@{second}\n@@ ");
    assert!(diff.diff.starts_with(&head), "{}", diff.diff);
    assert!(diff.diff.contains("\n-two\n") && diff.diff.contains("\n+three\n"), "{}", diff.diff);
    let same = DiffRequest { from_version: Some(second), ..request };
    let diff: DiffResponse = client.call("Diff", same).await.unwrap();
    assert_eq!(diff.diff, "");
}

#[tokio::test]
async fn older_versions_can_be_removed_for_good() {
    let client = Client::new();
    let secret = client.save("a", user(&["password", "x"])).await.version;
    let middle = client.save("a", user(&["x", "y"])).await.version;
    let current = client.save("a", user(&["x", "z"])).await.version;
    let delete = |versions: &[u64]| DeleteRequest {
        name: "a".into(),
        versions: versions.into(),
        ..DeleteRequest::default()
    };
    let invalid = ErrorKind::InvalidArgument;
    let both = delete(&[secret, current]);
    client.refused("Delete", both, invalid, "versions[1]").await;
    client.refused("Delete", delete(&[secret, 999]), ErrorKind::NotFound, "versions[1]").await;
    client.refused("Delete", delete(&[1; 101]), invalid, "versions").await;
    assert_eq!(client.load_version("a", secret).await.items.len(), 2);

    let done: DeleteResponse = client.call("Delete", delete(&[secret])).await.unwrap();
    assert_eq!(done.undo_token, "");
    let gone = LoadRequest { version: Some(secret), ..load("a") };
    client.refused("Load", gone, ErrorKind::NotFound, "version").await;
    assert_eq!(texts(&client.load_version("a", middle).await.items), ["x", "y"]);
    assert_eq!(texts(&client.load("a").await.items), ["x", "z"]);
    let folder = client.service.folder.path();
    let stored = rusqlite::Connection::open(folder.join("context_manager.db")).unwrap();
    let left: u32 = stored
        .query_row("SELECT count(*) FROM content WHERE text = 'password'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
}
