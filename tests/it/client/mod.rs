//! The client library against a real daemon and a real bus: every way gives the same, and what a client
//! says of its calls reaches the service.

mod alone;
mod calls;
mod chat;
mod examples;
mod legacy;
mod options;
mod reach;
mod streams;
mod waiting;

use op_dbus::client::{AgentClient, Bus, Error, Failure, GrpcAddress, Settings, Via};

use crate::process::{Daemon, Prepared};

/// A daemon, and how it is reached.
struct World {
    daemon: Daemon,
}

impl World {
    fn new() -> Self {
        Self::with("")
    }

    /// A daemon with this configuration.
    fn with(config: &str) -> Self {
        Self { daemon: Prepared::new(config).start() }
    }

    /// The settings of a client that takes these ways.
    fn settings(&self, via: Via) -> Settings {
        Settings {
            via,
            addresses: vec![GrpcAddress::Unix(self.daemon.grpc_socket())],
            bus: Bus::Address(self.daemon.bus.address.clone()),
            ..Settings::default()
        }
    }

    fn client(&self, via: Via) -> AgentClient {
        AgentClient::new(&self.settings(via))
    }

    /// A client on gRPC and one on D-Bus.
    fn both(&self) -> [AgentClient; 2] {
        [self.client(Via::Grpc), self.client(Via::Dbus)]
    }

    /// How many calls of an operation came over a transport, as the service counted them.
    async fn counted(&self, operation: &str, transport: &str) -> usize {
        let metrics = self.client(Via::Grpc).metrics(&Default::default()).await.unwrap();
        let is_meant = |line: &&str| {
            line.starts_with("opdbus_calls_total{")
                && line.contains(&format!("operation=\"{operation}\""))
                && line.contains(&format!("transport=\"{transport}\""))
        };
        let count = |line: &str| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
        metrics.message.text.lines().filter(is_meant).map(count).sum()
    }
}

/// The failure that a call ended with.
#[track_caller]
fn failure<T: std::fmt::Debug>(outcome: Result<T, Error>) -> Failure {
    match outcome {
        Err(Error::Failed(failure)) => failure,
        other => panic!("no failed call: {other:?}"),
    }
}
