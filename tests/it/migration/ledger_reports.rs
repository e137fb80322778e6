//! What follows from the ledger: the report and its exit code, lost calls and comparisons that clients
//! report, and who may see it.

use op_dbus::call::{Attested, Caller, Context, Identity, Transport};
use op_dbus::error::ErrorKind;
use op_dbus::executor::Config;
use op_dbus::proto::opdbus::v1::{
    GetReportRequest, ListDifferencesRequest, ListUsesRequest, ReportCallsRequest,
};
use prost::Message as _;
use serde_json::{Value, json as object};
use std::sync::Arc;

use super::ledger::{OFTEN, ctl, json, number};
use crate::ctl::stdout;
use crate::fixture::Service;
use crate::process::Daemon;

#[test]
fn the_report_ends_with_what_blocks_the_end_of_dbus() {
    let daemon = Daemon::start(OFTEN);
    let remember = ["call", "memory", "Remember", "key=k", "value=1"];
    json(&daemon, "grpc", &remember);
    json(&daemon, "dbus", &["agents"]);
    let report = ctl(&daemon, "dbus", &["migration", "report"]);
    assert_eq!(report.status.code(), Some(0), "{}", stdout(&report));
    assert!(stdout(&report).contains("no client is on D-Bus"), "{}", stdout(&report));
    assert!(
        stdout(&report).contains("nothing keeps a rule from stage final"),
        "{}",
        stdout(&report)
    );

    json(&daemon, "dbus", &remember);
    for via in ["grpc", "dbus"] {
        let report = ctl(&daemon, via, &["migration", "report"]);
        assert_eq!(report.status.code(), Some(3), "{}", stdout(&report));
        assert!(stdout(&report).contains("1 calls of memory.Remember over D-Bus by "));
        let report = ctl(&daemon, via, &["--json", "migration", "report"]);
        assert_eq!(report.status.code(), Some(3));
        let report: Value = serde_json::from_str(&stdout(&report)).unwrap();
        let on_dbus = report["on_dbus"].as_array().unwrap();
        assert!(on_dbus.iter().any(|one| one["operation"] == "memory.Remember"), "{report}");
        assert!(on_dbus.iter().all(|one| one["way"] == "WAY_DBUS"), "{report}");
        assert!(number(&report["dbus_calls"]) >= 1 && number(&report["grpc_calls"]) >= 1);
        let blocker = &report["blockers"][0];
        assert_eq!(blocker["rule"], "default");
        assert!(blocker["client"]["executable"].as_str().unwrap().ends_with("op-dbusctl"));
    }
    // What was before does not count.
    let since = ["--since", "2100-01-01T00:00:00Z"];
    let report = ctl(&daemon, "grpc", &[&["migration", "report"][..], &since].concat());
    assert_eq!(report.status.code(), Some(0), "{}", stdout(&report));

    let status = json(&daemon, "grpc", &["migration", "status"]);
    assert_eq!(status["rules"].as_array().unwrap().last().unwrap()["name"], "default");
    assert!(number(&status["dbus_calls"]) >= 1, "{status}");
    let status = stdout(&ctl(&daemon, "dbus", &["migration", "status"]));
    for part in ["RULE", "default", "older D-Bus", "CLIENT ON D-BUS", "op-dbusctl"] {
        assert!(status.contains(part), "{part} is missing in {status}");
    }
    let plan = json(&daemon, "grpc", &["migration", "plan"]);
    assert_eq!(plan["plan"].as_array().unwrap().len(), 1, "{plan}");
    let plan = stdout(&ctl(&daemon, "grpc", &["migration", "plan"]));
    assert!(plan.contains("default"), "{plan}");
}

fn report_calls(daemon: &Daemon, via: &str, report: &Value) -> std::process::Output {
    ctl(daemon, via, &["call", "migration", "ReportCalls", "--data", &report.to_string()])
}

#[test]
fn lost_calls_and_comparisons_are_kept_as_clients_report_them() {
    let daemon = Daemon::start(OFTEN);
    let sample = object!({"field": "version", "dbus": "number", "grpc": "nothing"});
    for (via, differed) in [("grpc", "0"), ("dbus", "2")] {
        let samples = if differed == "0" { vec![] } else { vec![&sample; 2] };
        let report = object!({
            "name": "op-chat",
            "lost": [{"operation": "memory.Recall", "way": "WAY_GRPC", "calls": "3"}],
            "comparisons": [{
                "operation": "memory.Stats", "compared": "10", "differed": differed,
                "samples": samples,
            }],
        });
        let output = report_calls(&daemon, via, &report);
        assert_eq!(output.status.code(), Some(0), "{}", crate::ctl::stderr(&output));
    }
    let uses = json(&daemon, "grpc", &["migration", "uses", "--client", "op-chat"]);
    let lost = &uses["uses"][0];
    assert_eq!((&lost["operation"], number(&lost["lost"])), (&object!("memory.Recall"), 6));
    assert_eq!(number(&lost["calls"]), 0);

    let found = json(&daemon, "dbus", &["migration", "differences", "memory.Stats"]);
    let found = &found["comparisons"][0];
    assert_eq!((number(&found["compared"]), number(&found["differed"])), (20, 2));
    assert_eq!(found["samples"].as_array().unwrap().len(), 2);
    assert_eq!(found["samples"][0]["grpc"], "nothing");
    assert!(found["samples"][0]["seen"].is_string());
    let shown = stdout(&ctl(&daemon, "grpc", &["migration", "differences"]));
    assert!(shown.contains("memory.Stats") && shown.contains("version"), "{shown}");
    let other = stdout(&ctl(&daemon, "grpc", &["migration", "differences", "memory.List"]));
    assert_eq!(other, "nothing was compared\n");

    let report = ctl(&daemon, "grpc", &["migration", "report"]);
    assert_eq!(report.status.code(), Some(3));
    let report = stdout(&report);
    assert!(
        report.contains("6 calls of memory.Recall over gRPC got no answer by op-chat"),
        "{report}"
    );
    assert!(report.contains("2 of 20 answers of memory.Stats differed by op-chat"), "{report}");
    assert_eq!(daemon.metric("opdbus_migration_lost_calls_total{way=\"grpc\"}"), Some(6.0));
    assert_eq!(daemon.metric("opdbus_migration_compared_total"), Some(20.0));
    assert_eq!(daemon.metric("opdbus_migration_differed_total"), Some(2.0));
}

#[test]
fn a_report_that_makes_no_sense_is_refused_as_a_whole() {
    let daemon = Daemon::start(OFTEN);
    let lost = |operation: &str, way: &str, calls: &str| object!({"operation": operation, "way": way, "calls": calls});
    let good = lost("memory.Recall", "WAY_GRPC", "1");
    let compared = |differed: &str, samples: Vec<Value>| {
        object!({"comparisons": [{
            "operation": "memory.Stats", "compared": "1", "differed": differed, "samples": samples,
        }]})
    };
    let long = object!({"field": "x".repeat(201)});
    for (report, field) in [
        (object!({"name": "op chat"}), "name"),
        (object!({"lost": [good, lost("memory", "WAY_GRPC", "1")]}), "lost[1].operation"),
        (object!({"lost": [lost("memory.Recall", "WAY_UNSPECIFIED", "1")]}), "lost[0].way"),
        (object!({"lost": [lost("memory.Recall", "WAY_GRPC", "1000000001")]}), "lost[0].calls"),
        (object!({"lost": vec![good.clone(); 1001]}), "lost"),
        (compared("2", vec![]), "comparisons[0].differed"),
        (compared("1", vec![object!({}); 9]), "comparisons[0].samples"),
        (compared("1", vec![long]), "comparisons[0].samples[0].field"),
    ] {
        let output = report_calls(&daemon, "grpc", &report);
        let text = crate::ctl::stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("error: {field}: ")), "{field}: {text}");
    }
    let unknown = object!({"lost": [good, lost("memory.Nothing", "WAY_GRPC", "1")]});
    let text = crate::ctl::stderr(&report_calls(&daemon, "grpc", &unknown));
    assert!(text.contains("UNKNOWN_OPERATION"), "{text}");
    let uses = json(&daemon, "grpc", &["migration", "uses", "--agent", "memory"]);
    assert_eq!(uses["uses"].as_array().unwrap().len(), 0, "{uses}");
}

#[tokio::test]
async fn another_user_may_report_and_see_nothing() {
    let service = Service::new(Config::default());
    let identity = Identity::User { uid: 4_242, gid: Some(4_242) };
    let caller = Caller::new(identity, Attested::Kernel, "test").with_groups(Some(vec![4_242]));
    let caller = Arc::new(caller);
    let call = async |operation: &str, request: Vec<u8>| {
        let route = service.executor.find("migration", operation).unwrap();
        let context = Context::new(Arc::clone(&caller), Transport::Grpc);
        service.executor.call(&route, context, request.into()).await
    };
    for (operation, request) in [
        ("ListUses", ListUsesRequest::default().encode_to_vec()),
        ("GetReport", GetReportRequest::default().encode_to_vec()),
        ("ListDifferences", ListDifferencesRequest::default().encode_to_vec()),
    ] {
        let refused = call(operation, request).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AccessDenied, "{operation}");
    }
    call("ReportCalls", ReportCallsRequest::default().encode_to_vec()).await.unwrap();
}
