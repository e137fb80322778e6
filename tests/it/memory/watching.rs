//! Watch: nothing is lost, nothing comes twice, and all is in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use op_dbus::error::ErrorKind;
use op_dbus::executor::Input;
use op_dbus::proto::opdbus::agent::memory::v1::watch_request::Keys;
use op_dbus::proto::opdbus::agent::memory::v1::{WatchEvent, WatchRequest, WatchResponse};
use op_dbus::task::{Event, Subscription};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{User, plain, version};
use crate::process::PATIENCE;

/// A stream of events.
struct Watching(Subscription);

impl Watching {
    async fn start(user: &User, request: WatchRequest) -> Self {
        Self(user.start("Watch", Input::One(request.encode_to_vec().into())).await)
    }

    /// One that is told all from now on.
    async fn from_now(user: &User, keys: Option<Keys>) -> Self {
        let request = WatchRequest { keys, values: true, ..WatchRequest::default() };
        let mut watching = Self::start(user, request).await;
        assert_eq!(watching.next().await.event(), WatchEvent::Synced);
        watching
    }

    async fn next(&mut self) -> WatchResponse {
        let next = timeout(PATIENCE, self.0.next()).await.expect("an event");
        match next.unwrap() {
            Event::Message(message) => WatchResponse::decode(message.payload).unwrap(),
            other @ (Event::Gap { .. } | Event::Changed | Event::Ended(_)) => panic!("{other:?}"),
        }
    }

    /// The next event in short.
    async fn short(&mut self) -> (WatchEvent, String, Option<Value>) {
        let event = self.next().await;
        (event.event(), event.key.clone(), event.value.map(|value| plain(Some(value))))
    }
}

fn put(key: &str, value: impl Into<Value>) -> (WatchEvent, String, Option<Value>) {
    (WatchEvent::Put, key.to_owned(), Some(value.into()))
}

fn since(revision: u64) -> WatchRequest {
    WatchRequest { since_revision: Some(revision), values: true, ..WatchRequest::default() }
}

#[tokio::test]
async fn what_happens_to_keys_is_told() {
    let user = User::new();
    user.remember("before", json!("x")).await;
    let mut all = Watching::from_now(&user, None).await;
    let mut one = Watching::from_now(&user, Some(Keys::Key("a/1".into()))).await;
    let mut prefix = Watching::from_now(&user, Some(Keys::Prefix("a/".into()))).await;
    let mut pattern = Watching::from_now(&user, Some(Keys::Pattern("*2".into()))).await;
    let mut without = Watching::start(&user, WatchRequest::default()).await;
    assert_eq!(without.next().await.event(), WatchEvent::Synced);
    let stored = json!({"key": "a/1", "value": "v", "tags": ["t"], "ttl": "0.1s"});
    let stored = user.ok("Remember", stored).await;
    user.remember("a/2", json!("w")).await;
    user.ok("Remember", json!({"key": "a/2", "value": "y", "namespace": "other"})).await;
    user.other().remember("a/2", json!("z")).await;
    user.ok("Forget", json!({"key": "a/2"})).await;

    let first = without.next().await;
    assert_eq!((first.event(), first.value.is_none()), (WatchEvent::Put, true));
    assert_eq!((first.revision, &first.tags[..]), (version(&stored), &["t".to_owned()][..]));
    assert!(first.expires_at.is_some() && first.time.is_some());

    let gone = |kind, key: &str| (kind, key.to_owned(), None);
    let forgotten = gone(WatchEvent::Delete, "a/2");
    let over = gone(WatchEvent::Expire, "a/1");
    for (watching, expected) in [
        (&mut all, vec![put("a/1", "v"), put("a/2", "w"), forgotten.clone(), over.clone()]),
        (&mut one, vec![put("a/1", "v"), over.clone()]),
        (&mut prefix, vec![put("a/1", "v"), put("a/2", "w"), forgotten.clone(), over]),
        (&mut pattern, vec![put("a/2", "w"), forgotten]),
    ] {
        for expected in expected {
            assert_eq!(watching.short().await, expected);
        }
    }
}

#[tokio::test]
async fn a_stream_goes_on_where_another_ended() {
    let user = User::new();
    let first = user.remember("a", json!(1)).await;
    user.remember("a", json!(2)).await;
    user.ok("Forget", json!({"key": "a"})).await;
    user.remember("a", json!(3)).await;
    let mut watching = Watching::start(&user, since(first)).await;
    assert_eq!(watching.short().await, put("a", 2.0));
    assert_eq!(watching.short().await.0, WatchEvent::Delete);
    assert_eq!(watching.short().await, put("a", 3.0));
    let synced = watching.next().await;
    assert_eq!(synced.event(), WatchEvent::Synced);
    assert_eq!(synced.revision, first + 3);
    user.remember("a", json!(4)).await;
    assert_eq!(watching.short().await, put("a", 4.0));

    let mut again = Watching::start(&user, since(synced.revision)).await;
    assert_eq!(again.short().await, put("a", 4.0));
    assert_eq!(again.next().await.event(), WatchEvent::Synced);
}

#[tokio::test]
async fn the_keys_as_they_are_come_first_if_asked_for() {
    let user = User::new();
    for key in ["b", "a", "c"] {
        user.remember(key, json!(key)).await;
    }
    user.ok("Forget", json!({"key": "c"})).await;
    let request = WatchRequest { current: true, values: true, ..WatchRequest::default() };
    let mut watching = Watching::start(&user, request).await;
    for key in ["a", "b"] {
        let expected = (WatchEvent::Current, key.to_owned(), Some(json!(key)));
        assert_eq!(watching.short().await, expected);
    }
    assert_eq!(watching.next().await.event(), WatchEvent::Synced);
    user.remember("b", json!("new")).await;
    assert_eq!(watching.short().await, put("b", "new"));
}

#[tokio::test]
async fn what_is_no_longer_kept_is_said_and_made_up_for() {
    let user = User::new();
    let first = user.remember("hot", json!(0)).await;
    user.remember("cold", json!("x")).await;
    for number in 1..200 {
        user.remember("hot", json!(number)).await;
    }
    let mut watching = Watching::start(&user, since(first)).await;
    let gap = watching.next().await;
    assert_eq!((gap.event(), gap.from_revision), (WatchEvent::Gap, first));
    assert_eq!(gap.revision, first + 200);
    assert_eq!(watching.short().await.1, "cold");
    assert_eq!(watching.short().await, (WatchEvent::Current, "hot".into(), Some(json!(199.0))));
    assert_eq!(watching.next().await.event(), WatchEvent::Synced);
    user.remember("hot", json!("new")).await;
    assert_eq!(watching.short().await, put("hot", "new"));

    // Of another key nothing is missing.
    let keys = Some(Keys::Key("cold".into()));
    let mut cold = Watching::start(&user, WatchRequest { keys, ..since(first) }).await;
    assert_eq!(cold.short().await, put("cold", "x"));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let user = User::new();
    user.remember("a", json!(1)).await;
    let with = |keys| WatchRequest { keys: Some(keys), ..WatchRequest::default() };
    for (request, field) in [
        (since(1_000_000), "since_revision"),
        (WatchRequest { current: true, ..since(0) }, "current"),
        (with(Keys::Key(String::new())), "key"),
        (with(Keys::Prefix("x".repeat(257))), "prefix"),
        (with(Keys::Pattern("[".into())), "pattern"),
        (WatchRequest { namespace: "\0".into(), ..WatchRequest::default() }, "namespace"),
        (WatchRequest { scope: 9, ..WatchRequest::default() }, "scope"),
    ] {
        let error = user.replies::<WatchResponse>("Watch", request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert_eq!(error.fact("field"), Some(field), "{error}");
    }
}

/// Writes until it is told to stop: every kind of change, to few keys.
async fn write(user: User, writer: usize, stop: Arc<AtomicBool>) -> usize {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let key = format!("k{}", (number + writer) % 40);
        match number % 11 {
            3 => drop(user.ok("Forget", json!({"key": key})).await),
            5 => {
                let actions = json!([
                    {"remember": {"key": key, "value": number}},
                    {"remember": {"key": format!("{key}x"), "value": number}},
                ]);
                user.ok("Transact", json!({"success": actions})).await;
            }
            7 => drop(user.ok("Remember", json!({"key": key, "value": 1, "ttl": "0.01s"})).await),
            _ => drop(user.remember(&key, json!(format!("{writer}-{number}"))).await),
        }
    }
    number
}

/// What a watcher from the very beginning was told is the truth that the others are compared with.
#[tokio::test]
async fn every_watcher_sees_every_change_once_and_in_order() {
    let user = User::new();
    let mut all = Watching::from_now(&user, None).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> =
        (0..8).map(|writer| tokio::spawn(write(user.clone(), writer, Arc::clone(&stop)))).collect();
    let (end, told) = tokio::sync::watch::channel(0_u64);
    let mut others = Vec::new();
    let mut truth = Vec::new();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        let event = all.next().await;
        truth.push(event);
        if truth.len() % 60 == 0 && others.len() < 24 {
            // Some join with what is newest, some with what was long ago.
            let from = truth[truth.len() - 1 - others.len() % 3 * 25].revision;
            others.push(tokio::spawn(follow(user.clone(), from, told.clone())));
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    let last = user.remember("last", json!("x")).await;
    while truth.last().unwrap().revision < last {
        truth.push(all.next().await);
    }
    end.send_replace(last);
    assert!(truth.is_sorted_by(|a, b| a.revision < b.revision), "in order, none twice");
    assert!(truth.len() > written / 2 && others.len() >= 3, "{} {written}", truth.len());
    let mut compared = 0;
    for other in others {
        let (from, seen) = other.await.unwrap();
        let Some(seen) = seen else { continue };
        let expected = truth.iter().filter(|event| event.revision > from);
        assert!(seen.iter().eq(expected), "from {from}");
        compared += 1;
    }
    assert!(compared >= 3, "only {compared} were told all");

    // The history tells the same as far as it reaches.
    let newest: BTreeMap<&str, &WatchResponse> =
        truth.iter().map(|event| (event.key.as_str(), event)).collect();
    for (key, event) in newest.into_iter().filter(|(_, event)| event.expires_at.is_none()) {
        let there = user.value(key).await;
        assert_eq!(there.is_some(), event.event() == WatchEvent::Put, "{key}");
    }
}

/// What a watcher from `from` is told until `end`; nothing if what it wants is no longer kept.
async fn follow(
    user: User,
    from: u64,
    mut end: tokio::sync::watch::Receiver<u64>,
) -> (u64, Option<Vec<WatchResponse>>) {
    let mut watching = Watching::start(&user, since(from)).await;
    let mut seen: Vec<WatchResponse> = Vec::new();
    loop {
        let last = *end.borrow_and_update();
        if last > 0 && seen.last().is_some_and(|event| event.revision >= last) {
            return (from, Some(seen));
        }
        tokio::select! {
            event = watching.next() => match event.event() {
                WatchEvent::Gap => return (from, None),
                WatchEvent::Synced => {}
                WatchEvent::Put | WatchEvent::Delete | WatchEvent::Expire => seen.push(event),
                other @ (WatchEvent::Unspecified | WatchEvent::Current) => panic!("{other:?}"),
            },
            _ = end.changed() => {}
        }
    }
}

#[tokio::test]
async fn a_slow_watcher_loses_nothing_that_is_kept() {
    let user = User::new();
    let text = "x".repeat(50_000);
    let mut slow = Watching::from_now(&user, None).await;
    let mut expected = Vec::new();
    for number in 0..600 {
        let key = format!("k{}", number % 200);
        expected.push((key.clone(), user.remember(&key, json!(text)).await));
    }
    for (key, revision) in expected {
        let event = slow.next().await;
        assert_eq!((event.event(), event.key, event.revision), (WatchEvent::Put, key, revision));
    }
}

#[tokio::test]
async fn a_thousand_watchers_of_a_key_hear_of_it_at_about_the_same_time() {
    let user = User::new();
    let mut watchers = Vec::new();
    for _ in 0..1000 {
        watchers.push(Watching::from_now(&user, Some(Keys::Key("k".into()))).await);
    }
    let mut ratios = Vec::new();
    for round in 0..7 {
        let heard: Vec<_> = watchers
            .into_iter()
            .map(|mut watching| {
                tokio::spawn(async move {
                    assert_eq!(watching.short().await, put("k", f64::from(round)));
                    (Instant::now(), watching)
                })
            })
            .collect();
        tokio::task::yield_now().await;
        let began = Instant::now();
        user.remember("k", json!(round)).await;
        let mut times = Vec::new();
        watchers = Vec::new();
        for heard in heard {
            let (time, watching) = heard.await.unwrap();
            times.push(time.duration_since(began));
            watchers.push(watching);
        }
        let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        ratios.push(last.as_secs_f64() / first.as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    // The median, because other tests run beside this one.
    assert!(
        ratios[ratios.len() / 2] < 5.0,
        "the last heard of it {ratios:?} times as late as the first"
    );
    let stats = user.ok("Stats", json!({})).await;
    assert_eq!((&stats["watchers"], &stats["max_watchers"]), (&json!(1000), &json!(4096)));
    drop(watchers);
    let limit = Instant::now() + Duration::from_secs(10);
    while user.ok("Stats", json!({})).await["watchers"] != json!(0) {
        assert!(Instant::now() < limit, "watchers stay");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
