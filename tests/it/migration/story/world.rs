//! What the story plays on: a daemon, its clients, and a proxy before its gRPC socket; and what an
//! administrator asks and does. What happens is told elsewhere.

use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};

use op_dbus::client::{
    AgentClient, Bus, CallOptions, Error, GrpcAddress, MigrationClient, Page, Settings, UseFilter,
    Via,
};
use op_dbus::proto::opdbus::v1::{
    GetRoutesRequest, GetRoutesResponse, ListStagesRequest, ListStagesResponse, RuleState, Use, Way,
};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::load::{Script, Seen, count};
use crate::client_resilience::proxy::Proxy;
use crate::ctl::command;
use crate::fixture;
use crate::process::{Daemon, Prepared};

/// How long anything may take before the test fails, on a machine that is busy with much else.
const PATIENCE: Duration = Duration::from_secs(180);

/// Names a Python with the package `op_dbus`; without it the story has no such client.
const PYTHON: &str = "OPDBUS_PYTHON_CLIENT";

/// The margin for slowness is one that no busy machine exceeds: the fault here is another one.
const RULES: &str = "[migration]\nstage = \"dbus\"\nsteps = [5, 25, 50]\nmin_calls = 20\n\
                     error_margin = 0.02\nlatency_margin = 1000\nledger_flush_ms = 100\n\
                     [executor]\nrequest_id_max = 1000000\n";

/// `config` with a limit that reloads change. One user makes all the calls, and each has a request id that
/// is remembered for minutes.
pub fn limited(config: &str, reads: u32) -> String {
    format!("{config}[limits]\nrequest_ids = 1000000\nread_per_second = {reads}\n")
}

/// A client with the library.
pub struct Client {
    /// What it calls itself, and counts under.
    pub name: String,
    /// It takes gRPC at shares above this.
    pub place: u32,
    pub seen: Arc<Seen>,
}

pub struct Story {
    pub folder: TempDir,
    bus: fixture::Bus,
    pub config: String,
    pub daemon: Option<Daemon>,
    pub proxy: Proxy,
    pub clients: Vec<Client>,
    pub desktop: Script,
    pub python: Option<Script>,
    pub running: JoinSet<()>,
    /// Calls over D-Bus, whatever the stage is.
    pub admin: AgentClient,
}

/// Waits until `condition` holds.
pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < end, "it did not come about that {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Does what would keep the clients waiting.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Where a client stands among 10,000, as the contract says.
fn place(routes: &GetRoutesResponse) -> u32 {
    let text = format!("{}\0{}", routes.routes[0].salt, routes.client);
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let first: [u8; 8] = digest.as_ref()[..8].try_into().unwrap();
    u32::try_from(u64::from_be_bytes(first) % 10_000).unwrap()
}

impl Story {
    /// Everything runs, at stage `dbus`: of the clients, one goes over with each step.
    pub async fn begin() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bus = fixture::Bus::start();
        let socket = folder.path().join("grpc.sock");
        let config = format!(
            "[dbus]\nbus = {:?}\n[grpc]\nunix = {socket:?}\n[storage]\npath = {:?}\n{RULES}",
            bus.address,
            folder.path().join("state")
        );
        let daemon = Prepared::new(&limited(&config, 100_000)).start();
        let proxy = Proxy::new(folder.path().join("proxy.sock"), &socket);
        let settings = Settings {
            addresses: vec![GrpcAddress::Unix(proxy.path.clone())],
            bus: Bus::Address(bus.address.clone()),
            max_retries: 50,
            ..Settings::default()
        };
        let admin = AgentClient::new(&Settings { via: Via::Dbus, ..settings.clone() });
        let (mut clients, mut running) = (Vec::new(), JoinSet::new());
        let mut names = (0..).map(|number| format!("rust-{number}"));
        for places in [0..500, 500..2500, 500..2500, 2500..5000, 5000..10_000] {
            let (name, place) = loop {
                let request = GetRoutesRequest { name: names.next().unwrap() };
                let name = request.name.clone();
                let routes: Result<GetRoutesResponse, Error> =
                    MigrationClient::new(admin.clone()).get_routes(request).await;
                let place = place(&routes.unwrap());
                if places.contains(&place) {
                    break (name, place);
                }
            };
            let seen = Arc::new(Seen::default());
            let settings = Settings { client_name: Some(name.clone()), ..settings.clone() };
            let client = AgentClient::new(&settings);
            running.spawn(count(client, name.clone(), Arc::clone(&seen)));
            clients.push(Client { name, place, seen });
        }
        let desktop = Script::desktop(&bus.address);
        let (daemon, python) = (Some(daemon), None);
        let mut story =
            Self { folder, bus, config, daemon, proxy, clients, desktop, python, running, admin };
        if let Some(interpreter) = std::env::var_os(PYTHON) {
            story.add_python(interpreter.to_str().unwrap(), &settings).await;
        }
        story
    }

    async fn add_python(&mut self, interpreter: &str, settings: &Settings) {
        let seen = Arc::new(Seen::default());
        let script = Script::python((interpreter, 500..2500), &self.bus.address, settings, &seen);
        until("Python has a name", async || {
            assert_eq!(seen.problems.lock().unwrap()[..], [""; 0], "Python");
            script.last("is ").1.is_some()
        })
        .await;
        let words = script.last("is ").1.unwrap();
        let (name, place) = words.split_once(' ').unwrap();
        let (name, place) = (name.to_owned(), place.parse().unwrap());
        self.clients.push(Client { name, place, seen });
        self.python = Some(script);
    }

    pub fn socket(&self) -> String {
        format!("unix:{}", self.folder.path().join("grpc.sock").display())
    }

    /// `op-dbusctl migration`, past the proxy.
    pub async fn migration(&self, words: &[&str]) -> Output {
        let mut command = command();
        command.args(["--address", &self.socket(), "migration"]).args(words);
        blocking(move || command.output().unwrap()).await
    }

    pub async fn rule(&self) -> RuleState {
        let client = MigrationClient::new(self.admin.clone());
        let stages: ListStagesResponse =
            client.list_stages(ListStagesRequest::default()).await.unwrap();
        stages.rules.into_iter().find(|rule| rule.name == "default").unwrap()
    }

    /// What the ledger knows of one client's calls over one way.
    pub async fn uses(&self, client: Option<&str>, way: Way) -> Vec<Use> {
        let filter = UseFilter {
            way: Some(way),
            agent: Some("memory".into()),
            client: client.map(str::to_owned),
            since: None,
        };
        let page = Page { size: 1000, token: "" };
        self.admin.list_uses(&filter, page, &CallOptions::default()).await.unwrap().message.uses
    }

    pub async fn increments(&self, client: &str, way: Way) -> u64 {
        let uses = self.uses(Some(client), way).await.into_iter();
        uses.filter(|it| it.operation == "memory.Increment").map(|it| it.calls).sum()
    }
}
