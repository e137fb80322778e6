//! What the audit log costs a call, in this process: of an operation above READ with and without it,
//! and of one that only reads. It measures nothing else of a call.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::join_all;
use op_dbus::agents::{self, Setup};
use op_dbus::audit::{Audit, Config, Durability};
use op_dbus::call::{Attested, Caller, Context, Identity, Transport};
use op_dbus::daemon::compose;
use op_dbus::executor::{self, Executor, ShareConfig};
use op_dbus::host::worker::Workers;
use op_dbus::metrics::Metrics;
use op_dbus::status::Status;
use op_dbus::storage;
use tempfile::TempDir;

use crate::measure::{Plan, median};

/// How many calls one measurement makes, and how many of them at once.
const CALLS: usize = 20_000;
const AT_ONCE: usize = 32;

/// One executor and its name.
struct Party {
    name: &'static str,
    executor: Arc<Executor>,
    audit: Option<Arc<Audit>>,
    _folder: TempDir,
}

/// Calls each executor in turns, and prints the median time for a call.
pub fn run(plan: &Plan) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let inside = runtime.enter();
    let parties = [
        party("no audit log", None),
        party("durability = \"soon\"", Some(Durability::Soon)),
        party("durability = \"written\"", Some(Durability::Written)),
    ];
    println!("\nAudit log, a call in this process, {AT_ONCE} at once");
    let calls = [("above READ", ("probe", "Count")), ("READ", ("agents", "Ping"))];
    for (kind, operation) in calls {
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..plan.runs.max(5) {
            for (party, times) in parties.iter().zip(&mut times) {
                times.push(runtime.block_on(party.time(operation)));
            }
        }
        for (party, times) in parties.iter().zip(times) {
            println!("  {:<44} {:>10.2} µs", format!("{kind}, {}", party.name), median(times));
        }
    }
    for party in parties {
        if let Some(audit) = party.audit {
            runtime.block_on(audit.close());
        }
    }
    drop(inside);
}

/// An executor whose audit log, if it has one, is in a folder of its own.
fn party(name: &'static str, durability: Option<Durability>) -> Party {
    let folder = tempfile::tempdir().unwrap();
    let status = Arc::new(Status::default());
    let audit = durability.map(|durability| {
        let config = Config { durability, journal: false, ..Config::in_state(folder.path()) };
        Audit::open(&config, Arc::clone(&status)).unwrap()
    });
    let setup = Setup {
        storage: storage::Config {
            path: folder.path().to_owned(),
            durability: storage::Durability::Normal,
        },
        metrics: Arc::new(Metrics::new().unwrap()),
        status,
        settings: agents::Settings::default(),
    };
    let workers = Workers::disabled(Arc::clone(&setup.metrics));
    let starts = compose::Starts::default();
    // The rates of a user are not what is measured.
    let share = ShareConfig { per_second: [None; 5], ..ShareConfig::default() };
    let config = executor::Config { share, ..executor::Config::default() };
    let executor =
        compose::executor(config, &setup, &starts, &workers, audit.clone(), None).unwrap();
    Party { name, executor, audit, _folder: folder }
}

impl Party {
    /// The microseconds that a call takes.
    async fn time(&self, (agent, operation): (&str, &str)) -> f64 {
        let route = self.executor.find(agent, operation).unwrap();
        let identity = Identity::User { uid: 1, gid: None };
        let caller = Arc::new(Caller::new(identity, Attested::Kernel, "bench"));
        let begun = Instant::now();
        let clients = (0..AT_ONCE).map(|_| async {
            for _ in 0..CALLS / AT_ONCE {
                let context = Context::new(Arc::clone(&caller), Transport::Grpc);
                self.executor.call(&route, context, Bytes::new()).await.unwrap();
            }
        });
        join_all(clients).await;
        begun.elapsed().as_secs_f64() * 1e6 / CALLS as f64
    }
}
