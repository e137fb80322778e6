//! What the tests stand on: a private bus and an executor with every agent, in folders of their own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use op_dbus::agents::{self, Setup};
use op_dbus::audit::{self, Audit};
use op_dbus::call::{Context, Transport};
use op_dbus::contract::RawRequests;
use op_dbus::daemon::compose;
use op_dbus::error::Error;
use op_dbus::executor::{Authority, Config, Decision, Executor, Input, Policy, Rule, Who};
use op_dbus::host::worker::{self, OwnUid, Starter, Workers};
use op_dbus::metrics::Metrics;
use op_dbus::migration;
use op_dbus::proto::opdbus::v1::StartSessionRequest;
use op_dbus::registry::Registry;
use op_dbus::session::{self, Holder, Sessions, Start};
use op_dbus::status::Status;
use op_dbus::storage::{self, Durability};
use op_dbus::task::{Event, Tasks};
use prost::Message;
use tempfile::TempDir;

use crate::process::PATIENCE;

/// A private `dbus-daemon` that ends with this value.
pub struct Bus {
    pub address: String,
    process: Child,
    folder: TempDir,
}

impl Bus {
    /// Starts a bus that lets everybody do everything.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts a bus whose configuration ends with `policy`.
    pub fn start_with(policy: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("bus.conf"), bus_config(folder.path(), policy)).unwrap();
        let process = daemon(folder.path());
        let address = format!("unix:path={}/bus", folder.path().display());
        Self { address, process, folder }
    }

    /// Ends the bus.
    pub fn kill(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }

    /// Starts the bus again, at the same address.
    pub fn restart(&mut self) {
        self.kill();
        fs::remove_file(self.folder.path().join("bus")).ok();
        self.process = daemon(self.folder.path());
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a `dbus-daemon` with the configuration in `folder` and waits until it can be reached.
fn daemon(folder: &Path) -> Child {
    let mut process = Command::new("dbus-daemon")
        .arg(format!("--config-file={}", folder.join("bus.conf").display()))
        .args(["--nofork", "--nosyslog", "--print-address=1"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("dbus-daemon must be installed");
    let mut address = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
    assert!(address.starts_with("unix:"), "dbus-daemon did not say its address");
    process
}

fn bus_config(folder: &Path, policy: &str) -> String {
    format!(
        r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={}/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/>
<allow receive_sender="*"/></policy>{policy}</busconfig>"#,
        folder.display()
    )
}

/// The defaults, with a policy that lets everybody do everything: the tests run as whoever runs them.
pub fn open() -> Config {
    saying(Decision::Allow)
}

/// The defaults, with a policy that refuses everything.
pub fn denying() -> Config {
    saying(Decision::Deny)
}

fn saying(decision: Decision) -> Config {
    let policy = Policy::new(vec![Rule::for_all(Who::everybody(), decision)]);
    Config { policy, ..Config::default() }
}

/// An executor in this process.
pub struct Service {
    pub executor: Arc<Executor>,
    pub status: Arc<Status>,
    pub migration: compose::Migration,
    pub folder: TempDir,
    /// None unless calls are recorded.
    pub audit: Option<Arc<Audit>>,
}

/// What a service has besides.
pub struct Parts {
    /// Who is asked about calls.
    pub authority: Option<Arc<dyn Authority>>,
    /// Whether calls are recorded.
    pub is_audited: bool,
    /// What starts the workers.
    pub starter: Box<dyn Starter>,
}

impl Default for Parts {
    fn default() -> Self {
        // The program of a worker is op-dbusd, which this process is not.
        let starter = Box::new(OwnUid::running(env!("CARGO_BIN_EXE_op-dbusd")));
        Self { authority: None, is_audited: false, starter }
    }
}

impl Service {
    /// An executor with every agent, the probe included.
    pub fn new(config: Config) -> Self {
        Self::starting(config, &compose::Starts::default(), tempfile::tempdir().unwrap())
    }

    /// Ends this one and begins another on what it has left behind.
    pub async fn again(self, config: Config) -> Self {
        let Self { executor, migration, folder, .. } = self;
        let migration_held = Arc::downgrade(&migration.rollout);
        let ledger_held = Arc::downgrade(&migration.ledger);
        let held = Arc::downgrade(&executor);
        drop((executor, migration));
        // What runs apart lets go of the databases, which only one may hold, when it has its turn.
        let is_held =
            || held.strong_count() + migration_held.strong_count() + ledger_held.strong_count() > 0;
        let patience = Instant::now() + PATIENCE;
        while is_held() && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self::starting(config, &compose::Starts::default(), folder)
    }

    /// The same with other times for agents to start and stop, on what `folder` holds.
    pub fn starting(config: Config, starts: &compose::Starts, folder: TempDir) -> Self {
        Self::build(config, starts, folder, Parts::default())
    }

    /// An executor with every agent that asks `authority`.
    pub fn asking(config: Config, authority: Arc<dyn Authority>) -> Self {
        Self::of(config, Parts { authority: Some(authority), ..Parts::default() })
    }

    /// An executor with every agent and these parts.
    pub fn of(config: Config, parts: Parts) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::build(config, &compose::Starts::default(), folder, parts)
    }

    fn build(config: Config, starts: &compose::Starts, folder: TempDir, parts: Parts) -> Self {
        let status = Arc::new(Status::default());
        let setup = Setup {
            storage: storage::Config {
                path: folder.path().to_owned(),
                durability: Durability::Normal,
            },
            metrics: Arc::new(Metrics::new().unwrap()),
            status: Arc::clone(&status),
            settings: agents::Settings::default(),
        };
        let Parts { authority, is_audited, starter } = parts;
        let workers = worker::Config { min_uid: 0, ..worker::Config::default() };
        let workers = Workers::new(workers, starter, Arc::clone(&setup.metrics));
        let audit = is_audited.then(|| {
            let kept = audit::Config::in_state(folder.path());
            let kept =
                audit::Config { journal: false, durability: audit::Durability::Soon, ..kept };
            Audit::open(&kept, Arc::clone(&status)).unwrap()
        });
        let executor =
            compose::executor(config, &setup, starts, &workers, audit.clone(), authority).unwrap();
        let moving = migration::Config::default();
        let migration = compose::migration(&executor, moving, &setup, None).unwrap();
        Self { executor, status, migration, folder, audit }
    }

    /// Starts a session of a user, unless it is there; waits until agents have forgotten one before it.
    pub async fn session(&self, uid: u32, id: &str) {
        let sessions = self.executor.sessions();
        if sessions.get(uid, id).is_ok() {
            return;
        }
        let request = StartSessionRequest {
            client_name: "test".into(),
            session_id: id.into(),
            ..StartSessionRequest::default()
        };
        let start = Start::check(request, &session::Config::default()).unwrap();
        let begun = sessions.begin(uid, Transport::Grpc, start, Holder::Nothing).await;
        begun.unwrap().told();
    }

    /// Calls an operation that has a stream on one side or both, with these requests; an error breaks
    /// the stream. Gives the replies if the call ends well.
    pub async fn stream<R: Message, A: Message + Default>(
        &self,
        (agent, operation): (&str, &str),
        context: Context,
        requests: impl IntoIterator<Item = Result<R, Error>>,
    ) -> Result<Vec<A>, Error> {
        let route = self.executor.find(agent, operation)?;
        let (sender, received) = RawRequests::bounded(1);
        let mut reader =
            self.executor.start_reading(&route, context, Input::Many(received), false).await?;
        let feed = async move {
            for request in requests {
                let request = request.map(|request| request.encode_to_vec().into());
                if sender.send(request).await.is_err() {
                    return;
                }
            }
        };
        let read = async {
            let mut replies = Vec::new();
            loop {
                match reader.next().await.expect("a task says how it ended") {
                    Event::Message(message) => replies.push(A::decode(message.payload).unwrap()),
                    Event::Gap { from, to } => panic!("{from} to {to} are missing"),
                    Event::Changed => {}
                    Event::Ended(outcome) => return outcome.map(|()| replies),
                }
            }
        };
        tokio::join!(feed, read).1
    }
}

/// Sessions that are recorded below `folder` and know these agents.
pub fn sessions(
    folder: &Path,
    metrics: &Arc<Metrics>,
    status: &Arc<Status>,
    agents: &Arc<dyn session::Agents>,
    config: session::Config,
) -> Arc<Sessions> {
    let storage = storage::Config { path: folder.to_owned(), durability: Durability::Normal };
    let sessions =
        Sessions::open(config, &storage, Arc::clone(metrics), status, Arc::downgrade(agents))
            .unwrap();
    sessions.take_up().unwrap();
    sessions
}

/// An executor for what `registry` holds, with tasks in memory and sessions below `folder`.
pub fn executor_of(
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    status: &Arc<Status>,
    folder: &Path,
) -> Arc<Executor> {
    let config = Config::default();
    let agents: Arc<dyn session::Agents> = Arc::clone(&registry) as _;
    let sessions = sessions(folder, &metrics, status, &agents, config.sessions.clone());
    let tasks = Tasks::in_memory(config.tasks.clone(), &metrics);
    Executor::new(config, registry, metrics, tasks, sessions, None, None)
}

/// Starts the session `id` for the caller of `context`, held by nothing.
pub async fn start_session(executor: &Arc<Executor>, context: Context, id: &str) {
    let request = StartSessionRequest {
        client_name: "test".into(),
        session_id: id.into(),
        ..StartSessionRequest::default()
    };
    let route = executor.find("sessions", "StartSession").unwrap();
    executor.call(&route, context, request.encode_to_vec().into()).await.unwrap();
}
