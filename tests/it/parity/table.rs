//! The table: every operation × kind of input × caller × way. Each cell is run, or there is a reason,
//! written here, why it cannot be. It makes no call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use op_dbus::contract::{Contract, Operation, Service};
use op_dbus::proto::opdbus::v1::Risk;
use serde_json::Value;

use super::call::{Said, Way};
use super::cases::OF_THE_MOMENT;
use super::older;
use super::roles::Role;

/// A kind of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Requests that were written down, right ones and wrong ones.
    Written,
    /// Requests made by chance from the descriptor.
    Generated,
    /// One that nobody can read.
    Unreadable,
    /// One that has too many bytes.
    TooLarge,
    /// One whose time is over.
    Late,
    /// One that its client gives up.
    Cancelled,
    /// One that comes again with its request id.
    Repeated,
    /// Another one with the same request id.
    IdReused,
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::Written,
        Self::Generated,
        Self::Unreadable,
        Self::TooLarge,
        Self::Late,
        Self::Cancelled,
        Self::Repeated,
        Self::IdReused,
    ];
}

/// Why an operation cannot be called by a way at all.
pub fn no_way(operation: &Operation, way: Way) -> Option<&'static str> {
    let by_json = matches!(way, Way::JsonOverGrpc | Way::JsonOverDbus);
    match () {
        () if way == Way::Older => {
            older::word(operation).is_none().then_some("the older interface has no word for it")
        }
        () if by_json && operation.client_streaming => {
            Some("a stream of requests is no one text of JSON")
        }
        () if by_json && operation.is_streaming() && !operation.is_agents => {
            Some("a view cannot be started as a task")
        }
        () if way == Way::TypedOverDbus && !operation.is_on_bus() => {
            Some("the bus has objects and signals for what this stream of op-dbus's own gives")
        }
        () => None,
    }
}

/// Why an operation has no input of a kind.
pub fn no_input(operation: &Operation, kind: Kind) -> Option<&'static str> {
    let is_of_tests = operation.agent.contains("probe");
    let name = format!("{}.{}", operation.agent, operation.name);
    // Memory's can be asked for wrongly, and then it ends.
    let is_endless = is_endless(operation) && name != "memory.Watch";
    match kind {
        Kind::Written | Kind::Repeated | Kind::IdReused if is_endless => {
            Some("it ends only with its client")
        }
        Kind::TooLarge if operation.client_streaming => {
            Some("its requests come one by one, after it was let in")
        }
        Kind::Generated if is_of_tests => Some("it is there to fail, to wait and to fill"),
        Kind::Generated if operation.waits => Some("a request made by chance may wait for long"),
        Kind::Generated if operation.risk as i32 > Risk::Write as i32 => {
            Some("a request made by chance may start anything")
        }
        Kind::IdReused if operation.client_streaming => {
            Some("what there is of a stream of requests is not compared")
        }
        Kind::IdReused if operation.input.fields().len() == 0 => {
            Some("there is no other request: none says anything")
        }
        Kind::Cancelled if name == "calls.StartCall" => Some("it waits for nothing"),
        Kind::Cancelled if name == "sessions.Connect" => Some("it ends with its requests"),
        Kind::Written
        | Kind::Generated
        | Kind::Unreadable
        | Kind::TooLarge
        | Kind::Late
        | Kind::Cancelled
        | Kind::Repeated
        | Kind::IdReused => None,
    }
}

/// The streams without an end of their own.
pub const ENDLESS: [&str; 5] = [
    "agents.WatchAgents",
    "approvals.WatchApprovals",
    "memory.Watch",
    "migration.WatchRoutes",
    "probe.Linger",
];

/// True if a stream ends only with its client.
pub fn is_endless(operation: &Operation) -> bool {
    ENDLESS.contains(&format!("{}.{}", operation.agent, operation.name).as_str())
}

/// Why no call of an operation that was written down can end well. Every other operation has one that does,
/// on each way that has the operation.
pub fn no_success(operation: &Operation) -> Option<&'static str> {
    match (operation.agent.as_str(), operation.name.as_str()) {
        ("memory", "Watch") => Some("it ends only with its client; `endless.rs` reads its begin"),
        ("probe" | "worker_probe", "Fail") => Some("it is there to fail"),
        _ => no_input(operation, Kind::Written),
    }
}

/// The operations of the table. Those of gateways are foreign contracts, which gRPC alone has, and
/// CallJson is itself two of the ways.
pub fn operations(contract: &Contract) -> impl Iterator<Item = &Arc<Operation>> {
    let services = contract.services.iter().filter(|service: &&Arc<Service>| !service.gateway);
    let operations = services.flat_map(|service| &service.operations);
    operations.filter(|operation| !(operation.agent == "agents" && operation.name == "CallJson"))
}

/// The operations that have input of a kind and can be called by a way, or by the one in its place.
pub fn inputs(contract: &Contract, kind: Kind, way: Way) -> Vec<Arc<Operation>> {
    let has = |operation: &&Arc<Operation>| {
        no_way(operation, way.for_operation(operation)).is_none()
            && no_input(operation, kind).is_none()
    };
    operations(contract).filter(has).cloned().collect()
}

type Cell = (String, Kind, Role, Way);

/// The messages of an answer, and the reason of the error with which it ended.
type Told = (Vec<Value>, Option<String>);

/// What was said on one way.
pub struct Sheet {
    pub way: Way,
    ran: BTreeSet<Cell>,
    lines: BTreeMap<String, Told>,
    went_well: BTreeSet<String>,
    /// What was wrong already without a comparison.
    pub problems: Vec<String>,
}

impl Sheet {
    pub fn new(way: Way) -> Self {
        let (ran, lines, went_well) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        Self { way, ran, lines, went_well, problems: Vec::new() }
    }

    /// Notes what was said to a call. Of one that took another way in the place of this nothing is noted.
    pub fn add(
        &mut self,
        operation: &Operation,
        (kind, role): (Kind, Role),
        what: &str,
        said: &Said,
        plain: impl Fn(&Value) -> Value,
    ) {
        if self.way.for_operation(operation) != self.way {
            return;
        }
        let name = format!("{}.{}", operation.agent, operation.name);
        if kind == Kind::Written && said.reason.is_none() {
            self.went_well.insert(name.clone());
        }
        let is_told = !OF_THE_MOMENT.contains(&name.as_str());
        let messages = said.messages.iter().filter(|_| is_told).map(plain).collect();
        let line = format!("{name} {kind:?} by {role:?} {what}");
        let before = self.lines.insert(line, (messages, said.reason.clone()));
        assert!(before.is_none(), "{name} {kind:?} {role:?} {what} stands twice");
        self.ran.insert((name, kind, role, self.way));
    }
}

impl Sheet {
    /// How many operations a user called, and how many of his calls went well.
    pub fn of(&self, role: Role) -> (usize, usize) {
        let operations = self.ran.iter().filter(|(_, _, by, _)| *by == role).count();
        let by = format!(" by {role:?} ");
        let good = self.lines.iter().filter(|(line, said)| line.contains(&by) && said.1.is_none());
        (operations, good.count())
    }
}

/// What was not said alike on every way, and which cells of these kinds were neither run nor cannot be.
pub fn problems(contract: &Contract, kinds: &[Kind], sheets: &[Sheet]) -> Vec<String> {
    let mut problems = said_otherwise(sheets);
    problems.extend(sheets.iter().flat_map(|sheet| sheet.problems.clone()));
    let ran: BTreeSet<&Cell> = sheets.iter().flat_map(|sheet| &sheet.ran).collect();
    let mut cells = 0;
    for operation in operations(contract) {
        let name = format!("{}.{}", operation.agent, operation.name);
        for (kind, role, way) in all_of(kinds) {
            let reason = no_way(operation, way)
                .or_else(|| no_input(operation, kind))
                .or_else(|| role.why_not());
            let cell = (name.clone(), kind, role, way);
            match (reason, ran.contains(&cell)) {
                (None, true) => cells += 1,
                (None, false) => problems.push(format!("{cell:?} was not run")),
                (Some(_), false) => {}
                (Some(reason), true) => problems.push(format!("{cell:?} was run, but {reason}")),
            }
        }
    }
    if kinds.contains(&Kind::Written) {
        problems.extend(never_well(contract, sheets));
    }
    eprintln!("{cells} cells of {kinds:?}");
    assert!(cells >= kinds.len() * Role::here().len() * 200, "there are only {cells} cells");
    problems
}

/// The operations of which no call went well on a way that has them, and the exceptions to that which are none.
fn never_well(contract: &Contract, sheets: &[Sheet]) -> Vec<String> {
    let mut problems = Vec::new();
    for operation in operations(contract) {
        let name = format!("{}.{}", operation.agent, operation.name);
        for sheet in sheets.iter().filter(|sheet| no_way(operation, sheet.way).is_none()) {
            let way = sheet.way;
            match (no_success(operation), sheet.went_well.contains(&name)) {
                (None, true) | (Some(_), false) => {}
                (None, false) => problems.push(format!("no call of {name} went well: {way:?}")),
                (Some(reason), true) => {
                    problems.push(format!("{name} went well, but {reason}: {way:?}"));
                }
            }
        }
    }
    problems
}

fn said_otherwise(sheets: &[Sheet]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut first: BTreeMap<&str, (Way, &Told)> = BTreeMap::new();
    for sheet in sheets {
        for (line, said) in &sheet.lines {
            let (other, expected) = *first.entry(line).or_insert((sheet.way, said));
            let (agent, name) = line.split(' ').next().unwrap().split_once('.').unwrap();
            let only_end = sheet.way == Way::Older && older::answers_otherwise(agent, name);
            if said != expected && !(only_end && said.1 == expected.1) {
                let way = sheet.way;
                problems.push(format!("{line}: {way:?} {said:?}, {other:?} {expected:?}"));
            }
        }
    }
    problems
}

fn all_of(kinds: &[Kind]) -> impl Iterator<Item = (Kind, Role, Way)> {
    kinds.iter().flat_map(|kind| {
        Role::ALL.iter().flat_map(|role| Way::ALL.iter().map(|way| (*kind, *role, *way)))
    })
}
