//! Compact, Uncompact and Dropped: what is left out is never lost.

use op_dbus::error::ErrorKind;
use op_dbus::proto::opdbus::agent::context_manager::v1::*;

use super::{Client, load, says, texts, user};

fn talk() -> Vec<NewItem> {
    let mut items = vec![says(Role::System, "You are the build engineer.")];
    for number in 0..60 {
        let text =
            format!("A remark without weight about this and that, as people make them: {number}.");
        items.push(says(Role::Assistant, &text.replace(char::is_numeric, "")));
        items.last_mut().unwrap().source = format!("remark {number}");
    }
    items[20].text = "We decided to ship the package from /srv/build/out on 2026-03-01.".into();
    items[30].text = "The zebra crosses the street in a story nobody asked for.".into();
    items[30].pinned = true;
    items
}

fn compact(target_tokens: u64) -> CompactRequest {
    CompactRequest { name: "a".into(), target_tokens, ..CompactRequest::default() }
}

fn uncompact(to_version: Option<u64>) -> UncompactRequest {
    UncompactRequest { name: "a".into(), to_version, ..UncompactRequest::default() }
}

fn dropped(query: &str) -> DroppedRequest {
    DroppedRequest { name: "a".into(), query: query.into(), ..DroppedRequest::default() }
}

#[tokio::test]
async fn a_compaction_is_a_new_version_and_can_be_taken_back() {
    let client = Client::new();
    client.save("a", talk()).await;
    let before = client.load("a").await;
    let done: CompactResponse = client.call("Compact", compact(200)).await.unwrap();
    let after = client.load("a").await;
    assert_eq!((done.from_version, done.version), (before.version, after.version));
    assert_eq!((done.before_tokens, done.after_tokens), (before.tokens, after.tokens));
    assert!(done.target_reached && after.tokens <= 200);
    assert_eq!(usize::try_from(done.kept + done.shortened).unwrap(), after.items.len());
    assert_eq!(usize::try_from(done.dropped).unwrap(), before.items.len() - after.items.len());
    let kept: Vec<u64> = after.items.iter().map(|item| item.id).collect();
    let is_kept = |index: usize| kept.contains(&before.items[index].id);
    assert!(is_kept(0) && is_kept(20) && is_kept(30) && is_kept(57) && is_kept(60));

    assert_eq!(client.load_version("a", before.version).await.items, before.items);
    let added = client.append("a", user(&["said since"])).await;
    let back: UncompactResponse = client.call("Uncompact", uncompact(None)).await.unwrap();
    assert!(back.version > added.version);
    assert_eq!(back.restored, done.dropped + done.shortened);
    let whole = client.load("a").await;
    assert_eq!(whole.items[..before.items.len()], before.items);
    assert_eq!(texts(&whole.items[before.items.len()..]), ["said since"]);
    let left: DroppedResponse = client.call("Dropped", dropped("")).await.unwrap();
    assert_eq!(left.total, 0);
    let again: UncompactResponse = client.call("Uncompact", uncompact(None)).await.unwrap();
    assert_eq!((again.restored, again.version), (0, back.version));
}

#[tokio::test]
async fn several_compactions_are_taken_back_at_once() {
    let client = Client::new();
    client.save("a", talk()).await;
    let before = client.load("a").await;
    let long = "A long message that has several sentences, none of which is short. \
                It goes on here without saying much at all, as such messages do. \
                The cache must hold 4096 entries. And then it ends, after all that time.";
    let first: CompactResponse = client.call("Compact", compact(300)).await.unwrap();
    let added = client.append("a", user(&[long, "b", "c", "d", "e"])).await;
    let second: CompactResponse = client.call("Compact", compact(120)).await.unwrap();
    let third: CompactResponse = client.call("Compact", compact(80)).await.unwrap();
    assert!(second.version > first.version && third.version > second.version);
    let request = uncompact(Some(first.from_version));
    let back: UncompactResponse = client.call("Uncompact", request).await.unwrap();
    let whole = client.load("a").await;
    assert_eq!(whole.items[..before.items.len()], before.items);
    let since: Vec<u64> = whole.items[before.items.len()..].iter().map(|item| item.id).collect();
    assert_eq!(since, added.ids);
    assert_eq!(whole.items[before.items.len()].text, long);
    assert_eq!(back.tokens, whole.tokens);
}

#[tokio::test]
async fn what_was_dropped_is_ranked() {
    let client = Client::new();
    let mut items = talk();
    items[30].pinned = false;
    items[31].text = "The release must wait for the error in src/main.rs at line 77.".into();
    client.save("a", items).await;
    let request = CompactRequest { keep_last: Some(1), ..compact(40) };
    let done: CompactResponse = client.call("Compact", request).await.unwrap();
    let left: DroppedResponse = client.call("Dropped", dropped("")).await.unwrap();
    assert_eq!(left.total, done.dropped + done.shortened);
    assert!(left.items.windows(2).all(|pair| pair[0].score >= pair[1].score));
    let best = left.items[0].item.as_ref().unwrap();
    assert!(best.text.contains("must") || best.text.contains("decided"), "{}", best.text);
    assert!(left.items.iter().all(|item| item.version == done.version));
    assert!(left.items.iter().all(|item| item.reason() != Reason::Unspecified));
    let zebra: DroppedResponse = client.call("Dropped", dropped("zebra")).await.unwrap();
    assert_eq!(zebra.total, 1);
    assert_eq!(zebra.items[0].item.as_ref().unwrap().id, 31);
    let request = DroppedRequest { limit: 2, version: Some(done.version), ..dropped("") };
    let some: DroppedResponse = client.call("Dropped", request).await.unwrap();
    assert_eq!((some.items.len(), some.total), (2, left.total));
    let wrong = DroppedRequest { version: Some(done.from_version), ..dropped("") };
    client.refused("Dropped", wrong, ErrorKind::InvalidArgument, "version").await;
}

#[tokio::test]
async fn a_dry_run_and_a_target_that_is_met_change_nothing() {
    let client = Client::new();
    let version = client.save("a", talk()).await.version;
    let request = CompactRequest { dry_run: true, ..compact(200) };
    let told: CompactResponse = client.call("Compact", request).await.unwrap();
    assert!(told.version == version && told.dropped > 0 && told.after_tokens <= 200);
    let met: CompactResponse = client.call("Compact", compact(1_000_000)).await.unwrap();
    assert!(met.version == version && met.dropped == 0 && met.target_reached);
    assert_eq!(client.versions("a").await.versions.len(), 1);
    let missed: CompactResponse = client.call("Compact", compact(1)).await.unwrap();
    assert!(!missed.target_reached && missed.after_tokens > 1 && missed.version > version);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let client = Client::new();
    client.save("a", talk()).await;
    let kind = ErrorKind::InvalidArgument;
    client.refused("Compact", compact(0), kind, "target_tokens").await;
    let wrong = CompactRequest { keep: vec![1, 0], ..compact(10) };
    client.refused("Compact", wrong, kind, "keep[1]").await;
    let wrong = CompactRequest { if_version: Some(99), ..compact(10) };
    client.refused("Compact", wrong, ErrorKind::Conflict, "if_version").await;
    client.refused("Uncompact", uncompact(None), kind, "to_version").await;
    let done: CompactResponse = client.call("Compact", compact(100)).await.unwrap();
    client.refused("Uncompact", uncompact(Some(done.version)), kind, "to_version").await;
    client.save("a", user(&["all new"])).await;
    client.refused("Uncompact", uncompact(Some(done.from_version)), kind, "to_version").await;
    let missing = CompactRequest { name: "b".into(), ..compact(10) };
    client.refused("Compact", missing, ErrorKind::NotFound, "name").await;
    client.refused("Load", load("b"), ErrorKind::NotFound, "name").await;
}

#[tokio::test]
async fn the_version_before_a_compaction_outlives_a_hundred_others() {
    let client = Client::new();
    client.save("a", talk()).await;
    let before = client.load("a").await;
    let done: CompactResponse = client.call("Compact", compact(200)).await.unwrap();
    let first_append = client.append("a", user(&["0"])).await.version;
    let pinned = before.items[20].id;
    for number in 1..=120 {
        client.append("a", user(&[&number.to_string()])).await;
        if number == 10 {
            let request = SetPinnedRequest {
                name: "a".into(),
                ids: vec![pinned],
                pinned: true,
                if_version: None,
                ..SetPinnedRequest::default()
            };
            client.call::<SetPinnedResponse>("SetPinned", request).await.unwrap();
        }
    }
    let versions = client.versions("a").await.versions;
    assert_eq!(versions.len(), 101);
    assert_eq!(versions.last().unwrap().version, before.version);
    let gone = LoadRequest { version: Some(first_append), ..load("a") };
    client.refused("Load", gone, ErrorKind::NotFound, "version").await;
    assert_eq!(client.load_version("a", before.version).await.items, before.items);
    let back: UncompactResponse =
        client.call("Uncompact", uncompact(Some(done.from_version))).await.unwrap();
    assert_eq!(back.restored, done.dropped + done.shortened);
    assert_eq!(client.load("a").await.items.len(), before.items.len() + 121);
}

#[tokio::test]
async fn a_compaction_and_appends_at_once_lose_nothing() {
    let client = Client::new();
    client.save("a", talk()).await;
    let work = client.call::<CompactResponse>("Compact", compact(200));
    let texts = ["first", "second"];
    let more = async {
        for text in texts {
            client.append("a", user(&[text])).await;
        }
    };
    let (done, ()) = tokio::join!(work, more);
    let done = done.unwrap();
    assert!(done.dropped > 0);
    let loaded = client.load("a").await;
    let all: Vec<&str> = loaded.items.iter().map(|item| item.text.as_str()).collect();
    assert_eq!(all[all.len() - 2..], texts);
    let request = uncompact(Some(done.from_version));
    client.call::<UncompactResponse>("Uncompact", request).await.unwrap();
    assert_eq!(client.load("a").await.items.len(), talk().len() + 2);
}

#[tokio::test]
async fn a_shortened_item_is_given_back_whole() {
    let client = Client::new();
    let output: String = (0..500).map(|line| format!("{line}: compiled a crate\n")).collect();
    let items = vec![says(Role::Tool, &output), says(Role::User, "next?")];
    client.save("a", items).await;
    let request = CompactRequest { keep_last: Some(1), ..compact(500) };
    let done: CompactResponse = client.call("Compact", request).await.unwrap();
    assert_eq!((done.shortened, done.dropped), (1, 0));
    let cut = client.load("a").await.items.remove(0);
    assert!(cut.shortened && cut.tokens < 500 && cut.text.contains("left out by compaction"));
    let left: DroppedResponse = client.call("Dropped", dropped("compiled 250")).await.unwrap();
    assert_eq!(left.total, 1);
    assert_eq!(left.items[0].reason(), Reason::Cut);
    let whole = left.items[0].item.as_ref().unwrap();
    assert_eq!((whole.id, whole.text.as_str(), whole.shortened), (cut.id, output.as_str(), false));
}
