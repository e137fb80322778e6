//! Calls on which the policy leaves the decision to polkit: a real daemon, an authority on its bus, and a
//! client on each transport.

mod gone;
mod mock;
mod waiting;

use std::fs;
use std::path::Path;

use op_dbus::client::{
    AgentClient, Bus, CallOptions, Credentials, Error, Failure, GrpcAddress, Target,
};
use op_dbus::error::ErrorKind;
use serde_json::json;

use crate::process::{Daemon, Prepared};
use mock::{Mock, Says};

/// The rules: polkit decides on what the probe does, but not on what it reads.
const RULES: &str =
    "[[policy]]\nagents = [\"probe\"]\nrisk_at_least = \"write\"\ndecision = \"auth\"\n";

/// What nobody but the agent may see.
const SECRET: &str = "canary-77ab";

/// The ways to call: over D-Bus and over the Unix socket.
const WAYS: [usize; 2] = [0, 1];

/// A daemon that asks the polkit on its own bus, and a client on each transport.
struct World {
    daemon: Daemon,
    clients: [AgentClient; 2],
}

impl World {
    async fn new(config: &str) -> Self {
        let prepared = Prepared::new("");
        let bus = prepared.bus.address.clone();
        let config = format!("[polkit]\nbus = {bus:?}\n{config}\n{RULES}");
        fs::write(prepared.folder.path().join("grpc.toml.d/50-test.toml"), config).unwrap();
        let daemon = prepared.start();
        let clients = [client(&daemon, 0).await, client(&daemon, 1).await];
        Self { daemon, clients }
    }

    async fn mock(&self, says: Says) -> Mock {
        Mock::start(&self.daemon.bus.address, says).await
    }

    /// Makes a call that polkit is asked about.
    async fn call(&self, way: usize, options: &CallOptions) -> Result<(), Failure> {
        call(&self.clients[way], "Count", json!({}), options).await
    }
}

async fn client(daemon: &Daemon, way: usize) -> AgentClient {
    let bus = Bus::Address(daemon.bus.address.clone());
    let target = match way {
        0 => Target::Dbus { bus, name: "org.opdbus.Agents1".to_owned() },
        _ => Target::Grpc(GrpcAddress::Unix(daemon.grpc_socket())),
    };
    AgentClient::connect(&[target], &Credentials::default()).await.unwrap()
}

async fn call(
    client: &AgentClient,
    operation: &str,
    arguments: serde_json::Value,
    options: &CallOptions,
) -> Result<(), Failure> {
    match client.call_json("probe", operation, &arguments.to_string(), options).await {
        Ok(_) => Ok(()),
        Err(Error::Failed(failure)) => Err(failure),
        Err(error) => panic!("{error}"),
    }
}

fn interactive() -> CallOptions {
    CallOptions { interactive: true, ..CallOptions::default() }
}

#[track_caller]
fn refused(outcome: Result<(), Failure>, kind: ErrorKind, text: &str) -> Failure {
    let failure = outcome.expect_err("it must be refused");
    assert_eq!(failure.kind, kind, "{failure:?}");
    assert!(failure.message.contains(text), "{failure:?}");
    failure
}

#[tokio::test]
async fn polkit_is_told_who_wants_to_do_what_and_is_obeyed() {
    let world = World::new("").await;
    let mock = world.mock(Says::Yes).await;
    let uid = i32::try_from(nix::unistd::geteuid().as_raw()).unwrap();
    for way in WAYS {
        mock.says(Says::Yes);
        // What the agent itself says of it does not matter here: it was let in.
        let request = json!({"text": "all of it", "secret": SECRET});
        let outcome = call(&world.clients[way], "Guarded", request, &CallOptions::default()).await;
        refused(outcome, ErrorKind::ApprovalRequired, "approve");
        let asked = mock.next().await;
        assert_eq!((asked.action.as_str(), asked.flags), ("org.opdbus.write", 0));
        for (name, value) in [("agent", "probe"), ("operation", "Guarded"), ("risk", "write")] {
            assert_eq!(asked.details[name], value);
        }
        let target = &asked.details["target"];
        assert!(target.contains("all of it") && !target.contains(SECRET), "{target}");
        if way == 0 {
            assert_eq!(asked.kind, "system-bus-name");
            let name: String = asked.subject["name"].try_clone().unwrap().try_into().unwrap();
            assert!(name.starts_with(':'), "{name}");
        } else {
            assert_eq!(asked.kind, "unix-process");
            let number = |name: &str| asked.subject[name].try_clone().unwrap();
            assert_eq!(u32::try_from(number("pid")).unwrap(), std::process::id());
            assert_eq!(i32::try_from(number("uid")).unwrap(), uid);
            assert!(u64::try_from(number("start-time")).unwrap() > 0);
            assert!(asked.subject.contains_key("pidfd"), "{asked:?}");
        }

        mock.says(Says::No);
        let outcome = world.call(way, &CallOptions::default()).await;
        let failure = refused(outcome, ErrorKind::AccessDenied, "probe.Count is not allowed");
        assert!(!failure.message.contains("polkit"), "{failure:?}");
        assert_eq!(mock.asked().len(), 1, "no answer is kept");
    }
    let log = world.daemon.stop();
    assert!(log.contains("polkit says no"), "{log}");
}

#[tokio::test]
async fn somebody_is_asked_to_authenticate_only_if_the_client_allows_it() {
    let world = World::new("").await;
    let mock = world.mock(Says::YesIfAsked).await;
    for way in WAYS {
        mock.says(Says::YesIfAsked);
        let outcome = world.call(way, &CallOptions::default()).await;
        let failure = refused(outcome, ErrorKind::ApprovalRequired, "opdbus-interactive: true");
        if way == 1 {
            assert_eq!(failure.facts["authorization"], "interactive");
        }
        world.call(way, &interactive()).await.unwrap();
        let flags: Vec<u32> = mock.asked().iter().map(|asked| asked.flags).collect();
        assert_eq!(flags, [0, 1]);
        mock.says(Says::NobodyToAsk);
        let outcome = world.call(way, &interactive()).await;
        refused(outcome, ErrorKind::ApprovalRequired, "nothing is there that could ask");
        mock.says(Says::Dismissed);
        let outcome = world.call(way, &interactive()).await;
        refused(outcome, ErrorKind::AccessDenied, "is not allowed");
        mock.asked();
    }
}

#[tokio::test]
async fn nobody_is_asked_about_callers_without_a_process() {
    let folder = tempfile::tempdir().unwrap();
    let text = crate::ctl::stdout(
        &crate::ctl::command().args(["token", "new", "ci", "--user", "4711"]).output().unwrap(),
    );
    let token = text.lines().find(|line| line.starts_with("opdbus_")).unwrap();
    let port = crate::grpc::callers::free_port("127.0.0.1");
    let lines = &text[text.find("[[grpc.token]]").unwrap()..];
    let world = World::new(&format!("[grpc]\ntcp = \"127.0.0.1:{port}\"\n{lines}")).await;
    let mock = world.mock(Says::Yes).await;
    let file = folder.path().join("token");
    fs::write(&file, token).unwrap();
    let socket = format!("unix:{}", world.daemon.grpc_socket().display());
    let tcp = format!("http://127.0.0.1:{port}");
    let file = file.display().to_string();
    for arguments in
        [&["--address", &socket, "--token-file", &file], &["--address", &tcp, "--timeout", "10s"]]
    {
        let mut command = crate::ctl::command();
        let output = command.args(arguments).args(["call", "-i", "probe", "count"]).output();
        let output = output.unwrap();
        let said = crate::ctl::stderr(&output);
        assert!(said.contains("ACCESS_DENIED"), "{arguments:?}: {output:?}");
    }
    assert!(mock.asked().is_empty());
    world.daemon.wait_for_log("polkit cannot be asked about this caller");
}

#[test]
fn the_file_for_polkit_is_what_the_risks_give() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dbus/org.opdbus.policy");
    let expected = op_dbus::polkit::policy_file();
    for risk in ["read", "write", "execute", "deploy", "admin"] {
        assert!(expected.contains(&format!("<action id=\"org.opdbus.{risk}\">")), "{expected}");
    }
    if std::env::var_os("OPDBUS_BLESS").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(kept, expected, "dbus/org.opdbus.policy differs; OPDBUS_BLESS=1 renews it");
}
