//! The ledger of the real daemon: every call is counted for its client and its way, over both transports,
//! and is still there after a restart and after a kill.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use op_dbus::proto::opdbus::agent::memory::v1::{RememberRequest, RememberResponse};
use op_dbus::proto::opdbus::v1::{ListUsesRequest, ListUsesResponse, Use, Way};
use serde_json::Value;
use tonic::Request;
use zbus::Variant;

use crate::ctl::{stderr, stdout, to};
use crate::grpc::Client;
use crate::process::{Daemon, PATIENCE, Prepared};

const REMEMBER: &str = "/opdbus.agent.memory.v1.MemoryService/Remember";
const LIST: &str = "/opdbus.v1.MigrationService/ListUses";

/// A ledger that is written all the time.
pub const OFTEN: &str = "[migration]\nledger_flush_ms = 100\n";

pub fn ctl(daemon: &Daemon, via: &str, words: &[&str]) -> Output {
    to(daemon, via).args(words).output().unwrap()
}

/// Runs a command that must end well, and gives what it writes as JSON.
pub fn json(daemon: &Daemon, via: &str, words: &[&str]) -> Value {
    let output = ctl(daemon, via, &[&["--json"], words].concat());
    assert_eq!(output.status.code(), Some(0), "{words:?}: {} {}", stdout(&output), stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn remember(daemon: &Daemon, via: &str) {
    json(daemon, via, &["call", "memory", "Remember", "key=k", "value=1"]);
}

/// The uses that `words` select of the memory agent.
fn uses(daemon: &Daemon, words: &[&str]) -> Vec<Value> {
    let all = [&["migration", "uses", "--agent", "memory"], words].concat();
    json(daemon, "grpc", &all)["uses"].as_array().unwrap().clone()
}

/// A 64-bit number, which JSON has as a text.
pub fn number(value: &Value) -> u64 {
    value.as_str().map_or(0, |text| text.parse().unwrap())
}

/// The calls over each way, as the sum of the uses that `words` select.
fn calls(daemon: &Daemon, words: &[&str]) -> [u64; 2] {
    ["WAY_DBUS", "WAY_GRPC"].map(|way| {
        let found = uses(daemon, words);
        found.iter().filter(|one| one["way"] == way).map(|one| number(&one["calls"])).sum()
    })
}

#[test]
fn one_client_is_counted_on_both_transports() {
    let daemon = Daemon::start(OFTEN);
    for via in ["dbus", "grpc", "grpc"] {
        remember(&daemon, via);
    }
    let failed = ctl(&daemon, "dbus", &["call", "memory", "Recall", "key=nothing"]);
    assert_eq!(failed.status.code(), Some(1));

    assert_eq!(calls(&daemon, &["--way", "dbus"]), [2, 0]);
    let found = uses(&daemon, &[]);
    let of = |operation: &str, way: &str| {
        let is = |one: &&Value| one["operation"] == operation && one["way"] == way;
        found.iter().find(is).unwrap_or_else(|| panic!("no {operation} {way} in {found:?}"))
    };
    let (dbus, grpc) = (of("memory.Remember", "WAY_DBUS"), of("memory.Remember", "WAY_GRPC"));
    assert_eq!((number(&dbus["calls"]), number(&grpc["calls"])), (1, 2));
    assert_eq!(dbus["client"], grpc["client"], "it is one client");
    let program = dbus["client"]["executable"].as_str().unwrap();
    assert_eq!(Path::new(program).file_name().unwrap(), "op-dbusctl", "{program}");
    assert_eq!(
        dbus["client"]["uid"].as_u64().unwrap_or(0),
        u64::from(nix::unistd::getuid().as_raw())
    );
    for one in [dbus, grpc] {
        assert!(one["p50"].is_string() && one["p99"].is_string(), "{one}");
        assert!(one["first_seen"].as_str() <= one["last_seen"].as_str(), "{one}");
    }
    let recall = of("memory.Recall", "WAY_DBUS");
    assert_eq!((number(&recall["calls"]), number(&recall["errors"])), (1, 1));
    assert!(recall.get("p50").is_none_or(Value::is_null), "no call of it went well");
    // Who looks at the ledger is not in it.
    let all = json(&daemon, "dbus", &["migration", "uses", "--all"]);
    let own = |one: &&Value| one["operation"].as_str().unwrap().starts_with("migration.");
    assert_eq!(all["uses"].as_array().unwrap().iter().filter(own).count(), 0);

    let table = stdout(&ctl(&daemon, "dbus", &["migration", "uses", "--agent", "memory"]));
    assert!(table.contains("memory.Remember") && table.contains("op-dbusctl"), "{table}");
    let deadline = Instant::now() + PATIENCE;
    while daemon.metric("opdbus_migration_clients{way=\"grpc\"}") != Some(1.0) {
        assert!(Instant::now() < deadline, "one client was seen on gRPC");
        thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test]
async fn a_client_is_known_by_the_name_that_it_gives_itself() {
    let daemon = Daemon::start(OFTEN);
    let client = Client::unix(&daemon.grpc_socket()).await;
    let value = Some(prost_types::Value { kind: Some(prost_types::value::Kind::BoolValue(true)) });
    let request = RememberRequest { key: "k".into(), value, ..RememberRequest::default() };
    let mut named = Request::new(request.clone());
    named.metadata_mut().insert("opdbus-client-name", "op-chat".parse().unwrap());
    client.request::<_, RememberResponse>(REMEMBER, named).await.unwrap();
    let mut wrong = Request::new(request.clone());
    wrong.metadata_mut().insert("opdbus-client-name", "op chat".parse().unwrap());
    let refused = client.request::<_, RememberResponse>(REMEMBER, wrong).await.unwrap_err();
    assert!(refused.message().contains("opdbus-client-name"), "{refused:?}");

    let address = daemon.bus.address.as_str();
    let bus = zbus::connection::Builder::address(address).build().await.unwrap();
    let over_dbus = async |name: &str| {
        let options: std::collections::HashMap<&str, Variant<'_>> =
            [("client-name", Variant::from(name))].into();
        let body = ("k", Variant::from(1_i64), options);
        let path = "/org/opdbus/Agents1/agent/memory";
        let interface = Some("org.opdbus.Memory1");
        bus.call_method(Some("org.opdbus.Agents1"), path, interface, "Remember", &body).await
    };
    over_dbus("op-chat").await.unwrap();
    let refused = over_dbus("").await.unwrap_err();
    assert!(refused.to_string().contains("client-name"), "{refused}");

    assert_eq!(calls(&daemon, &["--client", "op-chat"]), [1, 1]);
    assert_eq!(calls(&daemon, &["--client", "nobody"]), [0, 0]);
}

#[test]
fn what_was_counted_is_there_after_a_restart_and_goes_on() {
    let state = tempfile::tempdir().unwrap();
    // Only the end of the service writes it.
    let config = format!(
        "[storage]\npath = {:?}\n[migration]\nledger_flush_ms = 600000\n",
        state.path().join("state")
    );
    let daemon = Prepared::new(&config).start();
    remember(&daemon, "dbus");
    remember(&daemon, "grpc");
    daemon.stop();
    let daemon = Prepared::new(&config).start();
    assert_eq!(calls(&daemon, &[]), [1, 1]);
    remember(&daemon, "dbus");
    assert_eq!(calls(&daemon, &[]), [2, 1]);
    let clients: BTreeSet<String> =
        uses(&daemon, &[]).iter().map(|one| one["client"].to_string()).collect();
    assert_eq!(clients.len(), 1, "it is the same client: {clients:?}");
    daemon.stop();
}

/// How many calls of the memory agent are in the file, as another process sees it.
fn written(file: &Path) -> u64 {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let Ok(database) = rusqlite::Connection::open_with_flags(file, flags) else { return 0 };
    let query = "SELECT coalesce(sum(calls), 0) FROM tally JOIN operation AS o ON o.id = operation
                 WHERE o.agent = 'memory'";
    database.query_row(query, [], |row| row.get(0)).unwrap_or(0)
}

#[test]
fn a_kill_loses_no_more_than_was_counted_since_the_last_write() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join("state");
    let config = format!("[storage]\npath = {folder:?}\n{OFTEN}");
    let mut daemon = Prepared::new(&config).start();
    for _ in 0..3 {
        remember(&daemon, "grpc");
        remember(&daemon, "dbus");
    }
    let deadline = Instant::now() + PATIENCE;
    while written(&folder.join("ledger.db")) < 6 {
        assert!(Instant::now() < deadline, "what is counted is written by itself");
        thread::sleep(Duration::from_millis(50));
    }
    remember(&daemon, "grpc");
    daemon.signal(Signal::SIGKILL);
    daemon.wait();

    let daemon = Prepared::new(&config).start();
    let [dbus, grpc] = calls(&daemon, &[]);
    assert_eq!(dbus, 3);
    assert!((3..=4).contains(&grpc), "three were written, one may have been: {grpc}");
    daemon.stop();
}

#[test]
fn a_damaged_ledger_is_set_aside() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join("state");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("ledger.db"), [0x5a; 9000]).unwrap();
    let daemon = Prepared::new(&format!("[storage]\npath = {folder:?}\n{OFTEN}")).start();
    daemon.wait_for_log("a damaged database was set aside");
    remember(&daemon, "grpc");
    assert_eq!(calls(&daemon, &[]), [0, 1]);
    let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
    let aside = names.filter(|name| name.to_string_lossy().starts_with("ledger.db.damaged"));
    assert_eq!(aside.count(), 1);
}

#[tokio::test]
async fn the_ledger_is_listed_in_pages_the_last_seen_first() {
    let daemon = Daemon::start(OFTEN);
    for operation in ["Remember", "Recall", "List", "Stats", "Forget"] {
        let words = ["call", "memory", operation, "key=k", "value=1"];
        let count = match operation {
            "List" | "Stats" => 3,
            "Remember" => 5,
            _ => 4,
        };
        json(&daemon, "grpc", &words[..count]);
    }
    let client = Client::unix(&daemon.grpc_socket()).await;
    let list = async |size: u32, token: String| {
        let request = ListUsesRequest {
            agent: "memory".into(),
            page_size: size,
            page_token: token,
            ..ListUsesRequest::default()
        };
        client.call::<_, ListUsesResponse>(LIST, request).await
    };
    let whole = list(0, String::new()).await.unwrap();
    assert_eq!((whole.uses.len(), &*whole.next_page_token), (5, ""));
    assert_eq!(whole.uses[0].operation, "memory.Forget");
    let seconds = |one: &Use| one.last_seen.map(|time| (time.seconds, time.nanos));
    assert!(whole.uses.is_sorted_by(|a, b| seconds(a) >= seconds(b)), "{whole:?}");
    assert!(whole.uses.iter().all(|one| one.way() == Way::Grpc && one.client.is_some()));

    let (mut paged, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = list(2, token).await.unwrap();
        assert!(page.uses.len() <= 2);
        paged.extend(page.uses);
        pages += 1;
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((paged, pages), (whole.uses, 3));
    for (size, token, field) in
        [(1001, "", "page_size"), (1, "x", "page_token"), (1, "1.2.3", "page_token")]
    {
        let refused = list(size, token.to_owned()).await.unwrap_err();
        assert!(refused.message().starts_with(field), "{refused:?}");
    }
    let shown = stdout(&ctl(&daemon, "grpc", &["migration", "uses", "--limit", "1"]));
    assert!(shown.contains("--all lists the others too"), "{shown}");
    let none = stdout(&ctl(&daemon, "grpc", &["migration", "uses", "--way", "legacy"]));
    assert_eq!(none, "nothing was called\n");
}
