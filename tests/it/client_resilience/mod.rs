//! What keeps a client's calls safe and routed, against a real service on a real bus and behind a proxy
//! that does to connections what a bad day does.

mod breaker;
pub mod proxy;
mod restart;
mod retries;
mod routing;
mod shadow;
mod streams;

use std::time::Duration;

use op_dbus::client::{
    AgentClient, Bus, CallOptions, Error, GrpcAddress, MemoryClient, MetricsSnapshot, ProbeClient,
    Request, Settings, Via, Way,
};
use op_dbus::migration;
use op_dbus::migration::rollout::{Config, Position, Rule};
use op_dbus::proto::opdbus::agent::probe::v1::{
    CountRequest, CountResponse, EchoRequest, EchoResponse,
};
use op_dbus::transport::{dbus, grpc};
use proxy::Proxy;

use crate::fixture::{self, Service};
use crate::grpc::eventually;

/// A service on a bus and on gRPC behind a proxy, at stages that the test sets.
struct World {
    proxy: Proxy,
    service: Service,
    bus: fixture::Bus,
    _servers: (grpc::Server, dbus::Server),
}

impl World {
    /// With every operation at one stage.
    async fn new(position: Position) -> Self {
        let bus = fixture::Bus::start();
        let service = Service::new(fixture::open());
        let behind = service.folder.path().join("grpc.sock");
        let over_grpc = crate::grpc::serve(crate::grpc::config(&behind), &service).await.unwrap();
        let over_dbus = crate::dbus::start(&bus, &service).await.unwrap();
        let proxy = Proxy::new(service.folder.path().join("proxy.sock"), &behind);
        let world = Self { proxy, service, bus, _servers: (over_grpc, over_dbus) };
        world.set(&[], position).await;
        world
    }

    /// Puts some operations, as `probe.Echo`, at one stage; none: all of them. The others are at `dbus`.
    async fn set(&self, operations: &[&str], position: Position) {
        let mut rules = Config::default().rules;
        if operations.is_empty() {
            rules[0].position = position;
        } else {
            let operations = operations.iter().map(|&name| name.to_owned()).collect();
            let rule = Rule { name: "some".to_owned(), operations, position, ..rules[0].clone() };
            rules.insert(0, rule);
        }
        let rollout = Config { rules };
        self.service.migration.configure(migration::Config { rollout, ..Default::default() }).await;
    }

    fn settings(&self, via: Via) -> Settings {
        Settings {
            via,
            addresses: vec![GrpcAddress::Unix(self.proxy.path.clone())],
            bus: Bus::Address(self.bus.address.clone()),
            client_name: Some("test".to_owned()),
            ..Settings::default()
        }
    }

    fn client(&self, via: Via) -> AgentClient {
        AgentClient::new(&self.settings(via))
    }

    /// How many calls of an operation of the probe came over a transport.
    fn served(&self, operation: &str, transport: &str) -> u64 {
        let text = self.service.executor.metrics().render().unwrap();
        let labels = [
            "agent=\"probe\"".to_owned(),
            format!("operation=\"{operation}\""),
            format!("transport=\"{transport}\""),
        ];
        let lines = text.lines().filter(|line| {
            line.starts_with("opdbus_calls_total{")
                && labels.iter().all(|label| line.contains(label))
        });
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}

/// An operation that counts its calls, and is not idempotent.
async fn count(client: &AgentClient, request_id: Option<&str>) -> Result<u64, Error> {
    let mut request = Request::new(CountRequest {});
    request.options.request_id = request_id.map(str::to_owned);
    let response: CountResponse = ProbeClient::new(client.clone()).count(request).await?;
    Ok(response.count)
}

/// An operation without side effects.
async fn echo(client: &AgentClient, text: &str) -> Result<String, Error> {
    let request = EchoRequest { text: text.to_owned(), ..EchoRequest::default() };
    let response: EchoResponse = ProbeClient::new(client.clone()).echo(request).await?;
    Ok(response.text)
}

/// A figure of the client's over one way, of an operation of the probe.
fn figure(
    snapshot: &MetricsSnapshot,
    operation: &str,
    way: Way,
    figure: fn(&op_dbus::client::RequestMetrics) -> u64,
) -> u64 {
    let operations = snapshot.operations.iter();
    let found = operations.filter(|known| known.agent == "probe" && known.operation == operation);
    found.flat_map(|known| &known.ways).filter(|known| known.way == way).map(figure).sum()
}
