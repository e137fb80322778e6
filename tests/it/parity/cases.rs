//! The calls that are compared.

use op_dbus::error::ErrorKind;
use serde_json::{Value, json};

use super::{kept, ledger, streams, texts};

/// One call. `KEY` in a text of the arguments becomes a key that only this way uses; `GIVEN` the id or
/// token that a call before gave.
pub struct Case {
    pub agent: &'static str,
    pub operation: &'static str,
    pub arguments: Value,
    /// Calls that come before, on the same way.
    pub before: Vec<(&'static str, &'static str, Value)>,
    /// What they gave is an approval, which is given before the call and which the call bears.
    pub is_approved: bool,
}

pub(super) fn case(agent: &'static str, operation: &'static str, arguments: Value) -> Case {
    Case { agent, operation, arguments, before: Vec::new(), is_approved: false }
}

fn memory(operation: &'static str, arguments: Value) -> Case {
    case("memory", operation, arguments)
}

fn session(operation: &'static str, arguments: Value) -> Case {
    case("sessions", operation, arguments)
}

impl Case {
    pub(super) fn after(self, operation: &'static str, arguments: Value) -> Self {
        let agent = self.agent;
        self.after_of(agent, operation, arguments)
    }

    pub(super) fn after_of(
        mut self,
        agent: &'static str,
        operation: &'static str,
        arguments: Value,
    ) -> Self {
        self.before.push((agent, operation, arguments));
        self
    }
}

pub fn cases() -> Vec<Case> {
    let started = || json!({"client_name": "test", "session_id": "KEY"});
    let mut cases = vec![
        case("probe", "Nothing", json!({})),
        case("probe", "Sleep", json!({"duration": "0.001s"})),
        case("probe", "Fail", json!({"reason": "no such reason"})),
        case("probe", "Fail", json!({"reason": "PANIC"})),
        case(
            "probe",
            "Echo",
            json!({"text": "KEY", "data": "AAEC", "everything": {"a_bool": true}}),
        ),
        case("probe", "Fill", json!({"size_bytes": "3", "filler": "é"})),
        case("agents", "Ping", json!({"payload": "AAEC"})),
        case("agents", "ListAgents", json!({})),
        case("agents", "DescribeAgent", json!({"agent": "nobody"})),
        case("agents", "DescribeAgent", json!({"agent": "sequential_thinking"})),
        case("agents", "DescribeAgent", json!({"agent": "memory", "operation": "Recall"})),
        case("agents", "DescribeAgent", json!({"agent": "memory", "operation": "nothing"})),
        session("EndSession", json!({"session_id": "KEY"})).after("StartSession", started()),
        session("EndSession", json!({"session_id": "KEY"})),
        session("KeepAlive", json!({"session_id": "KEY"})),
        session("KeepAlive", json!({"session_id": "KEY"})).after("StartSession", started()),
        session("GetSession", json!({"session_id": "KEY"})).after("StartSession", started()),
        session("StartSession", started()),
        session("GetSession", json!({"session_id": ""})),
        session("ListSessions", json!({"page_size": 1001})),
        session("ListSessions", json!({"page_size": 1})).after("StartSession", started()),
        session("StartSession", started()).after("StartSession", started()),
        session("StartSession", json!({"client_name": "test", "session_id": "KEY", "token": "x"})),
        session("StartSession", json!({"client_name": ""})),
    ];
    let more = [
        keys(),
        texts::cases(),
        tasks_and_batches(),
        in_workers(),
        kept::cases(),
        ledger::cases(),
        rights(),
        approvals(),
        of_the_moment(),
        streams::cases(),
    ];
    cases.extend(more.into_iter().flatten());
    for kind in ErrorKind::ALL {
        cases.push(case("probe", "Fail", json!({"reason": kind.reason(), "message": "as asked"})));
    }
    cases
}

/// Operations whose answers tell of the moment: what they say is not compared.
pub const OF_THE_MOMENT: [&str; 7] = [
    "agents.GetMetrics",
    "agents.GetStatus",
    "probe.Count",
    "worker_probe.Count",
    "worker_probe.StartProgram",
    "worker_probe.WhoAmI",
    "worker_probe.WhoAmIThere",
];

fn of_the_moment() -> Vec<Case> {
    OF_THE_MOMENT
        .into_iter()
        .map(|name| {
            let (agent, operation) = name.split_once('.').unwrap();
            let starts = operation == "StartProgram";
            case(agent, operation, if starts { json!({"argv": ["true"]}) } else { json!({}) })
        })
        .collect()
}

fn keys() -> Vec<Case> {
    let stored = || json!({"key": "KEY", "value": {"a": [1, 2.5, "x", null, true]}, "tags": ["t"]});
    vec![
        memory("Remember", stored()),
        memory("Remember", json!({"key": "KEY", "value": 1, "ttl": "3600s"})),
        memory("Remember", json!({"key": "KEY", "value": 2, "if_absent": true}))
            .after("Remember", stored()),
        memory("Remember", json!({"key": "KEY", "value": 2, "if_version": "999999"}))
            .after("Remember", stored()),
        memory("Remember", json!({"key": "", "value": 1})),
        memory("Remember", json!({"key": "KEY", "value": 1, "namespace": "x".repeat(65)})),
        memory("Remember", json!({"key": "KEY", "value": 1, "ttl": "-5s"})),
        memory("Recall", json!({"key": "KEY"})).after("Remember", stored()),
        memory("Recall", json!({"key": "KEY"})),
        memory("Recall", json!({"key": "KEY", "default": "nothing"})),
        memory("Forget", json!({"key": "KEY"})).after("Remember", stored()),
        memory("Forget", json!({"key": "KEY", "dry_run": true})).after("Remember", stored()),
        memory("List", json!({"pattern": "KEY"})).after("Remember", stored()),
        memory("List", json!({"page_size": 5000})),
        memory("Increment", json!({"key": "KEY", "by": "5"}))
            .after("Increment", json!({"key": "KEY"})),
        memory("Increment", json!({"key": "KEY"})).after("Remember", stored()),
        memory("Search", json!({"query": "("})),
        memory("Remember", json!({"key": "KEY", "value": 1, "scope": "SCOPE_SESSION"})),
        memory("History", json!({"key": "KEY"}))
            .after("Remember", stored())
            .after("Remember", json!({"key": "KEY", "value": 2})),
        memory("Restore", json!({"undo_token": "no such token"})),
        memory("Restore", json!({"undo_token": "GIVEN"}))
            .after("Remember", stored())
            .after("Forget", json!({"key": "KEY"})),
        memory("Search", json!({"query": "KEY"})).after("Remember", stored()),
        memory("Stats", json!({})),
        memory("Stats", json!({"scope": "SCOPE_SESSION"})),
        memory(
            "Transact",
            json!({"compare": [{"key": "KEY", "version": "0"}], "success": [{"remember": {"key": "KEY", "value": 7}}, {"recall": {"key": "KEY"}}]}),
        ),
    ]
}

fn rights() -> Vec<Case> {
    let explained = || json!({"agent": "probe", "operation": "restart"});
    let of = |user: &str| json!({"user": user, "agent": "memory", "operation": "Recall"});
    let lost = |name: &str| json!({"operation": name, "way": "WAY_GRPC", "calls": "3"});
    vec![
        case("approvals", "ListApprovals", json!({"page_size": 201})),
        case("approvals", "ListApprovals", json!({"states": ["APPROVAL_STATE_REJECTED"]})),
        case("approvals", "GetApproval", json!({"id": "KEY"})),
        case("approvals", "GetApproval", json!({"id": ""})),
        case("approvals", "Approve", json!({"id": "KEY"})),
        case("approvals", "Reject", json!({"id": "KEY", "reason": "no"})),
        case("approvals", "Reject", json!({"id": "KEY", "reason": "x".repeat(501)})),
        case("migration", "GetRoutes", json!({"name": "KEY"})),
        case("migration", "GetRoutes", json!({"name": "two words"})),
        case("migration", "ReportCalls", json!({"lost": [lost("probe.Echo")]})),
        case("migration", "ReportCalls", json!({"lost": [lost("probe.Nobody")]})),
        case("migration", "ListStages", json!({})),
        case("migration", "ListUses", json!({"agent": "nobody"})),
        case("migration", "GetReport", json!({"since": "2999-01-01T00:00:00Z"})),
        case("migration", "ListDifferences", json!({})),
        case("migration", "Simulate", json!({"rules": "", "since": "2999-01-01T00:00:00Z"})),
        case("migration", "Simulate", json!({"rules": "[migration]\nstage = 'far'"})),
        case("migration", "SetStage", json!({"rule": "default", "change": "STAGE_CHANGE_HOLD"})),
        case("migration", "SetStage", json!({"rule": "KEY", "stage": "STAGE_GRPC"})),
        case("migration", "SetStage", json!({"rule": "default", "stage": "STAGE_FINAL"})),
        case("policy", "Explain", explained()),
        case("policy", "Explain", json!({"agent": "memory", "operation": "nothing"})),
        case("policy", "ExplainUser", of("4242")),
        case("policy", "ExplainUser", of("no such user")),
        case("policy", "ListRules", json!({})),
        case("probe", "Guarded", json!({"text": "KEY"})),
        case("probe", "Restart", json!({})),
    ]
}

/// Calls that somebody must approve, and what is done about them.
fn approvals() -> Vec<Case> {
    // He who asks sees no others than his own.
    let asked = |agent, operation, arguments| {
        case(agent, operation, arguments)
            .after_of("probe", "Guarded", json!({"text": "KEY"}))
            .after_of("approvals", "ListApprovals", json!({"page_size": 1}))
    };
    let decided = |operation, arguments| asked("approvals", operation, arguments);
    let guarded = || asked("probe", "Guarded", json!({"text": "KEY"}));
    vec![
        decided("GetApproval", json!({"id": "GIVEN"})),
        decided("Approve", json!({"id": "GIVEN"})),
        decided("Reject", json!({"id": "GIVEN", "reason": "no"})),
        Case { is_approved: true, ..guarded() },
        Case { is_approved: true, arguments: json!({"text": "another"}), ..guarded() },
    ]
}

fn tasks_and_batches() -> Vec<Case> {
    let begun = |operation, arguments| {
        let call = json!({"agent": "probe", "operation": "generate", "arguments": "{\"count\":3}"});
        case("tasks", operation, arguments).after_of("calls", "StartCall", call)
    };
    let waited = |operation, arguments| {
        begun(operation, arguments).after("WaitTask", json!({"id": "GIVEN", "timeout": "9s"}))
    };
    let circle = json!([
        {"id": "a", "agent": "probe", "operation": "nothing", "after": ["b"]},
        {"id": "b", "agent": "probe", "operation": "nothing", "after": ["a"]},
    ]);
    let items = json!([
        {"id": "n", "agent": "probe", "operation": "nothing"},
        {"agent": "memory", "operation": "recall", "arguments": "{\"key\":\"KEY\"}"},
        {"agent": "nobody", "operation": "recall"},
    ]);
    vec![
        begun("WaitTask", json!({"id": "GIVEN", "timeout": "9s"})),
        waited("GetTask", json!({"id": "GIVEN"})),
        waited("ReadTask", json!({"id": "GIVEN", "json": true, "from_seq": "2"})),
        waited("ReadTask", json!({"id": "GIVEN", "from_seq": "5"})),
        waited("CancelTask", json!({"id": "GIVEN"})),
        case("tasks", "GetTask", json!({"id": "KEY"})),
        case("tasks", "WaitTask", json!({"id": "KEY"})),
        case("tasks", "CancelTask", json!({"id": "KEY"})),
        case("tasks", "ReadTask", json!({"id": "KEY"})),
        case("tasks", "ListTasks", json!({"page_size": 5000})),
        case("tasks", "ListTasks", json!({"session": "KEY", "states": ["TASK_STATE_WORKING"]})),
        case("calls", "BatchCall", json!({"items": items})),
        case(
            "calls",
            "BatchCall",
            json!({"items": items, "parallel": true, "stop_on_error": true, "max_parallel": 1}),
        ),
        case("calls", "BatchCall", json!({"items": circle})),
        case("calls", "StartCall", json!({"agent": "probe", "operation": "sum"})),
        case("calls", "StartCall", json!({"agent": "nobody", "operation": "sum"})),
        // It neither gives a message nor ends before it is answered what it is.
        case("calls", "StartCall", json!({"agent": "probe", "operation": "linger"})),
    ]
}

/// Operations of agents that run in workers.
fn in_workers() -> Vec<Case> {
    let probe = |operation, arguments| case("worker_probe", operation, arguments);
    let command = |operation, arguments| case("commands", operation, arguments);
    let sleeps = || json!({"argv": ["sleep", "60"], "directory": "/tmp"});
    let started = |operation, arguments| command(operation, arguments).after("Start", sleeps());
    let reads = || json!({"argv": ["cat"], "directory": "/tmp", "run": {"stdin": "STDIN_PIPE"}, "tag": "KEY"});
    let on_terminal =
        || json!({"argv": ["cat"], "directory": "/tmp", "run": {"stdin": "STDIN_TERMINAL"}});
    let waited = |operation, arguments| {
        command(operation, arguments)
            .after("Start", json!({"argv": ["echo", "hello"], "directory": "/tmp"}))
            .after("Wait", json!({"id": "GIVEN", "wait": "9s"}))
    };
    vec![
        probe("Steps", json!({"steps": 3})),
        probe("Nothing", json!({})),
        probe("Echo", json!({"data": "AAEC"})),
        probe("Wait", json!({"duration": "0.001s"})),
        probe("Wait", json!({"duration": "-1s"})),
        probe("Block", json!({"duration": "0.001s"})),
        probe("Fail", json!({"reason": "CONFLICT", "message": "as asked"})),
        command("Exec", json!({"argv": ["echo", "hello"], "directory": "/tmp"})),
        command(
            "Exec",
            json!({"argv": ["cat"], "directory": "/tmp", "run": {"input": "AAEC", "limits": {"wall": "9s"}}}),
        ),
        command("Exec", json!({"argv": ["sh", "-c", "true"]})),
        command("Exec", json!({"argv": ["no-such-program"], "directory": "/tmp"})),
        command("Exec", json!({"argv": ["true"], "directory": "/no/such"})),
        command("Exec", json!({"argv": []})),
        command("ExecShell", json!({"script": "echo é; exit 3", "directory": "/tmp"})),
        command("ExecShell", json!({"script": "x", "shell": "perl"})),
        command("Start", json!({"argv": ["sleep", "60"], "directory": "/tmp", "tag": "KEY"})),
        waited("Wait", json!({"id": "GIVEN", "wait": "9s"})),
        waited("Output", json!({"id": "GIVEN", "until": "WAIT_UNTIL_EXIT", "wait": "9s"})),
        waited("Output", json!({"id": "GIVEN", "until": "WAIT_UNTIL_PATTERN", "pattern": "l+"})),
        waited("Output", json!({"id": "GIVEN", "until": "WAIT_UNTIL_PATTERN", "pattern": "("})),
        command("Output", json!({"id": "KEY"})),
        command("Input", json!({"id": "GIVEN", "data": "AAEC", "close": true}))
            .after("Start", reads()),
        started("Input", json!({"id": "GIVEN", "data": "AAEC"})),
        command("CloseInput", json!({"id": "GIVEN"})).after("Start", reads()),
        command("Resize", json!({"id": "GIVEN", "size": {"rows": 3, "columns": 4}}))
            .after("Start", on_terminal()),
        started("Signal", json!({"id": "GIVEN", "signal": "KILL"})),
        started("Signal", json!({"id": "GIVEN", "signal": "NOTHING"})),
        started("Resize", json!({"id": "GIVEN", "size": {"rows": 3, "columns": 4}})),
        command("List", json!({"tag": "KEY", "running_only": true})).after("Start", reads()),
        command("List", json!({"page_size": 5000})),
        started("Tag", json!({"id": "GIVEN", "tag": "KEY"})),
        command("Tag", json!({"id": "KEY", "tag": "KEY"})),
        command("OpenShell", json!({"shell": "no such shell"})),
        command("CloseShell", json!({"id": "KEY"})),
        command("ListShells", json!({})),
        command("RegisterFunction", json!({"function": {"name": "No Name", "argv": ["true"]}})),
        command("RemoveFunction", json!({"name": "KEY"})),
        command("ListFunctions", json!({"prefix": "KEY"})),
        command("CallFunction", json!({"name": "KEY"})),
    ]
}
