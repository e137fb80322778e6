//! What observing one call costs, and what it costs that its agent can start and stop, in this process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use op_dbus::agents::Start;
use op_dbus::call::{Attested, Caller, Context, Identity, Interface, Transport};
use op_dbus::contract::Contract;
use op_dbus::host::{self, Activated, Host, Life, Local, Roster};
use op_dbus::metrics::{Metrics, Stage};

use crate::measure::{Plan, median};

/// How many calls one measurement makes.
const CALLS: u32 = 100_000;

/// Records what a call records and prints the median time for it.
pub fn run(plan: &Plan) {
    let metrics = Metrics::new().unwrap();
    let operation = metrics.operation("bench", "Record");
    let times = (0..plan.runs.max(5)).map(|_| {
        let start = Instant::now();
        for _ in 0..CALLS {
            operation.arrived(Transport::Grpc, Interface::Own);
            for stage in Stage::ALL {
                metrics.stage(stage, Instant::now().elapsed());
            }
            operation.ended((Transport::Grpc, Interface::Own), None, Duration::from_micros(20));
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
    });
    println!("\nMetrics");
    println!(
        "  {:<44} {:>10.0} ns",
        "recording one call, clock readings included",
        median(times.collect())
    );
    host_calls(plan, &metrics);
}

/// Calls an agent that is always there and one that can start and stop, in turns, and prints the
/// median time for a call of each.
fn host_calls(plan: &Plan, metrics: &Metrics) {
    let contract = Contract::built_in().unwrap();
    let service = contract.service("opdbus.agent.probe.v1.ProbeService").unwrap();
    let operation = service.operation("Count").unwrap();
    let identity = Identity::User { uid: 1, gid: None };
    let caller = Caller::new(identity, Attested::Kernel, "bench");
    let context = Context::new(Arc::new(caller), Transport::Grpc);
    let always = Local::new(op_dbus::testing::probe());
    let life = host::Plan {
        agent: "probe".into(),
        start: Start::AtFirstCall,
        idle_stop: Some(Duration::from_secs(600)),
        build: Box::new(|| Ok(op_dbus::testing::probe())),
    };
    let activated = Activated::new(Life::new(life, &Arc::new(Roster::default()), metrics));
    let hosts: [&dyn Host; 2] = [&always, &activated];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..plan.runs.max(5) {
        for (host, times) in hosts.iter().zip(&mut times) {
            let took = runtime.block_on(async {
                let start = Instant::now();
                for _ in 0..CALLS {
                    host.call(operation, &context, Bytes::new()).await.unwrap();
                }
                start.elapsed()
            });
            times.push(took.as_secs_f64() * 1e9 / f64::from(CALLS));
        }
    }
    println!("\nAgents");
    let names = ["a call of what is always there", "a call of an agent that can start and stop"];
    for (name, times) in names.into_iter().zip(times) {
        println!("  {name:<44} {:>10.0} ns", median(times));
    }
}
