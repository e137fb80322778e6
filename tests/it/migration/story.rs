//! The whole move as an administrator makes it, under steady load: every stage, a broken gRPC path that is
//! taken back by itself, two reloads and a kill. No call is lost, and none is made twice.

use std::collections::BTreeSet;
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use op_dbus::client::{
    AgentClient, Bus, CallOptions, Error, GrpcAddress, MemoryClient, MigrationClient, Page,
    Settings, UseFilter, Via,
};
use op_dbus::proto::opdbus::agent::memory::v1::{RecallRequest, RecallResponse};
use op_dbus::proto::opdbus::v1::{
    GetRoutesRequest, GetRoutesResponse, ListStagesRequest, ListStagesResponse, RuleState, Stage,
    Use, Way,
};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::load::{Script, Seen, count, number};
use crate::client_resilience::proxy::{Answers, Proxy};
use crate::ctl::{command, stderr, stdout};
use crate::fixture;
use crate::process::{Daemon, Prepared};

/// How long anything may take before the test fails; each report of a client waits for five seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many calls each client makes at least before the story goes on.
const STEPS: u64 = 20;

/// Names a Python with the package `op_dbus`; without it the story has no such client.
const PYTHON: &str = "OPDBUS_PYTHON_CLIENT";

/// The margin for slowness is one that no busy machine exceeds: the fault here is another one.
const RULES: &str = "[migration]\nstage = \"dbus\"\nsteps = [5, 25, 50]\nmin_calls = 20\n\
                     error_margin = 0.05\nlatency_margin = 1000\nledger_flush_ms = 100\n\
                     [executor]\nrequest_id_max = 1000000\n";

/// `config` with a limit that reloads change. One user makes all the calls, and each has a request id that
/// is remembered for minutes.
fn limited(config: &str, reads: u32) -> String {
    format!("{config}[limits]\nrequest_ids = 1000000\nread_per_second = {reads}\n")
}

/// A client with the library.
struct Client {
    /// What it calls itself, and counts under.
    name: String,
    /// It takes gRPC at shares above this.
    place: u32,
    seen: Arc<Seen>,
}

struct Story {
    folder: TempDir,
    _bus: fixture::Bus,
    config: String,
    daemon: Option<Daemon>,
    proxy: Proxy,
    clients: Vec<Client>,
    desktop: Script,
    python: Option<Script>,
    running: JoinSet<()>,
    /// Calls over D-Bus, whatever the stage is.
    admin: AgentClient,
}

/// Waits until `condition` holds.
async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < end, "it did not come about that {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Does what would keep the clients waiting.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
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
    async fn begin() -> Self {
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
        let mut story = Self {
            folder,
            _bus: bus,
            config,
            daemon,
            proxy,
            clients,
            desktop,
            python,
            running,
            admin,
        };
        if let Some(interpreter) = std::env::var_os(PYTHON) {
            story.add_python(interpreter.to_str().unwrap(), &settings).await;
        }
        story
    }

    async fn add_python(&mut self, interpreter: &str, settings: &Settings) {
        let seen = Arc::new(Seen::default());
        let script = Script::python(interpreter, 2500, settings, &seen);
        until("Python has a name", async || script.last("is ").1.is_some()).await;
        let words = script.last("is ").1.unwrap();
        let (name, place) = words.split_once(' ').unwrap();
        let (name, place) = (name.to_owned(), place.parse().unwrap());
        self.clients.push(Client { name, place, seen });
        self.python = Some(script);
    }

    fn socket(&self) -> String {
        format!("unix:{}", self.folder.path().join("grpc.sock").display())
    }

    /// `op-dbusctl migration`, past the proxy.
    async fn migration(&self, words: &[&str]) -> Output {
        let mut command = command();
        command.args(["--address", &self.socket(), "migration"]).args(words);
        blocking(move || command.output().unwrap()).await
    }

    /// Takes the next step as soon as it is safe. It must lead to `expected`.
    async fn advance(&self, expected: &str) {
        until("the next step is safe", async || {
            let said = self.migration(&["advance", "default"]).await;
            if said.status.success() {
                assert_eq!(stdout(&said), format!("rule default is at {expected}\n"));
                return true;
            }
            let why = stderr(&said);
            assert!(why.contains("too few calls over "), "on the way to {expected}: {why}");
            false
        })
        .await;
        self.goes_on().await;
    }

    async fn rule(&self) -> RuleState {
        let client = MigrationClient::new(self.admin.clone());
        let stages: ListStagesResponse =
            client.list_stages(ListStagesRequest::default()).await.unwrap();
        stages.rules.into_iter().find(|rule| rule.name == "default").unwrap()
    }

    async fn is_at(&self, stage: Stage, share: u32) {
        let route = self.rule().await.route.unwrap();
        assert_eq!((route.stage(), route.share_per_10000), (stage, share));
    }

    /// Nothing has gone wrong so far.
    fn is_well(&self) {
        for Client { name, seen, .. } in &self.clients {
            assert_eq!(seen.problems.lock().unwrap()[..], [""; 0], "{name}");
        }
        assert_eq!(self.desktop.last("wrong ").1, None);
    }

    /// Each client with the library makes some calls from here on, and all of them well.
    async fn programs_go_on(&self) {
        for Client { name, seen, .. } in &self.clients {
            let before = Seen::of(&seen.counted);
            until(&format!("{name} goes on"), async || {
                self.is_well();
                Seen::of(&seen.counted) > before + STEPS
            })
            .await;
        }
    }

    /// The same, and the desktop script too.
    async fn goes_on(&self) {
        let before = self.desktop.last("done ").0;
        self.programs_go_on().await;
        // One more than what was under way.
        until("the desktop script goes on", async || self.desktop.last("done ").0 > before + 1)
            .await;
        self.is_well();
    }

    /// What the ledger knows of one client's calls over one way.
    async fn uses(&self, client: Option<&str>, way: Way) -> Vec<Use> {
        let filter = UseFilter {
            way: Some(way),
            agent: Some("memory".into()),
            client: client.map(str::to_owned),
            since: None,
        };
        let page = Page { size: 1000, token: "" };
        self.admin.list_uses(&filter, page, &CallOptions::default()).await.unwrap().message.uses
    }

    async fn increments(&self, client: &str, way: Way) -> u64 {
        let uses = self.uses(Some(client), way).await.into_iter();
        uses.filter(|it| it.operation == "memory.Increment").map(|it| it.calls).sum()
    }

    /// The clients below `share` take gRPC, the others do not and never did.
    async fn takes_grpc(&self, share: u32) {
        for Client { name, place, .. } in &self.clients {
            if *place < share {
                let what = format!("{name} takes gRPC");
                until(&what, async || self.increments(name, Way::Grpc).await > 0).await;
            } else {
                assert_eq!(self.increments(name, Way::Grpc).await, 0, "{name} is at {place}");
            }
        }
    }

    /// The answers over both ways were compared and are the same.
    async fn is_compared(&self) {
        until("both ways are compared", async || {
            let options = CallOptions::default();
            let found = self.admin.list_differences(Some("memory.Recall"), &options).await.unwrap();
            let found = found.message.comparisons;
            assert!(found.iter().all(|it| it.differed == 0), "{found:?}");
            found.iter().any(|it| it.compared > 0)
        })
        .await;
    }

    /// The daemon takes up its configuration again, with another limit.
    async fn reload(&mut self, limit: u32) {
        let config = limited(&self.config, limit);
        let daemon = self.daemon.take().unwrap();
        let reload = move || {
            daemon.write_config(&config);
            daemon.signal(Signal::SIGHUP);
            daemon.wait_for("RELOADING=1");
            daemon.wait_for("READY=1");
            daemon
        };
        self.daemon = Some(blocking(reload).await);
    }

    /// gRPC loses every answer, until the rule is taken back and held by itself; then all is well again.
    async fn breaks(&self) {
        until("the rule is taken back", async || {
            // Some calls come through between two losses, so that gRPC is not left alone.
            self.proxy.answer(Answers::LoseNext);
            until("answers are lost", async || self.proxy.passes()).await;
            self.rule().await.held
        })
        .await;
        self.proxy.answer(Answers::Pass);
        self.is_at(Stage::Dbus, 0).await;
        assert_eq!(self.rule().await.route.unwrap().changed_by, "the canary");
        let refused = stderr(&self.migration(&["advance", "default"]).await);
        assert!(refused.contains("it is held by the canary (worse: "), "{refused}");
        self.goes_on().await;
        for Client { name, place, seen } in &self.clients {
            assert_eq!(Seen::of(&seen.unknown), 0, "{name} could make each call again");
            assert_eq!(Seen::of(&seen.lost) > 0, *place < 2500, "{name}");
            until(&format!("{name} has told what it lost"), async || {
                let uses = self.uses(Some(name), Way::Grpc).await;
                uses.iter().map(|it| it.lost).sum::<u64>() == Seen::of(&seen.lost)
            })
            .await;
        }
        assert!(self.migration(&["release", "default"]).await.status.success());
    }

    /// The daemon is killed and started again.
    async fn is_killed(&mut self) {
        assert_eq!(self.desktop.last("again ").1, None);
        let mut daemon = self.daemon.take().unwrap();
        let config = limited(&self.config, 90_000);
        let restart = move || {
            daemon.signal(Signal::SIGKILL);
            daemon.wait();
            Prepared::new(&config).start()
        };
        self.daemon = Some(blocking(restart).await);
        self.goes_on().await;
        for Client { name, seen, .. } in &self.clients {
            assert!(Seen::of(&seen.unknown) <= 1, "{name} had one call under way");
        }
    }

    /// D-Bus has ended: the desktop script is told where its calls went, and the others notice nothing.
    async fn ends_dbus(&mut self) {
        let refused = stderr(&self.migration(&["advance", "default"]).await);
        assert!(refused.contains("calls still came over the older interface"), "{refused}");
        let again = self.desktop.last("again ").0;
        assert!(self.migration(&["advance", "default", "--force"]).await.status.success());
        until("the desktop script is told", async || self.desktop.last("moved ").1.is_some()).await;
        let told = self.desktop.last("moved ").1.unwrap();
        assert!(told.contains(&format!("--address {} call memory", self.socket())), "{told}");
        assert_eq!(self.desktop.last("again ").0, again);
        self.programs_go_on().await;
    }
}

impl Story {
    /// Ends the clients: what was counted is what was answered, but for calls of which nobody knows, and
    /// the ledger has each client over both ways, and the script over the older one alone.
    async fn was_true(mut self) {
        for client in &self.clients {
            client.seen.end();
        }
        while let Some(ended) = self.running.join_next().await {
            ended.unwrap();
        }
        if let Some(python) = self.python.take() {
            python.end();
        }
        let socket = GrpcAddress::Unix(self.folder.path().join("grpc.sock"));
        let settings = Settings { via: Via::Grpc, addresses: vec![socket], ..Settings::default() };
        let memory = MemoryClient::new(AgentClient::new(&settings));
        for Client { name, seen, .. } in &self.clients {
            let request = RecallRequest { key: name.clone(), ..RecallRequest::default() };
            let recalled: Result<RecallResponse, Error> = memory.recall(request).await;
            let value = number(recalled.unwrap()).unwrap();
            let (counted, unknown) = (Seen::of(&seen.counted), Seen::of(&seen.unknown));
            assert!(
                (counted..=counted + unknown).contains(&value),
                "{name}: {value} were carried out; {counted} were answered, of {unknown} nobody knows"
            );
            assert!(self.increments(name, Way::Dbus).await > 0, "{name}");
            assert!(self.increments(name, Way::Grpc).await > 0, "{name}");
            assert!(self.uses(Some(name), Way::Legacy).await.is_empty(), "{name}");
        }
        let older = self.uses(None, Way::Legacy).await;
        let operations: BTreeSet<&str> = older.iter().map(|it| &*it.operation).collect();
        assert_eq!(operations, BTreeSet::from(["memory.Recall", "memory.Remember"]));
    }
}

#[tokio::test]
async fn clients_under_load_move_from_dbus_to_grpc_and_no_call_is_lost_or_made_twice() {
    let mut story = Story::begin().await;
    story.goes_on().await;
    story.advance("shadow").await;
    story.is_compared().await;
    story.takes_grpc(0).await;
    story.advance("canary 5 %").await;
    story.takes_grpc(500).await;
    story.reload(90_000).await;
    story.is_at(Stage::Canary, 500).await;
    story.advance("canary 25 %").await;
    story.takes_grpc(2500).await;
    story.breaks().await;
    for stage in ["shadow", "canary 5 %", "canary 25 %"] {
        story.advance(stage).await;
    }
    story.takes_grpc(2500).await;
    story.advance("canary 50 %").await;
    story.takes_grpc(5000).await;
    story.is_killed().await;
    story.is_at(Stage::Canary, 5000).await;
    story.advance("grpc").await;
    story.takes_grpc(10_000).await;
    story.reload(80_000).await;
    story.goes_on().await;
    let memory = MemoryClient::new(story.admin.clone());
    let recall = |key: &str| RecallRequest { key: key.into(), ..RecallRequest::default() };
    let still: Result<RecallResponse, Error> = memory.recall(recall("host")).await;
    still.expect("D-Bus answers at stage grpc");
    story.ends_dbus().await;
    story.was_true().await;
}
