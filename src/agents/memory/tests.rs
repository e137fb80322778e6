//! The bounds of the memory agent, with small ones, and its counters against what the tables hold.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestRunner};
use prost_types::Value;
use tempfile::TempDir;

use super::*;
use crate::agents::Settings;
use crate::call::Context;
use crate::call::{Attested, Caller, Identity, Transport};
use crate::error::ErrorKind;
use crate::metrics::Metrics;
use crate::proto::opdbus::agent::memory::v1::{
    Action, ForgetRequest, ForgetResponse, HistoryRequest, IncrementRequest, ListRequest,
    MemoryService, RememberRequest, RememberResponse, RestoreRequest, RestoreResponse, Scope,
    SearchRequest, TransactRequest, action,
};
use crate::storage::{self, Chore as _, Durability};

struct Fixture {
    memory: Memory,
    setup: Setup,
    _folder: TempDir,
}

impl Fixture {
    fn new(config: Config) -> Self {
        let folder = TempDir::new().unwrap();
        let storage =
            storage::Config { path: folder.path().to_owned(), durability: Durability::Normal };
        let metrics = Arc::new(Metrics::new().unwrap());
        let setup =
            Setup { storage, metrics, status: Arc::default(), settings: Settings::default() };
        Self { memory: Memory::open(&setup, config).unwrap(), setup, _folder: folder }
    }

    async fn remember(&self, key: &str, value: &str) -> Result<RememberResponse, Error> {
        self.memory.remember(&user(1), stored(key, value)).await
    }

    async fn forget(&self, pattern: &str) -> Result<ForgetResponse, Error> {
        let request = ForgetRequest { key: pattern.into(), glob: true, ..ForgetRequest::default() };
        self.memory.forget(&user(1), request).await
    }

    async fn undo(&self, undo_token: String) -> Result<RestoreResponse, Error> {
        self.memory.restore(&user(1), RestoreRequest { undo_token, ..Default::default() }).await
    }

    async fn versions(&self, key: &str) -> usize {
        let request = HistoryRequest { key: key.into(), ..HistoryRequest::default() };
        self.memory.history(&user(1), request).await.unwrap().revisions.len()
    }

    /// One round of the chore, now.
    async fn sweep(&self) {
        let sweep = Arc::new(Sweep(Arc::clone(&self.memory.shared)));
        let after = Arc::clone(&sweep);
        let work = move |database: &rusqlite::Connection| sweep.run(database);
        self.memory.store.write(work, move |(done, _)| after.committed(done)).await.unwrap();
    }

    fn number(&self, sql: &str) -> i64 {
        self.memory
            .store
            .read(|database| Ok(database.query_row(sql, [], |row| row.get(0))?))
            .unwrap()
    }

    /// Compares the counters with what the tables hold.
    fn check_counters(&self) {
        for (counter, truth) in [
            ("total(keys)", "SELECT count(*) FROM entry WHERE batch IS NULL"),
            ("total(bytes)", "SELECT ifnull(sum(size), 0) FROM entry WHERE batch IS NULL"),
            ("total(removed)", "SELECT count(*) FROM entry WHERE batch IS NOT NULL"),
            ("total(history_bytes)", "SELECT ifnull(sum(size), 0) FROM history"),
        ] {
            let counted = format!("SELECT CAST({counter} AS INTEGER) FROM usage");
            assert_eq!(self.number(&counted), self.number(truth), "{counter}");
        }
        let gauge = |quantity| self.setup.metrics.store("memory", quantity).get();
        assert_eq!(gauge("keys"), self.number("SELECT ifnull(sum(keys), 0) FROM usage"));
        assert_eq!(gauge("bytes"), self.number("SELECT ifnull(sum(bytes), 0) FROM usage"));
    }
}

fn user(uid: u32) -> Context {
    let identity = Identity::User { uid, gid: None };
    let caller = Caller::new(identity, Attested::Kernel, "test");
    Context::new(Arc::new(caller), Transport::Grpc)
}

fn stored(key: &str, value: &str) -> RememberRequest {
    let value = Some(Value::from(value));
    RememberRequest { key: key.into(), value, ..RememberRequest::default() }
}

fn is_limit(error: &Error, limit: &str, value: &str) {
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
    assert_eq!((error.fact("limit"), error.fact("limit_value")), (Some(limit), Some(value)));
}

#[tokio::test]
async fn a_user_has_so_many_keys_and_no_more() {
    let fixture = Fixture::new(Config { max_keys: 3, ..Config::default() });
    for key in ["a", "b", "c"] {
        fixture.remember(key, "x").await.unwrap();
    }
    is_limit(&fixture.remember("d", "x").await.unwrap_err(), "memory.max_keys", "3");
    fixture.remember("c", "y").await.unwrap();
    fixture.memory.remember(&user(2), stored("d", "x")).await.unwrap();
    fixture.forget("a").await.unwrap();
    fixture.remember("d", "x").await.unwrap();
    fixture.check_counters();
}

#[tokio::test]
async fn a_user_has_so_many_bytes_and_no_more() {
    let fixture = Fixture::new(Config { max_bytes: 1000, ..Config::default() });
    fixture.remember("a", &"x".repeat(700)).await.unwrap();
    let error = fixture.remember("b", &"x".repeat(200)).await.unwrap_err();
    is_limit(&error, "memory.max_bytes", "1000");
    is_limit(
        &fixture.remember("a", &"x".repeat(1000)).await.unwrap_err(),
        "memory.max_bytes",
        "1000",
    );
    fixture.remember("a", &"x".repeat(600)).await.unwrap();
    fixture.remember("b", &"x".repeat(200)).await.unwrap();
    fixture.check_counters();
}

#[tokio::test]
async fn keys_whose_time_is_over_leave_room_at_once() {
    let fixture = Fixture::new(Config { max_keys: 1, ..Config::default() });
    let ttl = prost_types::Duration::try_from(Duration::from_micros(1)).ok();
    fixture.memory.remember(&user(1), RememberRequest { ttl, ..stored("a", "x") }).await.unwrap();
    fixture.remember("b", "x").await.unwrap();
    is_limit(&fixture.remember("c", "x").await.unwrap_err(), "memory.max_keys", "1");
    fixture.check_counters();
}

#[tokio::test]
async fn the_oldest_versions_make_room_for_newer_ones() {
    let fixture = Fixture::new(Config { max_history_bytes: 2000, ..Config::default() });
    fixture.remember("old", "1").await.unwrap();
    fixture.remember("old", "2").await.unwrap();
    assert_eq!(fixture.versions("old").await, 2);
    for number in 0..20 {
        fixture.remember("new", &format!("{number:0>300}")).await.unwrap();
        assert!(fixture.number("SELECT history_bytes FROM usage") <= 2000);
    }
    assert_eq!(fixture.versions("old").await, 1);
    assert_eq!(fixture.versions("new").await, 6, "five of some 370 bytes and the current one");
    fixture.check_counters();
}

#[tokio::test]
async fn one_forget_removes_so_many_and_removals_are_bounded() {
    let fixture = Fixture::new(Config { max_forget: 3, max_keys: 4, ..Config::default() });
    for key in ["a", "b", "c", "d"] {
        fixture.remember(key, "x").await.unwrap();
    }
    is_limit(&fixture.forget("*").await.unwrap_err(), "memory.max_forget", "3");
    let first = fixture.forget("[a-c]").await.unwrap().undo_token;
    for key in ["e", "f"] {
        fixture.remember(key, "x").await.unwrap();
    }
    fixture.forget("[d-f]").await.unwrap();
    assert_eq!(fixture.number("SELECT removed FROM usage"), 4, "two made room");
    fixture.check_counters();
    let restored = fixture.undo(first).await.unwrap();
    assert_eq!((restored.count, restored.skipped.len()), (1, 0), "what is kept comes back");
    fixture.check_counters();
}

#[tokio::test]
async fn what_is_too_old_goes() {
    let fixture = Fixture::new(Config { history_age: Duration::ZERO, ..Config::default() });
    for number in 0..3 {
        fixture.remember("a", &number.to_string()).await.unwrap();
        fixture.remember("b", &number.to_string()).await.unwrap();
    }
    let token = fixture.forget("b").await.unwrap().undo_token;
    assert_eq!((fixture.versions("a").await, fixture.versions("b").await), (3, 4));
    // The first round may be in the microsecond of the last write, which is not old then.
    for _ in 0..3 {
        fixture.sweep().await;
    }
    assert_eq!((fixture.versions("a").await, fixture.versions("b").await), (1, 0));
    assert_eq!(fixture.undo(token).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fixture.number("SELECT count(*) FROM history"), 0);
    let anew = fixture.remember("b", "x").await.unwrap();
    assert!(anew.version > 7, "a version is never used twice, whatever was dropped");
    fixture.check_counters();
}

#[tokio::test]
async fn the_gauges_begin_with_what_is_stored() {
    let fixture = Fixture::new(Config::default());
    fixture.remember("a", "x").await.unwrap();
    let Fixture { memory, setup, _folder } = fixture;
    drop(memory);
    let setup = Setup { metrics: Arc::new(Metrics::new().unwrap()), ..setup };
    let memory = Memory::open(&setup, Config::default()).unwrap();
    Fixture { memory, setup, _folder }.check_counters();
}

#[tokio::test]
async fn a_pattern_finds_keys_at_the_edges_of_unicode() {
    let fixture = Fixture::new(Config::default());
    let edges = ["\u{7f}", "\u{80}", "\u{d7ff}", "\u{e000}", "\u{ffff}", "\u{10ffff}"];
    for edge in edges {
        for key in [edge.to_owned(), format!("{edge}x"), format!("{edge}\u{10ffff}\u{10ffff}")] {
            fixture.remember(&key, "x").await.unwrap();
        }
    }
    for edge in edges {
        let request = ListRequest { pattern: format!("{edge}*"), ..ListRequest::default() };
        let found = fixture.memory.list(&user(1), request).await.unwrap().keys;
        assert_eq!(found.len(), 3, "{edge:?}");
        let request = ListRequest { pattern: format!("{edge}?"), ..ListRequest::default() };
        let found = fixture.memory.list(&user(1), request).await.unwrap().keys;
        assert_eq!(found.len(), 1, "{edge:?}");
        assert_eq!(fixture.forget(&format!("{edge}*")).await.unwrap().count, 3, "{edge:?}");
    }
    fixture.check_counters();
}

/// One step of a user who does anything in any order.
#[derive(Clone, Debug)]
enum Step {
    Remember(u8, usize, bool),
    Increment(u8),
    Forget(u8),
    ForgetAll,
    Undo(usize),
    Restore(u8, u64),
    Transact(u8, u8),
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..4_u8;
    proptest::collection::vec(
        prop_oneof![
            4 => (key.clone(), 0..200_usize, any::<bool>()).prop_map(|(k, n, t)| Step::Remember(k, n, t)),
            3 => key.clone().prop_map(Step::Increment),
            2 => key.clone().prop_map(Step::Forget),
            1 => Just(Step::ForgetAll),
            2 => (0..8_usize).prop_map(Step::Undo),
            2 => (key.clone(), 1..60_u64).prop_map(|(k, v)| Step::Restore(k, v)),
            2 => (key.clone(), key).prop_map(|(a, b)| Step::Transact(a, b)),
            1 => Just(Step::Sweep),
        ],
        1..80,
    )
}

async fn take(fixture: &Fixture, step: Step, tokens: &mut Vec<String>) {
    let memory = &fixture.memory;
    let name = |key: u8| format!("k{key}");
    // Refusals are part of it; the counters must be right after them as well.
    match step {
        Step::Remember(key, size, short) => {
            let ttl = prost_types::Duration::try_from(Duration::from_micros(50)).ok();
            let request = stored(&name(key), &"x".repeat(size));
            let ttl = if short { ttl } else { None };
            memory.remember(&user(1), RememberRequest { ttl, ..request }).await.ok();
        }
        Step::Increment(key) => {
            let request = IncrementRequest { key: name(key), ..IncrementRequest::default() };
            memory.increment(&user(1), request).await.ok();
        }
        Step::Forget(key) => tokens.extend(fixture.forget(&name(key)).await.map(|f| f.undo_token)),
        Step::ForgetAll => tokens.extend(fixture.forget("*").await.map(|f| f.undo_token)),
        Step::Undo(index) => {
            if let Some(token) = tokens.get(index) {
                fixture.undo(token.clone()).await.ok();
            }
        }
        Step::Restore(key, version) => {
            let key = name(key);
            let request = RestoreRequest { key, version, ..RestoreRequest::default() };
            memory.restore(&user(1), request).await.ok();
        }
        Step::Transact(stored_key, added) => {
            let increment = IncrementRequest { key: name(added), ..IncrementRequest::default() };
            let actions = [
                action::Action::Remember(stored(&name(stored_key), "in a transaction")),
                action::Action::Increment(increment),
            ];
            let success = actions.map(|action| Action { action: Some(action) }).to_vec();
            memory.transact(&user(1), TransactRequest { success, ..Default::default() }).await.ok();
        }
        Step::Sweep => fixture.sweep().await,
    }
}

#[test]
fn the_counters_are_right_whatever_is_done() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut runner =
        TestRunner::new(Runs { cases: 48, failure_persistence: None, ..Runs::default() });
    let outcome = runner.run(&steps(), |steps| {
        let fixture = Fixture::new(Config {
            max_keys: 3,
            max_bytes: 700,
            max_versions: 3,
            max_history_bytes: 900,
            ..Config::default()
        });
        runtime.block_on(async {
            let mut tokens = Vec::new();
            for step in steps {
                take(&fixture, step, &mut tokens).await;
                fixture.check_counters();
            }
        });
        Ok(())
    });
    outcome.unwrap();
}

#[tokio::test]
async fn the_keys_of_a_session_that_nobody_used_for_long_go() {
    let fixture = Fixture::new(Config::default());
    let mut context = user(1);
    for session in ["old", "new"] {
        context.session = Some(session.into());
        let scope = Scope::Session.into();
        for value in ["x", "y"] {
            let request = RememberRequest { scope, ..stored("k", value) };
            fixture.memory.remember(&context, request).await.unwrap();
        }
    }
    fixture.remember("k", "of the user").await.unwrap();
    let aged = |database: &rusqlite::Connection| {
        let day = 24 * 3600 * 1_000_000_i64;
        let sql = "UPDATE session SET changed_at = changed_at - ?1 WHERE id = 'old'";
        Ok(database.execute(sql, [8 * day])?)
    };
    fixture.sweep().await;
    assert_eq!(fixture.number("SELECT count(*) FROM entry"), 3);
    assert_eq!(fixture.memory.store.write(aged, |_| ()).await.unwrap(), 1);
    fixture.sweep().await;
    fixture.check_counters();
    assert_eq!(fixture.number("SELECT count(*) FROM entry"), 2);
    assert_eq!(fixture.number("SELECT count(*) FROM session"), 1);
    assert_eq!(fixture.number("SELECT count(*) FROM history"), 1);
}

#[tokio::test]
async fn a_database_of_the_first_format_opens_with_what_it_holds() {
    let folder = TempDir::new().unwrap();
    let old = rusqlite::Connection::open(folder.path().join("memory.db")).unwrap();
    old.execute_batch(schema::SCHEMA.migrations[0]).unwrap();
    old.pragma_update(None, "application_id", schema::SCHEMA.application_id).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    let value = prost::Message::encode_to_vec(&Value::from("old words"));
    let sql =
        "INSERT INTO entry (uid, namespace, key, version, depth, created_at, updated_at, forgotten,
               size, tags, value) VALUES (1, 'default', 'k', 7, 0, 1, 1, 0, 76, x'', ?1)";
    old.execute(sql, [value]).unwrap();
    old.execute_batch("INSERT INTO usage VALUES (1, 7, 1, 76, 0, 0)").unwrap();
    drop(old);
    let storage =
        storage::Config { path: folder.path().to_owned(), durability: Durability::Normal };
    let metrics = Arc::new(Metrics::new().unwrap());
    let setup = Setup { storage, metrics, status: Arc::default(), settings: Settings::default() };
    let memory = Memory::open(&setup, Config::default()).unwrap();
    let fixture = Fixture { memory, setup, _folder: folder };
    assert_eq!(fixture.remember("k", "new words").await.unwrap().version, 8);
    let request = SearchRequest { query: "words".into(), ..SearchRequest::default() };
    let found = fixture.memory.search(&user(1), request).await.unwrap();
    assert_eq!(found.hits[0].excerpt, "new words");
    fixture.check_counters();
    // What the older one may have dropped is not known, so nothing before it is promised.
    assert_eq!(fixture.number("SELECT compacted FROM usage"), 7);
}
