//! Starting a session, with the agents that are to be ready with it warm, beside a ping.

use bytes::Bytes;
use op_dbus::proto::opdbus::v1::{PingRequest, StartSessionRequest};
use prost::Message;

use crate::grpc::{Client, PING};
use crate::measure::{Party, Plan, Sample, heading, in_turns, rows};
use crate::parties::{self, Daemon};

const START: &str = "/opdbus.v1.SessionsService/StartSession";

/// Starts sessions, one after the other.
pub fn run(plan: &Plan) {
    parties::pin();
    let config = "[sessions]\nmax = 1000000\nmax_per_caller = 1000000\n[agents]\n\
                  run_on_connection = [\"memory\", \"context_manager\", \"sequential_thinking\", \"probe\"]\n";
    let daemon = Daemon::start_with("normal", config);
    heading("starting a session with four warm agents, Unix socket, one core");
    let ping: Bytes = PingRequest { payload: vec![7; 64].into() }.encode_to_vec().into();
    let start = StartSessionRequest { client_name: "bench".to_owned(), ..Default::default() };
    let start: Bytes = start.encode_to_vec().into();
    let mut parties: Vec<Party<'_>> =
        [("op-dbus Ping", PING, ping), ("op-dbus StartSession", START, start)]
            .into_iter()
            .map(|(name, path, request)| {
                let mut client = Client::connect(&daemon.socket());
                let sample: Box<dyn FnMut() -> Sample> = Box::new(move || {
                    let request = request.clone();
                    client.sample(path, 1, plan, move |_| request.clone())
                });
                (name, sample)
            })
            .collect();
    let figures = in_turns(plan, &mut parties);
    rows(&parties, &figures);
    parties::unpin();
}
