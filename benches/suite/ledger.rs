//! What the ledger costs: noting one call, and the memory of 10,000 clients with 100 operations each.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use op_dbus::call::{Attested, Caller, Identity, Interface, Transport};
use op_dbus::contract::{Contract, Operation};
use op_dbus::executor::{Observed, Observer as _};
use op_dbus::metrics::Metrics;
use op_dbus::migration::ledger::{Config, Ledger};
use op_dbus::status::Status;
use op_dbus::storage::{self, Durability};

use crate::measure::{Plan, median};

const CLIENTS: usize = 10_000;
const OPERATIONS: usize = 100;

/// How many calls one measurement notes.
const CALLS: u32 = 100_000;

/// Notes calls, and prints the median time for one, and how far the memory grows meanwhile.
pub fn run(plan: &Plan) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let inside = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let storage =
        storage::Config { path: folder.path().to_owned(), durability: Durability::Normal };
    let config = Config { clients_per_uid: 16_384, ..Config::default() };
    let unwritten = config.unwritten;
    let metrics = Metrics::new().unwrap();
    let status = Arc::new(Status::default());
    let ledger = Ledger::open(config, &storage, &metrics, &status).unwrap();
    let contract = Contract::built_in().unwrap();
    let all = contract.services.iter().flat_map(|service| service.operations.iter().cloned());
    let operations: Vec<Arc<Operation>> = all.take(OPERATIONS).collect();
    assert_eq!(operations.len(), OPERATIONS);
    let caller = Caller::new(Identity::User { uid: 1, gid: None }, Attested::Kernel, "bench");
    let note = |name: &Arc<str>, operation: &Arc<Operation>| {
        let call = Observed {
            caller: &caller,
            client_name: Some(name),
            transport: Transport::Grpc,
            interface: Interface::Own,
            operation,
        };
        ledger.ended(&call, None, Duration::from_micros(20));
    };

    println!("\nLedger");
    let name: Arc<str> = "op-chat".into();
    let times = (0..plan.runs.max(5)).map(|_| {
        let begun = Instant::now();
        for call in 0..CALLS {
            note(&name, &operations[call as usize % OPERATIONS]);
        }
        begun.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
    });
    println!("  {:<44} {:>10.0} ns", "noting one call", median(times.collect()));

    let before = resident_kib();
    let (mut most, mut noting) = (before, Duration::ZERO);
    let begun = Instant::now();
    for client in 0..CLIENTS {
        let name: Arc<str> = format!("client-{client}").into();
        let start = Instant::now();
        operations.iter().for_each(|operation| note(&name, operation));
        noting += start.elapsed();
        // The daemon writes when half of the room is taken.
        if (client + 1) * OPERATIONS % (unwritten / 2) < OPERATIONS {
            most = most.max(resident_kib());
            runtime.block_on(ledger.flush()).unwrap();
            most = most.max(resident_kib());
        }
    }
    runtime.block_on(ledger.flush()).unwrap();
    most = most.max(resident_kib());
    let calls = (CLIENTS * OPERATIONS) as f64;
    let label = format!("noting the first call of {CLIENTS} × {OPERATIONS}");
    println!("  {label:<44} {:>10.0} ns", noting.as_secs_f64() * 1e9 / calls);
    println!(
        "  {:<44} {:>10.1} s",
        "until all of them were written",
        begun.elapsed().as_secs_f64()
    );
    println!("  {:<44} {:>10.1} MB", "memory for them", (most - before) as f64 / 1024.0);
    let file = fs::metadata(folder.path().join("ledger.db")).unwrap().len();
    println!("  {:<44} {:>10.1} MB", "on disk", file as f64 / 1e6);
    drop(inside);
}

/// The memory of this process, in KiB.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
