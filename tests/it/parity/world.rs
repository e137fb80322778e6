//! The service on both transports for the calls of one way, with a client of every user; what the
//! service has counted and recorded of them, beside what it should have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use op_dbus::audit::{self, Filter, Kind};
use op_dbus::contract::{Contract, Operation, Running};
use op_dbus::error::Error;
use op_dbus::executor::Config;
use op_dbus::host::worker::{OwnUid, Process, Starter};
use op_dbus::transport::{dbus, grpc};

use super::call::{Call, MAX_REQUEST_BYTES, Said, Way};
use super::client::Client;
use super::older;
use super::roles::Role;
use crate::fixture::{Bus, Parts, Service};

/// How often a call was counted: agent, operation, transport, interface, outcome.
pub type Counts = BTreeMap<[String; 5], u64>;

/// What was recorded of an operation: kind, uid, decision, rule and outcome, and how often. Refusals that
/// are the same stand in one record, however many they are.
pub type Records = BTreeMap<(String, String), BTreeMap<String, usize>>;

/// What batches call here, and what is started as a task: how often follows from theirs.
const CALLED_BY_CALLS: [(&str, &str); 3] =
    [("memory", "Recall"), ("probe", "Generate"), ("probe", "Nothing")];

/// What bounds requests over gRPC, and D-Bus has another name for.
const LARGEST: &str = "grpc.max_request_bytes";

pub struct World {
    pub way: Way,
    pub service: Service,
    pub contract: Arc<Contract>,
    clients: BTreeMap<Role, Client>,
    sockets: [PathBuf; 2],
    /// What should be counted.
    tally: Mutex<Counts>,
    _servers: (dbus::Server, grpc::Server),
    _bus: Bus,
}

/// Starts workers for everybody, though none but under the uid of the tests.
struct ForEverybody(OwnUid);

impl Starter for ForEverybody {
    fn describe(&self) -> String {
        self.0.describe()
    }

    fn admits(&self, _uid: u32) -> Result<(), Error> {
        Ok(())
    }

    fn start<'a>(&'a self, uid: u32, profile: &'a str) -> Running<'a, Process> {
        self.0.start(uid, profile)
    }
}

impl World {
    pub async fn start(way: Way, config: Config) -> Self {
        // More calls at once than a system bus allows by itself.
        let bus = Bus::start_with("<limit name=\"max_replies_per_connection\">4096</limit>");
        let starter = Box::new(ForEverybody(OwnUid::running(env!("CARGO_BIN_EXE_op-dbusd"))));
        let service = Service::of(config, Parts { is_audited: true, starter, ..Parts::default() });
        let (executor, status) = (&service.executor, &service.status);
        let config = dbus::Config {
            bus: dbus::Bus::Address(bus.address.clone()),
            name: "org.opdbus.Agents1".to_owned(),
            max_body_bytes: MAX_REQUEST_BYTES,
            legacy: dbus::LegacyName::all().collect(),
        };
        let over_dbus =
            dbus::start(config, Arc::clone(executor), Arc::clone(status)).await.unwrap();
        let path = service.folder.path().join("grpc.sock");
        let config = grpc::Config {
            unix: Some(grpc::UnixSocket { path: path.clone(), mode: 0o666, group: None }),
            inherited: Vec::new(),
            tcp: None,
            tls: None,
            access: grpc::Access::default(),
            max_request_bytes: MAX_REQUEST_BYTES,
            max_response_bytes: 16 * 1024 * 1024,
            max_connections: 64,
            max_connections_per_uid: 64,
        };
        let over_grpc =
            grpc::start(config, Arc::clone(executor), Arc::clone(status)).await.unwrap();
        let sockets = [PathBuf::from(bus.address.strip_prefix("unix:path=").unwrap()), path];
        let contract = Arc::new(Contract::built_in().unwrap());
        let mut world = Self {
            way,
            service,
            contract,
            clients: BTreeMap::new(),
            sockets,
            tally: Mutex::default(),
            _servers: (over_dbus, over_grpc),
            _bus: bus,
        };
        world.sockets.iter().for_each(|socket| open_to_all(socket));
        for role in Role::here() {
            world.clients.insert(role, world.connect(role).await);
        }
        world
    }

    /// One more client of a user.
    pub async fn connect(&self, role: Role) -> Client {
        let [bus, grpc] = &self.sockets;
        Client::connect(role, &self.contract, bus, grpc).await
    }

    pub fn client(&self, role: Role) -> &Client {
        &self.clients[&role]
    }

    pub fn operation(&self, agent: &str, name: &str) -> Arc<Operation> {
        self.client(Role::Owner).operation(agent, name)
    }

    /// Makes a call over the way of this world.
    pub async fn call(&self, role: Role, call: &Call) -> Said {
        let said = self.client(role).call(self.way, call).await;
        self.note(&call.operation, &said);
        said
    }

    /// Notes what should be counted of a call.
    pub fn note(&self, operation: &Operation, said: &Said) {
        let [transport, interface] = self.way.for_operation(operation).labels();
        let mut tally = self.tally.lock().unwrap();
        for (agent, name, outcome) in &said.counted {
            let key = [agent, name, transport, interface, outcome].map(ToString::to_string);
            *tally.entry(key).or_default() += 1;
        }
    }

    /// What the service has counted.
    pub fn counts(&self) -> Counts {
        let text = self.service.executor.metrics().render().unwrap();
        let count = |line: &str| {
            let (labels, count) = line.strip_prefix("opdbus_calls_total{")?.split_once("} ")?;
            let value = |name: &str| {
                let rest = labels.split_once(&format!("{name}=\"")).unwrap().1;
                rest.split('"').next().unwrap().to_owned()
            };
            let labels = ["agent", "operation", "transport", "interface", "outcome"].map(value);
            let count: f64 = count.parse().unwrap();
            (count > 0.0).then(|| (labels, count.round().to_string().parse().unwrap()))
        };
        text.lines().filter_map(count).collect()
    }

    /// The value of one line of the metrics.
    pub fn metric(&self, line: &str) -> f64 {
        let text = self.service.executor.metrics().render().unwrap();
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// What the service has counted but should not have, and the other way round: every call that was
    /// made counts once, on the way that it came by.
    pub fn miscounted(&self) -> Vec<String> {
        let told = |counts: &Counts| -> Counts {
            let is_told = |[agent, name, ..]: &[String; 5]| {
                // What the older interface does besides is its own.
                let is_beside = self.way == Way::Older
                    && (older::makes_more_calls(agent, name)
                        || matches!(name.as_str(), "List" | "Load" | "Recall"));
                !is_beside && !CALLED_BY_CALLS.contains(&(agent, name))
            };
            counts.iter().filter(|(key, _)| is_told(key)).map(|(k, n)| (k.clone(), *n)).collect()
        };
        let (found, expected) = (told(&self.counts()), told(&self.tally.lock().unwrap()));
        assert!(!expected.is_empty(), "nothing was counted on {:?}", self.way);
        let keys: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
        let differing = keys.into_iter().filter(|key| found.get(*key) != expected.get(*key));
        let problem = |key: &[String; 5]| {
            let [found, expected] = [&found, &expected].map(|counts| counts.get(key).copied());
            format!("{:?} counts {key:?} {found:?} times, not {expected:?}", self.way)
        };
        differing.map(problem).collect()
    }

    /// Ends the audit log and gives what is in it of calls, each of which came by this transport.
    pub async fn records(&self) -> Records {
        self.service.audit.as_ref().unwrap().close().await;
        let folder = self.service.folder.path().join(audit::FOLDER);
        let found = audit::search(&folder, &Filter::default(), usize::MAX).unwrap();
        assert_eq!(found.unreadable, 0);
        let mut records = Records::new();
        for record in found.records {
            if !matches!(record.kind, Kind::Call | Kind::Start | Kind::End | Kind::Refused) {
                continue;
            }
            // Refusals of so many kinds that each has no record of its own.
            if record.kind == Kind::Refused && record.uid.is_none() {
                continue;
            }
            assert_eq!(record.transport, self.way.transport().name(), "{record:?}");
            let what = format!(
                "{} uid {:?} {} by {:?}: {}",
                record.kind.name(),
                record.uid,
                record.decision,
                record.rule,
                record.outcome
            );
            // One that is too large belongs to no operation, and each transport has a bound of its own.
            let is_call = !record.agent.is_empty();
            let of = if is_call { record.operation.clone() } else { String::new() };
            let of = (record.agent.clone(), of);
            let what = if is_call { what } else { what.replace("dbus.max_body_bytes", LARGEST) };
            let count = records.entry(of).or_default().entry(what).or_default();
            *count = if record.kind == Kind::Refused { 1 } else { *count + 1 };
        }
        records
    }
}

/// Lets everybody connect to a socket in a folder of one's own.
fn open_to_all(socket: &Path) {
    fs::set_permissions(socket.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(socket, Permissions::from_mode(0o666)).unwrap();
}
