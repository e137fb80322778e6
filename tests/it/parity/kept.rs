//! The cases of what the commands agent keeps: functions and shells.

use serde_json::{Value, json};

use super::cases::{Case, case};

pub(super) fn cases() -> Vec<Case> {
    let command = |operation, arguments| case("commands", operation, arguments);
    let registers = || {
        let properties = json!({"a": {"type": "string", "maxLength": 5}, "n": {"type": "number"}});
        let schema = json!({"type": "object", "properties": properties, "required": ["a"]});
        let argv = ["printf", "%s|", "{a}", "{n}", "x={a}"];
        let function =
            json!({"name": "compared", "schema": schema, "argv": argv, "directory": "/tmp"});
        json!({"function": function, "replace": true})
    };
    let registered =
        |operation, arguments| command(operation, arguments).after("RegisterFunction", registers());
    let calls = |arguments: Value| {
        registered("CallFunction", json!({"name": "compared", "arguments": arguments}))
    };
    let opens = || json!({"shell": "sh", "directory": "/tmp", "tag": "KEY"});
    vec![
        command("RegisterFunction", registers()),
        registered("ListFunctions", json!({"prefix": "compared"})),
        command("ListFunctions", json!({"page_size": 5000})),
        calls(json!({"a": "é", "n": 1.5})),
        calls(json!({"a": "é"})),
        calls(json!({"a": "-é"})),
        calls(json!({"a": "longer"})),
        calls(json!({})),
        registered("RemoveFunction", json!({"name": "compared"})),
        command("RemoveFunction", json!({"name": "nothing"})),
        command("OpenShell", json!({"shell": "sh", "directory": "/no/such"})),
        command("OpenShell", opens()),
        command("CloseShell", json!({"id": "GIVEN"})).after("OpenShell", opens()),
    ]
}
