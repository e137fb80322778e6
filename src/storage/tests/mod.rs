//! The store on real files: what it promises of writes, and what it does with files that are not right.

mod crash;
mod files;
mod full;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::TempDir;

use super::{Chore, Config, Durability, Failure, Schema, Store};
use crate::error::{Error, ErrorKind};
use crate::status::Status;

const SCHEMA: Schema = Schema {
    name: "test",
    application_id: 0x7465_7374,
    migrations: &["CREATE TABLE item (id INTEGER PRIMARY KEY, value BLOB NOT NULL)"],
};

/// Nothing to do.
struct Idle;

impl Chore for Idle {
    type Done = ();
    const EVERY: Duration = Duration::from_secs(3600);

    fn run(&self, _database: &Connection) -> Result<((), bool), Failure> {
        Ok(((), false))
    }

    fn committed(&self, (): &()) {}
}

fn open_with(folder: &Path, durability: Durability, status: &Arc<Status>) -> Result<Store, Error> {
    let config = Config { path: folder.to_owned(), durability };
    Store::open(&config, &SCHEMA, status, Idle)
}

fn open(folder: &Path) -> Store {
    open_with(folder, Durability::Normal, &Arc::default()).unwrap()
}

fn insert(database: &Connection, id: i64, value: &[u8]) -> Result<(), Failure> {
    database.prepare_cached("INSERT INTO item VALUES (?1, ?2)")?.execute((id, value))?;
    Ok(())
}

async fn write(store: &Store, id: i64, size: usize) -> Result<(), Error> {
    let value = vec![u8::try_from(id & 0xff).unwrap_or(0); size];
    store.write(move |database| insert(database, id, &value), |()| {}).await
}

fn ids(store: &Store) -> Vec<i64> {
    store
        .read(|database| {
            let mut select = database.prepare_cached("SELECT id FROM item ORDER BY id")?;
            let ids = select.query_map([], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
            Ok(ids)
        })
        .unwrap()
}

fn warnings(status: &Status) -> Vec<String> {
    status.report().warnings
}

/// Looks until it is so.
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < limit, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn each_write_stands_or_falls_alone() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let good = write(&store, 1, 10);
    let refused = store.write(
        |database| {
            insert(database, 2, b"x")?;
            Err::<(), _>(Error::invalid("field", "is wrong").into())
        },
        |()| {},
    );
    let broken = store.write(
        |database| {
            insert(database, 3, b"x")?;
            insert(database, 3, b"x")
        },
        |()| {},
    );
    let panicking = store.write(
        |database| {
            insert(database, 4, b"x")?;
            panic!("a write that panics on purpose");
            #[expect(unreachable_code, reason = "it gives the closure its type")]
            Ok(())
        },
        |()| {},
    );
    let last = write(&store, 5, 10);
    let outcomes = tokio::join!(good, refused, broken, panicking, last);
    outcomes.0.unwrap();
    assert_eq!(outcomes.1.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(outcomes.2.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(outcomes.3.unwrap_err().kind(), ErrorKind::Internal);
    outcomes.4.unwrap();
    assert_eq!(ids(&store), [1, 5]);
}

#[tokio::test]
async fn a_write_that_nobody_waits_for_never_begins() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let (started, begun) = tokio::sync::oneshot::channel();
    let slow = store.write(
        move |database| {
            started.send(()).ok();
            held.recv().ok();
            insert(database, 1, b"x")
        },
        |()| {},
    );
    let ran = Arc::new(AtomicBool::new(false));
    let mark = Arc::clone(&ran);
    let abandoned = store.write(
        move |_| {
            mark.store(true, Ordering::SeqCst);
            Ok(())
        },
        |()| {},
    );
    let rest = async {
        begun.await.unwrap();
        tokio::time::timeout(Duration::from_millis(20), abandoned).await.unwrap_err();
        hold.send(()).unwrap();
        write(&store, 2, 1).await
    };
    let (slow, rest) = tokio::join!(slow, rest);
    slow.unwrap();
    rest.unwrap();
    assert_eq!(ids(&store), [1, 2]);
    assert!(!ran.load(Ordering::SeqCst), "the abandoned write ran");
}

#[tokio::test]
async fn more_writes_than_the_queue_holds_all_arrive() {
    let folder = TempDir::new().unwrap();
    let store = Arc::new(open(folder.path()));
    let tasks: Vec<_> = (0..3000)
        .map(|id| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { write(&store, id, 8).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let scanned = store
        .scan(|snapshot| {
            Ok(snapshot.query_row("SELECT count(*) FROM item", [], |row| row.get::<_, i64>(0))?)
        })
        .await;
    assert_eq!(scanned.unwrap(), 3000);
}

#[tokio::test]
async fn the_log_does_not_grow_without_bound() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    // Each write changes the same 8 MiB, so that only the log can grow.
    write(&store, 0, 8 << 20).await.unwrap();
    for round in 0..20_u8 {
        let value = vec![round; 8 << 20];
        let update = move |database: &Connection| {
            database.prepare_cached("UPDATE item SET value = ?1")?.execute([&value])?;
            Ok(())
        };
        store.write(update, |()| {}).await.unwrap();
    }
    let log = std::fs::metadata(folder.path().join("test.db-wal")).unwrap().len();
    assert!(log < 100 << 20, "the log has {log} bytes after 168 MiB were written");
}
