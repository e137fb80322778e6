//! What authorization, limits and the audit log add to a call, in this process: a READ and a WRITE of one
//! agent, made of the agent alone and through executors without and with a log, in turns. It measures no
//! transport.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::join_all;
use op_dbus::agents::{self, Setup};
use op_dbus::audit::{Audit, Config, Durability};
use op_dbus::call::{Attested, Caller, Context, Identity, Transport};
use op_dbus::contract::Contract;
use op_dbus::daemon::compose;
use op_dbus::executor::{self, Executor, ShareConfig};
use op_dbus::host::worker::Workers;
use op_dbus::host::{Host as _, Local};
use op_dbus::metrics::Metrics;
use op_dbus::status::Status;
use op_dbus::storage;
use tempfile::TempDir;

use crate::measure::{Plan, median};

/// How many calls one measurement makes, and how many of them at once.
const CALLS: usize = 20_000;
const AT_ONCE: usize = 32;

/// The calls: what they are, and the most that they may add to a call of the agent alone, in microseconds,
/// without and with a log.
const CALLED: [(&str, &str, [f64; 2]); 2] =
    [("READ, not audited", "Echo", [3.0, 3.0]), ("WRITE, audited", "Count", [3.0, 15.0])];

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
        party("executor, no audit log", None),
        party("executor, durability = \"soon\"", Some(Durability::Soon)),
        party("executor, durability = \"written\"", Some(Durability::Written)),
    ];
    let alone = Local::new(op_dbus::testing::probe());
    println!("\nAuthorization, limits and audit log, a call in this process, {AT_ONCE} at once");
    for (kind, operation, aims) in CALLED {
        let mut times = [const { Vec::new() }; 4];
        for _ in 0..plan.runs.max(5) {
            let [first, others @ ..] = &mut times;
            first.push(runtime.block_on(time_alone(&alone, operation)));
            for (party, times) in parties.iter().zip(others) {
                times.push(runtime.block_on(party.time(operation)));
            }
        }
        let [base, others @ ..] = times;
        println!("  {:<44} {:>10.2} µs", format!("{kind}: the agent alone"), median(base.clone()));
        for (party, times) in parties.iter().zip(others) {
            let aim = aims[usize::from(party.audit.is_some())];
            show(&format!("{kind}: {}", party.name), &base, &times, aim);
        }
    }
    for party in parties {
        if let Some(audit) = party.audit {
            runtime.block_on(audit.close());
        }
    }
    drop(inside);
}

/// Prints the median time, and the medians of what each run adds to the agent alone and of the ratios.
fn show(name: &str, base: &[f64], times: &[f64], aim: f64) {
    let pairs = || times.iter().zip(base);
    let added = median(pairs().map(|(time, base)| time - base).collect());
    let ratio = median(pairs().map(|(time, base)| time / base).collect());
    let time = median(times.to_vec());
    println!("  {name:<44} {time:>10.2} µs, adds {added:.2} µs (aim: {aim:.0}), {ratio:.1} times");
}

/// The microseconds that a call of the agent alone takes.
async fn time_alone(host: &Local, operation: &str) -> f64 {
    let contract = Contract::built_in().unwrap();
    let service = contract.service("opdbus.agent.probe.v1.ProbeService").unwrap();
    let operation = service.operation(operation).unwrap();
    time(|context| async move {
        host.call(operation, &context, Bytes::new()).await.unwrap();
    })
    .await
}

/// The microseconds that one of many calls takes.
async fn time<F: Future<Output = ()>>(call: impl Fn(Context) -> F) -> f64 {
    let identity = Identity::User { uid: 1, gid: None };
    let caller = Arc::new(Caller::new(identity, Attested::Kernel, "bench"));
    let begun = Instant::now();
    let clients = (0..AT_ONCE).map(|_| async {
        for _ in 0..CALLS / AT_ONCE {
            call(Context::new(Arc::clone(&caller), Transport::Grpc)).await;
        }
    });
    join_all(clients).await;
    begun.elapsed().as_secs_f64() * 1e6 / CALLS as f64
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
    async fn time(&self, operation: &str) -> f64 {
        let route = self.executor.find("probe", operation).unwrap();
        time(|context| async {
            self.executor.call(&route, context, Bytes::new()).await.unwrap();
        })
        .await
    }
}
