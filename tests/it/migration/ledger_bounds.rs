//! What bounds the ledger: clients of one user beyond a number count together, what is old is forgotten,
//! and what is counted is counted once however many threads do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use op_dbus::call::{Attested, Caller, Identity, Interface, Transport};
use op_dbus::contract::{Contract, Operation};
use op_dbus::error::ErrorKind;
use op_dbus::executor::{Observed, Observer as _};
use op_dbus::metrics::Metrics;
use op_dbus::migration::ledger::{Config, Ledger, Rules};
use op_dbus::proto::opdbus::v1::{ClientIdentity, ListUsesRequest, Stage, Use, Way};
use op_dbus::status::Status;
use op_dbus::storage::{self, Durability};
use tempfile::TempDir;

use crate::process::PATIENCE;

/// A ledger, with what it notes calls of.
struct World {
    ledger: Arc<Ledger>,
    metrics: Metrics,
    operations: Vec<Arc<Operation>>,
    _folder: TempDir,
}

/// One rule for all.
struct Default;

impl Rules for Default {
    fn count(&self) -> usize {
        1
    }

    fn name(&self, _rule: usize) -> &str {
        "default"
    }

    fn stage(&self, _rule: usize) -> Stage {
        Stage::Shadow
    }

    fn holding(&self, _client: &ClientIdentity, _agent: &str, _operation: &str) -> usize {
        0
    }
}

impl World {
    fn new(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage =
            storage::Config { path: folder.path().to_owned(), durability: Durability::Normal };
        let metrics = Metrics::new().unwrap();
        let status = Arc::new(Status::default());
        let ledger = Ledger::open(config, &storage, &metrics, &status).unwrap();
        let contract = Contract::built_in().unwrap();
        let memory = contract.service("opdbus.agent.memory.v1.MemoryService").unwrap();
        Self { ledger, metrics, operations: memory.operations.clone(), _folder: folder }
    }

    /// Notes a call of a user that calls itself `name`.
    fn note(&self, uid: u32, name: &str, operation: usize, error: Option<ErrorKind>) {
        let identity = Identity::User { uid, gid: None };
        let caller = Caller::new(identity, Attested::Kernel, "test");
        let name: Arc<str> = name.into();
        let call = Observed {
            caller: &caller,
            client_name: Some(&name),
            transport: Transport::Grpc,
            interface: Interface::Own,
            operation: &self.operations[operation],
        };
        self.ledger.ended(&call, error, Duration::from_micros(50));
    }

    async fn uses(&self) -> Vec<Use> {
        let request = ListUsesRequest { page_size: 1000, ..ListUsesRequest::default() };
        self.ledger.list_uses(request, Arc::new(Default)).await.unwrap().uses
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.render().unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

fn rare() -> Config {
    Config { flush: Duration::from_secs(600), ..Config::default() }
}

#[tokio::test]
async fn whoever_has_too_many_names_is_counted_as_others_of_his() {
    let world = World::new(Config { clients_per_uid: 3, clients: 100, ..rare() });
    for name in ["a", "b", "c", "d", "e", "f"] {
        world.note(7, name, 0, None);
    }
    world.note(8, "d", 0, None);
    let uses = world.uses().await;
    let client = |one: &Use| one.client.clone().unwrap();
    let others: Vec<&Use> = uses.iter().filter(|one| client(one).others).collect();
    assert_eq!(others.len(), 1);
    assert_eq!(
        (client(others[0]).uid, client(others[0]).name, others[0].calls),
        (7, String::new(), 3)
    );
    assert_eq!(uses.iter().map(|one| one.calls).sum::<u64>(), 7);
    assert!(uses.iter().any(|one| client(one).uid == 8 && client(one).name == "d"));
    assert_eq!(world.metric("opdbus_ledger_others_total"), 3.0);
    assert_eq!(others[0].stage(), Stage::Shadow);
    assert_eq!(others[0].way(), Way::Grpc);
}

#[tokio::test]
async fn rows_beyond_those_that_fit_are_counted_without_their_client() {
    let world = World::new(Config { unwritten: 4, ..rare() });
    // All at once, before the writer has its turn.
    for name in 0..20 {
        world.note(7, &name.to_string(), 0, None);
    }
    let uses = world.uses().await;
    assert_eq!(uses.iter().map(|one| one.calls).sum::<u64>(), 20, "no call is lost");
    assert!(uses.iter().any(|one| one.client.as_ref().unwrap().others), "{uses:?}");
    assert!(uses.len() < 20);
    assert_eq!(world.metric("opdbus_ledger_dropped_total"), 0.0);
}

#[tokio::test]
async fn what_is_old_is_forgotten() {
    let keep = Duration::from_millis(500);
    let world = World::new(Config { flush: Duration::from_millis(20), keep, ..Config::default() });
    world.note(7, "a", 0, None);
    assert_eq!(world.uses().await.len(), 1);
    let deadline = Instant::now() + PATIENCE;
    while !world.uses().await.is_empty() {
        assert!(Instant::now() < deadline, "it is kept for longer than that");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Its client is known anew.
    world.note(7, "a", 1, None);
    assert_eq!(world.uses().await.len(), 1);
}

#[tokio::test]
async fn every_call_is_counted_once_while_it_is_written() {
    const THREADS: usize = 4;
    const CALLS: usize = 5000;
    let flush = Duration::from_millis(5);
    let world = Arc::new(World::new(Config { flush, unwritten: 256, ..Config::default() }));
    let mut threads = tokio::task::JoinSet::new();
    for thread in 0..THREADS {
        let world = Arc::clone(&world);
        threads.spawn_blocking(move || {
            for call in 0..CALLS {
                let error = (call % 10 == 0).then_some(ErrorKind::NotFound);
                world.note(7, &format!("client-{}", (call + thread) % 50), call % 5, error);
            }
        });
    }
    threads.join_all().await;
    let uses = world.uses().await;
    let calls: u64 = uses.iter().map(|one| one.calls).sum();
    let errors: u64 = uses.iter().map(|one| one.errors).sum();
    assert_eq!((calls, errors), ((THREADS * CALLS) as u64, (THREADS * CALLS / 10) as u64));
    assert_eq!(world.metric("opdbus_ledger_dropped_total"), 0.0);
}
