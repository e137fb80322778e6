//! The commands agent as its clients see it: programs beside a bare loop that spawns and waits, and their
//! output beside a pipe that is read and thrown away.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use op_dbus::proto::opdbus::agent::commands::v1::{
    ExecRequest, ExecResponse, ExecStreamRequest, ExecStreamResponse,
};
use prost::Message;
use tokio::runtime::{Builder, Runtime};
use tonic::Request;
use zbus::{Connection, Fd, Variant};

use crate::grpc::{Client, Raw};
use crate::measure::{Party, Plan, heading, in_turns, median, rows};
use crate::parties::Daemon;
use crate::programs::{self, OUTPUT_BYTES, PROGRAM};
use crate::workers;

const EXEC: &str = "/opdbus.agent.commands.v1.CommandsService/Exec";
const EXEC_STREAM: &str = "/opdbus.agent.commands.v1.CommandsService/ExecStream";
const FOLDER: &str = "/usr";
/// How many bytes of a stream are read at a time.
const BLOCK: usize = 64 << 10;

/// Measures programs and their output.
pub fn run(plan: &Plan) {
    let config = format!("{}[limits]\nexecute_per_second = 0\n", workers::CONFIG);
    let daemon = Daemon::start_with("normal", &config);
    let request = ExecRequest {
        argv: vec![PROGRAM.to_owned()],
        directory: FOLDER.to_owned(),
        ..ExecRequest::default()
    };
    let request: Bytes = request.encode_to_vec().into();
    succeeds(&daemon, &request);
    for in_flight in [1, 16] {
        heading(&format!("commands.Exec of {PROGRAM}, Unix socket, {in_flight} in flight"));
        let mut client = Client::connect(&daemon.socket());
        let exec = || {
            let request = request.clone();
            client.sample(EXEC, in_flight, plan, move |_| request.clone())
        };
        let mut parties: Vec<Party<'_>> = vec![
            ("bare spawn and wait", Box::new(|| programs::bare(plan, in_flight))),
            ("op-dbus, profile exec", Box::new(exec)),
        ];
        let figures = in_turns(plan, &mut parties);
        rows(&parties, &figures);
    }
    output(plan, &daemon);
}

/// What is measured must be a program that ran in its profile.
fn succeeds(daemon: &Daemon, request: &Bytes) {
    let client = Client::connect(&daemon.socket());
    let answer = client.runtime.block_on(async {
        let mut grpc = tonic::client::Grpc::new(client.channel.clone());
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static(EXEC);
        grpc.unary(Request::new(request.clone()), path, Raw).await.unwrap().into_inner()
    });
    let command = ExecResponse::decode(answer).unwrap().command.unwrap();
    assert_eq!((command.profile.as_str(), command.ended.unwrap().code), ("exec", Some(0)));
}

/// The output of one program, by each of the ways in turn.
fn output(plan: &Plan, daemon: &Daemon) {
    println!("\n{OUTPUT_BYTES} bytes of output by commands.ExecStream, MB/s");
    let client = Client::connect(&daemon.socket());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let bus = zbus::connection::Builder::address(daemon.bus.address.as_str()).build();
    let bus = runtime.block_on(bus).unwrap();
    let (mut pipe, mut grpc, mut descriptor) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.runs {
        pipe.push(programs::rate(programs::plain_pipe()));
        grpc.push(programs::rate(by_grpc(&client)));
        descriptor.push(programs::rate(by_descriptor(&runtime, &bus)));
    }
    let pipe = median(pipe);
    println!("  {:<44} {pipe:>10.0}", "plain pipe");
    for (name, rates) in [("to a gRPC client", grpc), ("D-Bus, output-fd, a pipe", descriptor)] {
        let rate = median(rates);
        println!("  {name:<44} {rate:>10.0} {:>9.2}", rate / pipe);
    }
}

fn by_grpc(client: &Client) -> Duration {
    let request = ExecStreamRequest {
        argv: programs::output_argv(),
        directory: FOLDER.to_owned(),
        ..ExecStreamRequest::default()
    };
    let request: Bytes = request.encode_to_vec().into();
    let before = Instant::now();
    client.runtime.block_on(async {
        let mut grpc = tonic::client::Grpc::new(client.channel.clone());
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static(EXEC_STREAM);
        let response = grpc.server_streaming(Request::new(request), path, Raw).await.unwrap();
        let (mut messages, mut left) = (response.into_inner(), OUTPUT_BYTES);
        while let Some(message) = messages.message().await.unwrap() {
            if let Some(chunk) = ExecStreamResponse::decode(message).unwrap().chunk {
                left -= chunk.data.len() as u64;
            }
        }
        assert_eq!(left, 0);
    });
    before.elapsed()
}

fn by_descriptor(runtime: &Runtime, bus: &Connection) -> Duration {
    let before = Instant::now();
    let (reader, writer): (OwnedFd, OwnedFd) = nix::unistd::pipe().unwrap();
    let options: HashMap<&str, Variant<'_>> = HashMap::from([
        ("directory", Variant::from(FOLDER)),
        ("output-fd", Fd::from(writer.as_fd()).into()),
    ]);
    let request = (programs::output_argv(), options);
    let call = bus.call_method(
        Some("org.opdbus.Agents1"),
        "/org/opdbus/Agents1/agent/commands",
        Some("org.opdbus.Commands1"),
        "ExecStream",
        &request,
    );
    runtime.block_on(call).unwrap();
    drop(request);
    drop(writer);
    let (mut reader, mut block, mut all) = (File::from(reader), vec![0; BLOCK], 0);
    loop {
        let count = reader.read(&mut block).unwrap() as u64;
        if count == 0 {
            break;
        }
        all += count;
    }
    // Besides the output, each message has its length and what else it says.
    assert!(all > OUTPUT_BYTES, "{all}");
    before.elapsed()
}
