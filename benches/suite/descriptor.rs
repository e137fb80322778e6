//! Streams over D-Bus on the client's own pipe: blocks that an agent gives through the whole executor,
//! beside a process that writes the same blocks to a pipe and does nothing else.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Instant;

use tokio::runtime::{Builder, Runtime};
use zbus::{Connection, Fd, Variant};

use crate::measure::{Party, Plan, Sample, heading, in_turns, rows};
use crate::parties::{self, Daemon};

/// The size of a block and how many make a stream.
const BLOCK: usize = 64 * 1024;
const COUNT: u32 = 4_000;

/// Measures blocks of 64 KiB.
pub fn run(plan: &Plan) {
    parties::pin();
    let daemon = Daemon::start("normal");
    heading(&format!("D-Bus, output-fd, a pipe, {BLOCK} bytes a message, one core"));
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let client = runtime.block_on(connect(&daemon.bus.address));
    let mut parties: Vec<Party<'_>> = vec![
        ("plain pipe", Box::new(|| sample(plan, plain))),
        ("op-dbus agent", Box::new(|| sample(plan, || agent(&runtime, &client)))),
    ];
    let figures = in_turns(plan, &mut parties);
    rows(&parties, &figures);
    for ((name, _), figure) in parties.iter().zip(&figures) {
        let megabytes = figure.per_second * BLOCK as f64 / 1e6;
        println!("  {name:<44} {megabytes:>10.0} MB/s");
    }
    parties::unpin();
}

/// Reads whole streams, one after the other, for the planned time.
fn sample(plan: &Plan, mut stream: impl FnMut() -> File) -> Sample {
    let start = Instant::now();
    let mut nanos = Vec::with_capacity(1_000_000);
    let mut block = vec![0; BLOCK];
    while start.elapsed() < plan.time() {
        let mut stream = stream();
        let mut left = COUNT;
        while left > 0 {
            let before = Instant::now();
            stream.read_exact(&mut block).unwrap();
            nanos.push(u64::try_from(before.elapsed().as_nanos()).unwrap());
            left -= 1;
        }
        // What the agent's stream has more: the length before each block.
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    }
    Sample { nanos, wall: start.elapsed() }
}

/// The peer's stream.
fn plain() -> File {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let mut peer = Command::new(std::env::current_exe().unwrap())
        .args(["--peer-pipe", "stdout"])
        .stdout(Stdio::from(writer))
        .spawn()
        .unwrap();
    // It ends with its stream; nobody waits for it meanwhile.
    std::thread::spawn(move || peer.wait());
    File::from(reader)
}

/// The peer: writes one stream of blocks to its standard output.
pub fn serve_peer() {
    let block = vec![b'x'; BLOCK];
    let mut output = std::io::stdout().lock();
    for _ in 0..COUNT {
        output.write_all(&block).unwrap();
    }
}

async fn connect(address: &str) -> Connection {
    zbus::connection::Builder::address(address).build().await.unwrap()
}

/// A stream of the agent.
fn agent(runtime: &Runtime, client: &Connection) -> File {
    let (reader, writer): (OwnedFd, OwnedFd) = nix::unistd::pipe().unwrap();
    let options: HashMap<&str, Variant<'_>> =
        HashMap::from([("output-fd", Fd::from(writer.as_fd()).into())]);
    let size = u64::try_from(BLOCK).unwrap();
    let request = (COUNT, size, options);
    let call = client.call_method(
        Some("org.opdbus.Agents1"),
        "/org/opdbus/Agents1/agent/probe",
        Some("org.opdbus.Probe1"),
        "Blocks",
        &request,
    );
    runtime.block_on(call).unwrap();
    File::from(reader)
}
