//! Rules that ask for the login session of a caller: what counts as it on each transport, from folders
//! that stand for the kernel's and logind's.

use std::fs;

use op_dbus::call::{LoginSession, LoginSources};
use op_dbus::executor::{Config, Decision, Policy, Rule, Who};
use op_dbus::proto::opdbus::agent::probe::v1::{CountRequest, CountResponse};
use op_dbus::proto::opdbus::v1 as proto;
use serde_json::json;
use tempfile::TempDir;

use super::{ALICE, ROOT, about, call, context, ruled};
use crate::dbus;
use crate::fixture::{Bus, Service};
use crate::grpc::{self, COUNT, Client};

const PROBE: &str = "/org/opdbus/Agents1/agent/probe";
const EXPLAIN: &str = "/opdbus.v1.PolicyService/Explain";

/// The folders. This process is the client.
struct Folders(TempDir);

impl Folders {
    fn new() -> Self {
        let folders = Self(tempfile::tempdir().unwrap());
        for folder in [folders.process(), folders.0.path().join("sessions")] {
            fs::create_dir_all(folder).unwrap();
        }
        // The bus of the test may pass no pidfd; then the user of the process counts.
        let status = fs::read_to_string("/proc/self/status").unwrap();
        fs::write(folders.process().join("status"), status).unwrap();
        folders
    }

    fn process(&self) -> std::path::PathBuf {
        self.0.path().join("proc").join(std::process::id().to_string())
    }

    fn sources(&self) -> LoginSources {
        let folder = self.0.path();
        LoginSources { processes: folder.join("proc"), sessions: folder.join("sessions") }
    }

    /// Has this process be at this place, and a session 3 with these facts.
    fn say(&self, cgroup: &str, facts: &str) {
        fs::write(self.process().join("cgroup"), format!("0::{cgroup}\n")).unwrap();
        fs::write(self.0.path().join("sessions/3"), facts).unwrap();
    }
}

fn from(login_sessions: Vec<LoginSession>) -> Who {
    Who { login_sessions, ..Who::default() }
}

/// The service on both transports.
struct World {
    folders: Folders,
    bus: Bus,
    service: Service,
    socket: std::path::PathBuf,
    _servers: (op_dbus::transport::dbus::Server, op_dbus::transport::grpc::Server),
}

impl World {
    async fn start() -> Self {
        let (folders, bus) = (Folders::new(), Bus::start());
        let service = Service::new(Config::default());
        let socket = service.folder.path().join("grpc.sock");
        let servers = (
            dbus::start(&bus, &service).await.unwrap(),
            grpc::serve(grpc::config(&socket), &service).await.unwrap(),
        );
        Self { folders, bus, service, socket, _servers: servers }
    }

    /// Refuses Count to callers from these sessions and to nobody else.
    fn refuse(&self, sessions: Vec<LoginSession>) {
        let deny = about("Count", from(sessions), Decision::Deny);
        let all = Rule::for_all(Who::everybody(), Decision::Allow);
        let policy = Policy::new(vec![deny, all]);
        let logins = self.folders.sources();
        self.service.executor.reconfigure(Config { policy, logins, ..Config::default() });
    }

    /// Whether fresh clients may call Count, over D-Bus and over gRPC, and what the second is told of his
    /// login session.
    async fn asked(&self) -> ([bool; 2], proto::LoginSession) {
        let bus = dbus::connect(&self.bus).await;
        let body = (dbus::none(),);
        let over_dbus = dbus::call(&bus, PROBE, Some("org.opdbus.Probe1"), "Count", &body).await;
        if let Err((name, text)) = &over_dbus {
            assert_eq!(name, "org.opdbus.Error.AccessDenied", "{text}");
        }
        let client = Client::unix(&self.socket).await;
        let over_grpc = client.call::<_, CountResponse>(COUNT, CountRequest::default()).await;
        if let Err(status) = &over_grpc {
            assert_eq!(status.code(), tonic::Code::PermissionDenied, "{status}");
        }
        let request =
            proto::ExplainRequest { agent: "probe".to_owned(), operation: "Count".to_owned() };
        let told: proto::ExplainResponse = client.call(EXPLAIN, request).await.unwrap();
        ([over_dbus.is_ok(), over_grpc.is_ok()], told.explanation.unwrap().login_session())
    }
}

#[tokio::test]
async fn a_rule_about_login_sessions_holds_for_those_alone_on_both_transports() {
    let world = World::start().await;
    let scope = "/user.slice/user-7.slice/session-3.scope";
    for (cgroup, facts, expected) in [
        (scope, "REMOTE=0\nTYPE=wayland\nCLASS=user\n", LoginSession::Graphical),
        (scope, "REMOTE=0\nTYPE=tty\nCLASS=user\n", LoginSession::Terminal),
        (scope, "REMOTE=1\nTYPE=tty\nCLASS=user\n", LoginSession::Remote),
        (scope, "REMOTE=0\nTYPE=unspecified\nCLASS=background\n", LoginSession::Background),
        // Named by the user himself, below his manager.
        (
            "/user.slice/user-7.slice/user@7.service/session-3.scope",
            "REMOTE=0\nTYPE=wayland\nCLASS=user\n",
            LoginSession::UserManager,
        ),
        ("/system.slice/cron.service", "", LoginSession::Background),
        (scope, "", LoginSession::Unknown),
        ("/user.slice/user-7.slice/session-4.scope", "REMOTE=0\nTYPE=tty\n", LoginSession::Unknown),
    ] {
        world.folders.say(cgroup, facts);
        world.refuse(vec![expected]);
        let (may, told) = world.asked().await;
        assert_eq!((may, told), ([false; 2], expected.into()), "{cgroup} {facts}");
        let others = LoginSession::ALL.into_iter().filter(|session| *session != expected);
        world.refuse(others.collect());
        assert_eq!(world.asked().await.0, [true; 2], "{cgroup} {facts}");
    }
}

#[tokio::test]
async fn without_a_pidfd_a_process_of_another_user_is_not_the_callers() {
    let world = World::start().await;
    world.folders.say("/system.slice/cron.service", "");
    fs::write(world.folders.process().join("status"), "Uid:\t7\t7\t7\t7\n").unwrap();
    world.refuse(vec![LoginSession::Unknown]);
    let ([over_dbus, over_grpc], told) = world.asked().await;
    // Where the kernel passes a pidfd the process is certain, and its user does not matter.
    assert_eq!(over_grpc, told != proto::LoginSession::Unknown);
    let certain = nix::unistd::getuid().as_raw() == 7 || has_process_fd(&world.bus).await;
    assert_eq!(over_dbus, certain);
}

/// True if the bus passes pidfds of its clients.
async fn has_process_fd(bus: &Bus) -> bool {
    let connection = dbus::connect(bus).await;
    let name = connection.unique_name().unwrap().as_str().to_owned();
    let bus = "org.freedesktop.DBus";
    let reply = connection
        .call_method(
            Some(bus),
            "/org/freedesktop/DBus",
            Some(bus),
            "GetConnectionCredentials",
            &name,
        )
        .await
        .unwrap();
    let credentials = reply.body();
    let credentials: zbus::fdo::ConnectionCredentials = credentials.deserialize().unwrap();
    credentials.process_fd().is_some()
}

#[tokio::test]
async fn who_administers_asks_what_would_come_of_other_ways_to_call() {
    let mut token =
        about("Count", Who { tokens: vec!["ci".into()], ..Who::default() }, Decision::Ask);
    token.origin = "/etc/rules.toml:3".into();
    let remote = about("Count", from(vec![LoginSession::Remote]), Decision::Deny);
    let name = op_dbus::call::CertificateName::either("spiffe://example.org/ci/*").unwrap();
    let certificate = Who { certificates: vec![name], ..Who::default() };
    let service = ruled(vec![token, remote, about("Count", certificate, Decision::Auth)]);
    let explain = |mut by: serde_json::Value| {
        by["user"] = json!(ALICE.to_string());
        (by["agent"], by["operation"]) = (json!("probe"), json!("Count"));
        call(&service, context(ROOT), ("policy", "ExplainUser"), by)
    };
    for (by, decision, session) in [
        (json!({}), "ALLOW", "UNKNOWN"),
        (json!({"token": "ci"}), "ASK", "UNSPECIFIED"),
        (json!({"token": "other"}), "ALLOW", "UNKNOWN"),
        (json!({"certificate": "spiffe://example.org/ci/nightly"}), "AUTH", "UNKNOWN"),
        (json!({"certificate": "spiffe://example.org/chat"}), "ALLOW", "UNKNOWN"),
        (json!({"login_session": "LOGIN_SESSION_REMOTE"}), "DENY", "REMOTE"),
        (json!({"login_session": "LOGIN_SESSION_GRAPHICAL"}), "ALLOW", "GRAPHICAL"),
    ] {
        let found = explain(by.clone()).await.unwrap();
        let found = &found["explanation"];
        assert_eq!(found["decision"], format!("POLICY_DECISION_{decision}"), "{by}");
        assert_eq!(found["login_session"], format!("LOGIN_SESSION_{session}"), "{by}");
    }
    for (by, field) in [
        (json!({"token": "ci", "certificate": "x"}), "certificate"),
        (json!({"token": "ci", "login_session": "LOGIN_SESSION_REMOTE"}), "login_session"),
        (json!({"certificate": "x", "login_session": "LOGIN_SESSION_REMOTE"}), "login_session"),
    ] {
        let error = explain(by).await.unwrap_err();
        assert_eq!(error.fact("field"), Some(field), "{error}");
    }
    let rules = call(&service, context(ROOT), ("policy", "ListRules"), json!({})).await.unwrap();
    let who: Vec<_> = (0..3).map(|rule| rules["rules"][rule]["who"].as_str().unwrap()).collect();
    let expected =
        ["token ci", "everybody in login session remote", "certificate spiffe://example.org/ci/*"];
    assert_eq!(who, expected);
}
