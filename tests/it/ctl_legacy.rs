//! `op-dbusctl --via legacy`: calls over the older interface on D-Bus, with the reasons that it gives.

use serde_json::{Value, json};

use crate::ctl::{offered, stderr, stdout, to};
use crate::process::{Daemon, http};

#[test]
fn calls_take_the_older_interface_and_its_reasons_arrive() {
    let daemon = Daemon::start("");
    let run = |words: &[&str]| to(&daemon, "legacy").args(words).output().unwrap();
    let json_of = |words: &[&str]| -> (Option<i32>, Value) {
        let output = run(&[&["--json"], words].concat());
        (output.status.code(), serde_json::from_str(&stdout(&output)).unwrap())
    };
    let (code, _) = json_of(&["call", "memory", "Remember", "key=host", "value=atlas", "tags=a,b"]);
    assert_eq!(code, Some(0));
    let (code, recalled) = json_of(&["call", "memory", "recall", "key=host"]);
    assert_eq!((code, &recalled["value"]), (Some(0), &json!("atlas")));
    let metrics = http(&daemon.metrics_socket(), "GET", "/metrics");
    let counted = metrics.lines().any(|line| {
        let labels = ["operation=\"Recall\"", "interface=\"legacy\""];
        line.starts_with("opdbus_calls_total{") && labels.iter().all(|label| line.contains(label))
    });
    assert!(counted, "{metrics}");

    for (words, kind, text) in [
        (&["call", "memory", "Recall", "key=none"][..], "NOT_FOUND", "none"),
        (&["call", "memory", "Recall", "--data", "{\"key\": 5}"], "INVALID_ARGUMENT", "a string"),
        (&["call", "memory", "Increment", "key=n"], "UNKNOWN_OPERATION", "has no older name"),
        (&["call", "memory", "Nothing"], "UNKNOWN_OPERATION", "Nothing"),
        (&["status"], "UNKNOWN_OPERATION", "OP_DBUS_VIA=dbus"),
    ] {
        let (code, failure) = json_of(words);
        let error = &failure["error"];
        assert_eq!((code, &error["kind"]), (Some(1), &json!(kind)), "{words:?}: {failure}");
        assert!(error["message"].as_str().unwrap().contains(text), "{words:?}: {failure}");
    }
    for (words, text) in [
        (&["call", "memory", "BulkRemember", "--data", "-"][..], "memory.BulkRemember is a stream"),
        (&["call", "--detach", "memory", "Recall", "key=host"], "has no tasks"),
    ] {
        let output = run(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(stderr(&output).contains(text), "{}", stderr(&output));
    }
    // What there is to call is told beside it.
    let socket = daemon.grpc_socket().display().to_string();
    let places = ["--address", &socket, "--bus", &daemon.bus.address, "--via", "legacy"];
    assert_eq!(offered(&[&places[..], &["call", "memory", "Rec"]].concat()), ["Recall"]);
    daemon.stop();
}
