//! Every operation × everybody × both transports: the decisions as a table, kept for review in
//! `tests/data/decisions.txt` (renewed with `OPDBUS_BLESS=1`). It is made from the contract.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::unistd::User;
use op_dbus::call::{Attested, Caller, Context, Identity, Process, Scope, Transport};
use op_dbus::contract::{Contract, Operation, Running};
use op_dbus::error::ErrorKind;
use op_dbus::executor::{
    Answer, Authority, Config, Decision, Named, Policy, Question, Risks, Rule, Who, risk_name,
};
use op_dbus::proto::opdbus::v1::Risk;

use super::{ALICE, BOB, ROOT, user};
use crate::fixture::Service;

/// Fewer lines than this mean that the table was made of nothing.
const LINES_MIN: usize = 80;

/// A user that every system has, and so one who is in a group.
const MEMBER: &str = "daemon";

/// The columns. `token` is the owner's token, limited to reading, and `certificate` one of his that is
/// not; both come over gRPC only, and from who knows where. An expired one is nobody's, so `unknown`.
const CALLERS: [&str; 8] =
    ["root", "owner", "group", "other", "unknown", "denied", "token", "certificate"];

/// The rules: those of the build, one who is denied, and a group that may what the administrators' may.
fn policy() -> Vec<Rule> {
    let member = User::from_name(MEMBER).unwrap().expect("every system has this user");
    let group = Named { name: "group".to_owned(), id: member.gid.as_raw() };
    let group = Who { groups: vec![group], ..Who::default() };
    let mut graver = Rule::for_all(group, Decision::Allow);
    graver.risks = Risks::AtLeast(Risk::Deploy);
    vec![Rule::for_all(user(BOB), Decision::Deny), graver]
}

fn identity(caller: &str, gid: Option<u32>) -> Identity {
    let of = |uid| Identity::User { uid, gid };
    match caller {
        "root" => of(ROOT),
        "owner" | "token" | "certificate" => of(ALICE),
        "group" => of(User::from_name(MEMBER).unwrap().unwrap().uid.as_raw()),
        "other" => of(4_200_009),
        "unknown" => Identity::Unknown,
        "denied" => of(BOB),
        other => panic!("{other} is no caller"),
    }
}

/// An authority that lets through what it is asked about, and notes that it was.
#[derive(Default)]
struct Noting(AtomicBool);

impl Authority for Noting {
    fn ask(&self, _question: Question) -> Running<'_, Answer> {
        self.0.store(true, Ordering::Relaxed);
        Box::pin(async { Ok(Answer::Yes) })
    }
}

/// What is left to the authority as `auth`, and the rest as [`decisions`] tells it.
async fn reviewed(
    service: &Service,
    authority: &Noting,
    operation: &Operation,
    caller: &str,
) -> [String; 2] {
    let mut said = decisions(service, operation, caller).await;
    if authority.0.swap(false, Ordering::Relaxed) {
        assert_eq!(said, ["allow", "allow"], "what the authority says counts");
        said.fill("auth".to_owned());
    }
    said
}

/// What the executor says to a caller as each of the transports describes him.
async fn decisions(service: &Service, operation: &Operation, caller: &str) -> [String; 2] {
    let mut said = [String::new(), String::new()];
    // The bus does not say which group is the primary one.
    let local = [(None, Attested::Bus, ":1.7"), (Some(100), Attested::Kernel, "unix:7")];
    let remote =
        |attested: Attested| [(None, attested.clone(), "tcp:a"), (None, attested, "tcp:b")];
    let callers = match caller {
        "token" => remote(Attested::Token("reader".into())),
        "certificate" => remote(Attested::Certificate("owner".into())),
        _ => local,
    };
    let scope = match caller {
        "token" => Scope::new(&[], &["read".to_owned()]).unwrap().map(Arc::new),
        _ => None,
    };
    for ((gid, attested, address), said) in callers.into_iter().zip(&mut said) {
        let process = Process::running(std::process::id(), None).filter(|_| attested.is_local());
        let mut caller = Caller::new(identity(caller, gid), attested, address);
        caller.process = process.map(Arc::new);
        caller.scope = scope.clone();
        let context = Context::new(Arc::new(caller), Transport::Grpc);
        let outcome = service.executor.permit(&operation.agent, &operation.name, &context).await;
        *said = match outcome.map_err(|error| error.kind()) {
            Ok(_) => "allow".to_owned(),
            Err(ErrorKind::AccessDenied) => "deny".to_owned(),
            Err(kind) => kind.reason().to_ascii_lowercase(),
        };
    }
    said
}

#[tokio::test]
async fn every_operation_has_the_decisions_that_were_reviewed() {
    let authority = Arc::new(Noting::default());
    let config = Config { policy: Policy::new(policy()), ..Config::default() };
    let service = Service::asking(config, Arc::clone(&authority) as _);
    let contract = Contract::built_in().unwrap();
    let mut table = format!("{:<44} {:<8}", "# operation", "risk");
    for caller in CALLERS {
        write!(table, " {caller:<15}").unwrap();
    }
    let mut lines = 0;
    for operation in served(&service, &contract) {
        // What tests bring is no part of what is reviewed, but must not be decided on by its way.
        let is_of_tests = operation.grpc_path.contains("probe");
        let name = format!("{}.{}", operation.agent, operation.name);
        let mut line = format!("{name:<44} {:<8}", risk_name(operation.risk));
        for caller in CALLERS {
            let [dbus, grpc] = reviewed(&service, &authority, operation, caller).await;
            assert_eq!(dbus, grpc, "{name} for {caller}");
            write!(line, " {dbus:<15}").unwrap();
        }
        if !is_of_tests {
            lines += 1;
            write!(table, "\n{}", line.trim_end()).unwrap();
        }
    }
    let table = table.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n";
    assert!(lines >= LINES_MIN, "only {lines} operations were found");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/decisions.txt");
    if std::env::var_os("OPDBUS_BLESS").is_some() {
        fs::write(&path, &table).unwrap();
    }
    let reviewed = fs::read_to_string(&path).unwrap();
    let differs = table.lines().filter(|line| !reviewed.lines().any(|known| known == *line));
    let differs: Vec<_> = differs.collect();
    assert!(
        table == reviewed,
        "decisions differ from tests/data/decisions.txt; review, then OPDBUS_BLESS=1:\n{}",
        differs.join("\n")
    );
}

#[tokio::test]
async fn what_is_grave_is_for_those_who_administer() {
    let service = Service::new(Config::default());
    let contract = Contract::built_in().unwrap();
    let mut seen = 0;
    for operation in served(&service, &contract) {
        let grave = operation.risk as i32 >= Risk::Deploy as i32;
        seen += usize::from(grave);
        let expected = if grave { "deny" } else { "allow" };
        assert_eq!(
            decisions(&service, operation, "owner").await[0],
            expected,
            "{}",
            operation.grpc_path
        );
        assert_eq!(
            decisions(&service, operation, "root").await[0],
            "allow",
            "{}",
            operation.grpc_path
        );
    }
    assert!(seen >= 5, "only {seen} operations are grave");
    // By name, so that nobody makes these harmless without noticing.
    let commands = contract.services.iter().find(|service| service.id == "commands").unwrap();
    for (name, risk) in [("ExecShell", Risk::Deploy), ("RegisterFunction", Risk::Admin)] {
        assert_eq!(commands.operation(name).unwrap().risk, risk, "{name}");
    }
}

/// The operations of the contract that this build serves.
fn served<'a>(
    service: &'a Service,
    contract: &'a Contract,
) -> impl Iterator<Item = &'a Arc<Operation>> {
    let operations = contract.services.iter().flat_map(|service| &service.operations);
    operations.filter(|operation| service.executor.find(&operation.agent, &operation.name).is_ok())
}

#[tokio::test]
async fn a_new_policy_holds_for_the_next_call() {
    let service = Service::new(Config::default());
    let route = service.executor.find("probe", "Restart").unwrap();
    assert_eq!(decisions(&service, &route.operation, "owner").await[0], "deny");
    let policy = Policy::new(vec![Rule::for_all(user(ALICE), Decision::Allow)]);
    service.executor.reconfigure(Config { policy, ..Config::default() });
    assert_eq!(decisions(&service, &route.operation, "owner").await[0], "allow");
    assert_eq!(decisions(&service, &route.operation, "other").await[0], "deny");
}
