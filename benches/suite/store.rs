//! The memory agent: durable writes beside SQLite itself, reads beside a ping, batches beside a read.

use std::path::Path;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use op_dbus::proto::opdbus::agent::memory::v1::{RecallRequest, RememberRequest};
use op_dbus::proto::opdbus::v1::{BatchCallRequest, BatchItem, PingRequest};
use prost::Message;
use rusqlite::{Connection, params};

use crate::grpc::{Client, PING};
use crate::measure::{Party, Plan, Sample, heading, in_turns, rows};
use crate::parties::{self, Daemon};

const REMEMBER: &str = "/opdbus.agent.memory.v1.MemoryService/Remember";
const RECALL: &str = "/opdbus.agent.memory.v1.MemoryService/Recall";
const BATCH: &str = "/opdbus.v1.CallsService/BatchCall";
const KEYS: u64 = 20_000;

/// Measures writes in both modes and reads.
pub fn run(plan: &Plan) {
    writes(plan, "full");
    writes(plan, "normal");
    reads(plan);
    batches(plan);
}

/// On both cores, because the disk is waited for on a thread of its own.
fn writes(plan: &Plan, durability: &str) {
    let daemon = Daemon::start(durability);
    let sqlite = daemon.folder.path().join("anchor.db");
    for in_flight in [1, 64] {
        heading(&format!(
            "Remember, 100-byte values, durability {durability}, {in_flight} in flight, two cores"
        ));
        let mut anchor = Anchor::open(&sqlite, durability);
        let mut client = Client::connect(&daemon.socket());
        let mut parties: Vec<Party<'_>> = vec![
            (
                "SQLite in this process, one commit per batch",
                Box::new(move || anchor.sample(in_flight, plan)),
            ),
            (
                "op-dbus Remember",
                Box::new(move || client.sample(REMEMBER, in_flight, plan, remember)),
            ),
        ];
        let figures = in_turns(plan, &mut parties);
        rows(&parties, &figures);
    }
}

fn reads(plan: &Plan) {
    parties::pin();
    let daemon = Daemon::start("normal");
    Client::connect(&daemon.socket()).sample(
        REMEMBER,
        64,
        &Plan { runs: 1, millis: 2000 },
        remember,
    );
    for in_flight in [1, 64] {
        heading(&format!("Recall, 100-byte values, {in_flight} in flight, one core"));
        let mut ping = Client::connect(&daemon.socket());
        let mut client = Client::connect(&daemon.socket());
        let payload: Bytes = PingRequest { payload: vec![7; 64].into() }.encode_to_vec().into();
        let mut parties: Vec<Party<'_>> = vec![
            (
                "op-dbus Ping",
                Box::new(move || {
                    let payload = payload.clone();
                    ping.sample(PING, in_flight, plan, move |_| payload.clone())
                }),
            ),
            ("op-dbus Recall", Box::new(move || client.sample(RECALL, in_flight, plan, recall))),
        ];
        let figures = in_turns(plan, &mut parties);
        rows(&parties, &figures);
    }
    parties::unpin();
}

/// A hundred recalls in one call, beside one.
fn batches(plan: &Plan) {
    parties::pin();
    let daemon = Daemon::start("normal");
    Client::connect(&daemon.socket()).sample(
        REMEMBER,
        64,
        &Plan { runs: 1, millis: 2000 },
        remember,
    );
    heading("100 recalls in a batch, 100-byte values, one core");
    let item = |number: u64| BatchItem {
        agent: "memory".into(),
        operation: "Recall".into(),
        request: Some(recall(number)),
        ..BatchItem::default()
    };
    let json = |number: u64| BatchItem {
        arguments: format!(r#"{{"key":"key-{number:08}"}}"#),
        request: None,
        ..item(number)
    };
    let batch = |item: &dyn Fn(u64) -> BatchItem, parallel: bool| -> Bytes {
        let items = (0..100).map(item).collect();
        BatchCallRequest { items, parallel, ..BatchCallRequest::default() }.encode_to_vec().into()
    };
    let mut one = Client::connect(&daemon.socket());
    let mut parties: Vec<Party<'_>> =
        vec![("op-dbus Recall", Box::new(move || one.sample(RECALL, 1, plan, recall)))];
    for (name, request) in [
        ("op-dbus BatchCall, encoded", batch(&item, false)),
        ("op-dbus BatchCall, encoded, parallel", batch(&item, true)),
        ("op-dbus BatchCall, JSON", batch(&json, false)),
    ] {
        let mut client = Client::connect(&daemon.socket());
        let sample = Box::new(move || {
            let request = request.clone();
            client.sample(BATCH, 1, plan, move |_| request.clone())
        });
        parties.push((name, sample));
    }
    let figures = in_turns(plan, &mut parties);
    rows(&parties, &figures);
    parties::unpin();
}

fn recall(number: u64) -> Bytes {
    let key = format!("key-{:08}", number % 1000);
    RecallRequest { key, ..RecallRequest::default() }.encode_to_vec().into()
}

/// A request whose value differs each time: SQLite skips the write of an equal one.
fn remember(number: u64) -> Bytes {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let text = format!("{:x<100}", now.as_nanos());
    let value = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(text)) };
    let key = format!("key-{:08}", number % KEYS);
    RememberRequest { key, value: Some(value), ..RememberRequest::default() }.encode_to_vec().into()
}

/// SQLite without anything around it.
struct Anchor {
    connection: Connection,
    number: u64,
}

impl Anchor {
    fn open(path: &Path, durability: &str) -> Self {
        let connection = Connection::open(path).unwrap();
        connection.pragma_update(None, "journal_mode", "wal").unwrap();
        connection.pragma_update(None, "synchronous", durability).unwrap();
        connection
            .execute("CREATE TABLE IF NOT EXISTS anchor (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID", ())
            .unwrap();
        Self { connection, number: 0 }
    }

    fn sample(&mut self, batch: usize, plan: &Plan) -> Sample {
        let start = Instant::now();
        let mut nanos = Vec::new();
        while start.elapsed() < plan.time() {
            let sent = Instant::now();
            let transaction = self.connection.transaction().unwrap();
            for _ in 0..batch {
                self.number += 1;
                let key = format!("key-{:08}", self.number % KEYS);
                let value = format!("{:x<100}", self.number);
                transaction
                    .prepare_cached(
                        "INSERT INTO anchor VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2",
                    )
                    .unwrap()
                    .execute(params![key, value.as_bytes()])
                    .unwrap();
            }
            transaction.commit().unwrap();
            let time = u64::try_from(sent.elapsed().as_nanos()).unwrap();
            nanos.extend(std::iter::repeat_n(time, batch));
        }
        Sample { nanos, wall: start.elapsed() }
    }
}
