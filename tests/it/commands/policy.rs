//! The rules: on the file that is really executed and on its arguments, behind wrappers and links. The
//! agent runs in this process, with settings of the test's.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use op_dbus::agents::commands::{self, Config, Decision, Rule};
use op_dbus::agents::{InWorker, WorkerSettings};
use op_dbus::call::{Attested, Caller, Context, Identity, Transport};
use op_dbus::contract::Contract;
use op_dbus::error::{Error, ErrorKind};
use op_dbus::executor::Executor;
use op_dbus::host::Local;
use op_dbus::metrics::Metrics;
use op_dbus::process::{self, Runner};
use op_dbus::proto::opdbus::agent::commands::v1::{
    ExecRequest, ExecResponse, ExecShellRequest, ExecShellResponse, ListRequest, ListResponse, Run,
    StartRequest, StartResponse, Stdin, WaitRequest, WaitResponse,
};
use op_dbus::registry::Registry;
use op_dbus::status::Status;
use prost::Message;
use tempfile::TempDir;

use super::{found, seconds, words};
use crate::fixture::executor_of;

/// The agent with settings of its own.
pub(super) struct Place {
    executor: Arc<Executor>,
    settings: Arc<ArcSwap<WorkerSettings>>,
    folder: TempDir,
}

impl Place {
    pub(super) fn new(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let temporary = folder.path().join("temporary");
        std::fs::create_dir(&temporary).unwrap();
        let settings = Arc::new(ArcSwap::from_pointee(WorkerSettings { commands: config }));
        let worker =
            InWorker { profile: "exec".into(), cgroup: None, settings: Arc::clone(&settings) };
        let runner = Runner::new(process::Config {
            stub: env!("CARGO_BIN_EXE_op-dbusd").into(),
            temporary,
            cgroup: None,
        });
        let registry = Arc::new(Registry::default());
        let agent = Arc::new(Local::new(commands::at_caller(&worker, &runner)));
        let contract = Contract::built_in().unwrap();
        registry.register(&contract, "opdbus.agent.commands.v1.CommandsService", agent).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let status = Arc::new(Status::default());
        let executor = executor_of(registry, metrics, &status, folder.path());
        Self { executor, settings, folder }
    }

    fn with(rules: Vec<Rule>) -> Self {
        Self::new(Config { rules, ..Config::default() })
    }

    /// Where the agent has its temporary files.
    pub(super) fn temporary(&self) -> PathBuf {
        self.folder.path().join("temporary")
    }

    pub(super) async fn call<Q: Message, A: Message + Default>(
        &self,
        operation: &str,
        request: Q,
    ) -> Result<A, Error> {
        let uid = nix::unistd::geteuid().as_raw();
        let identity = Identity::User { uid, gid: None };
        let caller = Caller::new(identity, Attested::Kernel, "test");
        let context = Context::new(Arc::new(caller), Transport::Grpc);
        let route = self.executor.find("commands", operation)?;
        let answer = self.executor.call(&route, context, request.encode_to_vec().into()).await?;
        Ok(A::decode(answer).unwrap())
    }

    pub(super) async fn exec(&self, argv: &[&str]) -> Result<ExecResponse, Error> {
        let request = ExecRequest {
            argv: words(argv),
            directory: self.folder.path().display().to_string(),
            r#yield: seconds(20),
            ..ExecRequest::default()
        };
        self.call("Exec", request).await
    }

    async fn start(&self, argv: &[&str]) -> Result<StartResponse, Error> {
        let request = StartRequest {
            argv: words(argv),
            directory: self.folder.path().display().to_string(),
            ..StartRequest::default()
        };
        self.call("Start", request).await
    }
}

fn rule(decision: Decision, program: &str) -> Rule {
    Rule {
        decision,
        program: Some(program.into()),
        arguments: None,
        users: Vec::new(),
        groups: Vec::new(),
        reason: "as the test has it".into(),
    }
}

#[track_caller]
fn denied<T: std::fmt::Debug>(outcome: Result<T, Error>, text: &str) -> Error {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AccessDenied, "{error}");
    assert!(error.message().contains(text), "{error}");
    error
}

#[tokio::test]
async fn a_program_is_denied_by_what_is_really_executed() {
    let place = Place::with(vec![rule(Decision::Deny, &found("uname"))]);
    let link = place.folder.path().join("harmless");
    symlink(found("uname"), &link).unwrap();
    let link = link.display().to_string();
    for argv in [
        &["uname"] as &[&str],
        &[&found("uname")],
        &[&link],
        &["env", "A=b", "uname", "-a"],
        &["nice", "-n", "3", "timeout", "5", "uname"],
        &["setsid", "-w", "stdbuf", "-oL", "uname"],
        &["xargs", "-n1", "uname"],
        &["find", ".", "-exec", "uname", "{}", ";"],
    ] {
        let error = denied(place.exec(argv).await, "as the test has it");
        assert_eq!(error.fact("rule"), Some("commands.rule 1"), "{argv:?}");
    }
    place.exec(&["env", "true"]).await.unwrap();
    // What cannot be told is not let through.
    denied(place.exec(&["env", "-S", "uname -a"]).await, "nobody can tell");
}

#[tokio::test]
async fn the_first_rule_that_matches_decides() {
    let arguments = |decision, patterns: &[&str]| Rule {
        arguments: Some(words(patterns)),
        ..rule(decision, &found("echo"))
    };
    let mut nobody = rule(Decision::Allow, &found("echo"));
    nobody.users = vec!["no such user".into()];
    let place = Place::with(vec![
        nobody,
        arguments(Decision::Allow, &["hello", "**"]),
        arguments(Decision::Deny, &["**", "-*", "**"]),
        Rule { program: None, ..rule(Decision::Deny, "/") },
    ]);
    place.exec(&["echo", "hello", "-n"]).await.unwrap();
    let error = denied(place.exec(&["echo", "bye", "-n"]).await, "echo");
    assert_eq!(error.fact("rule"), Some("commands.rule 3"));
    let error = denied(place.exec(&["true"]).await, "true");
    assert_eq!(error.fact("rule"), Some("commands.rule 4"));
    // Rules that change hold for the next program.
    place.settings.store(Arc::default());
    place.exec(&["true"]).await.unwrap();
}

#[tokio::test]
async fn users_and_groups_are_those_of_the_caller() {
    let uid = nix::unistd::geteuid().to_string();
    let gid = nix::unistd::getegid().to_string();
    let of = |users: &[&str], groups: &[&str]| Rule {
        users: words(users),
        groups: words(groups),
        ..rule(Decision::Deny, &found("true"))
    };
    for (users, groups, is_denied) in [
        (&[&*uid] as &[&str], &[] as &[&str], true),
        (&["4000000"], &[], false),
        (&[&uid], &[&*gid], true),
        (&[&uid], &["4000000"], false),
        // Who is not known could be anybody.
        (&["no such user"], &[], true),
    ] {
        let place = Place::with(vec![of(users, groups)]);
        let outcome = place.exec(&["true"]).await;
        assert_eq!(outcome.is_err(), is_denied, "{users:?} {groups:?} {outcome:?}");
    }
}

#[tokio::test]
async fn what_must_be_approved_is_shown() {
    let place = Place::with(vec![rule(Decision::Ask, &found("uname"))]);
    let error = place.exec(&["env", "uname", "-a"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ApprovalRequired, "{error}");
    let preview = error.fact("preview").unwrap();
    let folder = place.folder.path().display().to_string();
    assert!(preview.contains(r#""env" "uname" "-a""#) && preview.contains(&folder), "{preview}");
    assert!(preview.contains(&format!("uid {}", nix::unistd::geteuid())), "{preview}");
}

#[tokio::test]
async fn a_text_is_for_the_operation_that_takes_texts() {
    let place = Place::with(Vec::new());
    for argv in [
        &["sh", "-c", "true"] as &[&str],
        &["env", "sh", "-ec", "true"],
        &["bash", "--norc", "-c", "true"],
        &["find", ".", "-exec", "sh", "-c", "true", ";"],
        &["xargs", "sh", "-c", "true"],
    ] {
        let error = denied(place.exec(argv).await, "ExecShell");
        assert_eq!(error.fact("operation"), Some("ExecShell"), "{argv:?}");
    }
    let request = ExecRequest {
        argv: words(&["sh"]),
        run: Some(Run { input: "true".into(), ..Run::default() }),
        ..ExecRequest::default()
    };
    denied(place.call::<_, ExecResponse>("Exec", request).await, "on its input");
    let request = StartRequest {
        argv: words(&["sh"]),
        run: Some(Run { stdin: Stdin::Terminal.into(), ..Run::default() }),
        ..StartRequest::default()
    };
    denied(place.call::<_, StartResponse>("Start", request).await, "on its input");

    let shell = || ExecShellRequest {
        script: "exit 7".into(),
        directory: place.folder.path().display().to_string(),
        r#yield: seconds(20),
        ..ExecShellRequest::default()
    };
    let done: ExecShellResponse = place.call("ExecShell", shell()).await.unwrap();
    assert_eq!(done.command.unwrap().ended.unwrap().code, Some(7));
    // A rule that names the interpreter opens it, and one that forbids it closes both.
    let allowed = Place::with(vec![rule(Decision::Allow, "/bin/sh")]);
    allowed.exec(&["sh", "-c", "true"]).await.unwrap();
    let closed = Place::with(vec![rule(Decision::Deny, "/bin/sh")]);
    denied(closed.call::<_, ExecShellResponse>("ExecShell", shell()).await, "as the test has it");
}

#[tokio::test]
async fn commands_are_bounded_and_forgotten() {
    let config = Config { max_running: 2, max_kept: 1, ..Config::default() };
    let place = Place::new(config);
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(place.start(&["sleep", "600"]).await.unwrap().command.unwrap().id);
    }
    let error = place.exec(&["true"]).await.unwrap_err();
    assert_eq!(error.fact("limit"), Some("commands.max_running"), "{error}");
    for id in &ids {
        let signal = op_dbus::proto::opdbus::agent::commands::v1::SignalRequest {
            id: id.clone(),
            signal: "KILL".into(),
        };
        let _: op_dbus::proto::opdbus::agent::commands::v1::SignalResponse =
            place.call("Signal", signal).await.unwrap();
        let wait = WaitRequest { id: id.clone(), wait: seconds(20) };
        let _: WaitResponse = place.call("Wait", wait).await.unwrap();
    }
    let list: ListResponse = place.call("List", ListRequest::default()).await.unwrap();
    assert_eq!(list.commands.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), [&*ids[1]]);
    // For no time at all.
    let config = Config { keep: std::time::Duration::ZERO, ..Config::default() };
    let place = Place::new(config);
    let started = place.start(&["true"]).await.unwrap().command.unwrap();
    crate::grpc::eventually("it is forgotten", async || {
        let wait = WaitRequest { id: started.id.clone(), wait: None };
        let outcome = place.call::<_, WaitResponse>("Wait", wait).await;
        outcome.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    })
    .await;
}
