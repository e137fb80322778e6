//! Agents in workers: a call that does nothing in a worker beside one in the daemon, and how long the
//! first call waits until its worker is ready.

use std::time::Instant;

use bytes::Bytes;
use http::uri::PathAndQuery;
use tonic::Request;

use crate::grpc::{Client, Raw};
use crate::measure::{Party, Plan, Sample, heading, in_turns, median, rows};
use crate::parties::{self, Daemon};

const IN_DAEMON: &str = "/opdbus.agent.probe.v1.ProbeService/Nothing";
const IN_WORKER: &str = "/opdbus.agent.worker_probe.v1.WorkerProbeService/Nothing";

/// Workers for whoever runs the benchmarks, root too.
pub const CONFIG: &str = "[worker]\nmin_uid = 0\n";

/// How many workers are started at least.
const STARTS_MIN: usize = 9;

/// Measures calls that do nothing, and the start of workers.
pub fn run(plan: &Plan) {
    parties::pin();
    let daemon = Daemon::start_with("normal", CONFIG);
    for in_flight in [1, 64] {
        heading(&format!("gRPC, Unix socket, a no-op, {in_flight} in flight, one core"));
        let mut parties: Vec<Party<'_>> =
            [("agent in the daemon", IN_DAEMON), ("agent in a worker", IN_WORKER)]
                .into_iter()
                .map(|(name, path)| {
                    let mut client = Client::connect(&daemon.socket());
                    let sample: Box<dyn FnMut() -> Sample> =
                        Box::new(move || client.sample(path, in_flight, plan, |_| Bytes::new()));
                    (name, sample)
                })
                .collect();
        let figures = in_turns(plan, &mut parties);
        rows(&parties, &figures);
    }
    drop(daemon);
    parties::unpin();
    println!("\nA worker");
    let starts: Vec<f64> = (0..plan.runs.max(STARTS_MIN)).map(|_| ready_ms()).collect();
    println!("  {:<44} {:>10.1} ms", "from the first call to its worker's ready", median(starts));
}

/// How much longer the first call takes than a later one, in milliseconds: each daemon has no worker
/// before.
fn ready_ms() -> f64 {
    let daemon = Daemon::start_with("normal", CONFIG);
    let client = Client::connect(&daemon.socket());
    let call = || {
        let before = Instant::now();
        client.runtime.block_on(async {
            let mut grpc = tonic::client::Grpc::new(client.channel.clone());
            grpc.ready().await.unwrap();
            let path = PathAndQuery::from_static(IN_WORKER);
            grpc.unary(Request::new(Bytes::new()), path, Raw).await.unwrap();
        });
        before.elapsed().as_secs_f64() * 1000.0
    };
    let first = call();
    first - median((0..5).map(|_| call()).collect())
}
