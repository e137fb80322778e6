//! Agents in workers: a call that does nothing in a worker beside one in the daemon, and how long the
//! first call waits until its worker is ready. Beside them, bytes that are sent back by the next process, and
//! by the one after it: what the system alone takes for the way that a call to a worker goes.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
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

/// What is sent there and back, in bytes: about the size of a call that does nothing.
const BYTES: usize = 64;

/// Measures calls that do nothing, and the start of workers.
pub fn run(plan: &Plan) {
    parties::pin();
    heading("64 bytes, Unix sockets, nothing but the system, one core");
    let mut parties: Vec<Party<'_>> =
        [("sent back by the next process", 1), ("sent back by the one after it", 2)]
            .into_iter()
            .map(|(name, processes)| {
                let mut way = Way::through(processes);
                let sample: Box<dyn FnMut() -> Sample> = Box::new(move || way.sample(plan));
                (name, sample)
            })
            .collect();
    let figures = in_turns(plan, &mut parties);
    rows(&parties, &figures);
    drop(parties);
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

/// A way through processes: each passes on what comes to the next, and the last sends it back.
struct Way {
    first: UnixStream,
    _processes: Vec<parties::Party>,
}

impl Way {
    fn through(processes: usize) -> Self {
        let (first, mut end) = UnixStream::pair().unwrap();
        let mut started = Vec::new();
        for left in (0..processes).rev() {
            let (next, rest) = UnixStream::pair().unwrap();
            let mut process = Command::new(std::env::current_exe().unwrap());
            process.arg("--peer-hop").stdin(Stdio::from(OwnedFd::from(end)));
            if left > 0 {
                process.stdout(Stdio::from(OwnedFd::from(next)));
            } else {
                process.stdout(Stdio::null());
            }
            started.push(parties::Party(process.arg(left.to_string()).spawn().unwrap()));
            end = rest;
        }
        Self { first, _processes: started }
    }

    fn sample(&mut self, plan: &Plan) -> Sample {
        let start = Instant::now();
        let (mut nanos, mut bytes) = (Vec::with_capacity(100_000), [7; BYTES]);
        while start.elapsed() < plan.time() {
            let sent = Instant::now();
            self.first.write_all(&bytes).unwrap();
            self.first.read_exact(&mut bytes).unwrap();
            nanos.push(u64::try_from(sent.elapsed().as_nanos()).unwrap());
        }
        Sample { nanos, wall: start.elapsed() }
    }
}

/// One process of a way, with `left` more behind it: descriptor 0 is the way here, 1 the way on.
pub fn serve_hop(left: &str) {
    let here = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let on = std::io::stdout().as_fd().try_clone_to_owned().unwrap();
    let (mut here, mut on) = (UnixStream::from(here), UnixStream::from(on));
    let mut bytes = [0; BYTES];
    while here.read_exact(&mut bytes).is_ok() {
        if left != "0" {
            on.write_all(&bytes).unwrap();
            on.read_exact(&mut bytes).unwrap();
        }
        here.write_all(&bytes).unwrap();
    }
}
