//! What a batch gives: results in their form and order, one status for each call, and what stops it.

use std::time::{Duration, Instant};

use op_dbus::error::ErrorKind;
use op_dbus::proto::opdbus::agent::memory::v1::RecallResponse;
use op_dbus::proto::opdbus::agent::probe::v1::EchoRequest;
use op_dbus::proto::opdbus::v1::{
    BatchCallRequest, BatchItem, BatchOrder,
    BatchStatus::{Failed, Ok as Well, Skipped},
};
use prost::Message;

use super::{
    batch, context, fail, item, named, parallel, reason, recall, remember, results, sequential,
    service, sleep, statuses, waits, with_timeout,
};
use crate::fixture::denying;

#[tokio::test]
async fn results_come_in_the_form_of_the_request() {
    let service = service();
    let request = EchoRequest { text: "hello".into(), ..EchoRequest::default() };
    let encoded = |operation: &str, request: Vec<u8>| BatchItem {
        request: Some(request.into()),
        ..item("probe", operation, "")
    };
    let found = results(
        &service,
        sequential(vec![
            named("a", item("probe", "echo", r#"{"text":"hello"}"#)),
            encoded("Echo", request.encode_to_vec()),
            item("probe", "Count", ""),
            encoded("Count", Vec::new()),
            item("probe", "Nothing", ""),
        ]),
    )
    .await;
    assert_eq!(statuses(&found), [Well; 5]);
    let json: serde_json::Value = serde_json::from_str(&found[0].result).unwrap();
    assert_eq!((&json["text"], &*found[0].response), (&"hello".into(), b"".as_slice()));
    assert_eq!(EchoRequest::decode(found[1].response.clone()).unwrap(), request);
    assert_eq!(found[1].result, "");
    assert_eq!(found[2].result, r#"{"count":"1"}"#);
    assert_eq!((&*found[3].result, &*found[3].response), ("", [8, 2].as_slice()));
    assert_eq!(found[4].result, "{}");
    let places: Vec<_> = found.iter().map(|result| (result.index, result.id.as_str())).collect();
    assert_eq!(places, [(0, "a"), (1, ""), (2, ""), (3, ""), (4, "")]);
    assert!(found.iter().all(|result| result.took.is_some()));
}

#[tokio::test]
async fn each_call_has_its_own_outcome() {
    let service = service();
    let found = results(
        &service,
        sequential(vec![
            item("probe", "Count", ""),
            fail(),
            item("memroy", "recall", ""),
            item("memory", "recal", ""),
            item("memory", "recall", r#"{"kye":"k"}"#),
            item("memory", "recall", "{"),
            BatchItem { request: Some("".into()), ..recall("k") },
            BatchItem {
                timeout: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
                ..recall("k")
            },
            BatchItem { request_id: "x".repeat(129), ..recall("k") },
            item("probe", "fail", r#"{"reason":"PANIC"}"#),
            item("probe", "Count", ""),
        ]),
    )
    .await;
    let mut expected = [Failed; 11];
    (expected[0], expected[10]) = (Well, Well);
    assert_eq!(statuses(&found), expected);
    let reasons: Vec<_> = found[1..10].iter().map(|result| reason(result).0).collect();
    let invalid = "INVALID_ARGUMENT";
    assert_eq!(
        reasons,
        [
            "NOT_FOUND",
            "UNKNOWN_AGENT",
            "UNKNOWN_OPERATION",
            invalid,
            invalid,
            invalid,
            invalid,
            invalid,
            "INTERNAL"
        ]
    );
    let failure = found[1].failure.as_ref().unwrap();
    assert_eq!((&*failure.message, &*failure.facts["origin"]), ("as asked", "probe"));
    for (index, field) in [(4, "kye"), (6, "request"), (7, "timeout"), (8, "request_id")] {
        assert!(reason(&found[index]).1.contains(field), "{:?}", found[index]);
    }
    assert!(found[2].took.is_none() && found[1].took.is_some());
    let metrics = service.executor.metrics().render().unwrap();
    for line in [
        r#"opdbus_calls_total{agent="calls",interface="own",operation="BatchCall",outcome="ok",transport="grpc"} 1"#,
        r#"opdbus_calls_total{agent="probe",interface="own",operation="Count",outcome="ok",transport="grpc"} 2"#,
        r#"opdbus_rejected_total{reason="unknown_agent"} 1"#,
        r#"opdbus_rejected_total{reason="unknown_operation"} 1"#,
        r#"opdbus_rejected_total{reason="invalid_request"} 5"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn each_call_is_authorized() {
    let service = service();
    let request = sequential(vec![sleep(60), item("probe", "Count", "")]);
    let running = results(&service, request);
    let lock = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        service.executor.reconfigure(denying());
    };
    let (found, ()) = tokio::join!(running, lock);
    assert_eq!(statuses(&found), [Well, Failed]);
    assert_eq!(reason(&found[1]).0, "ACCESS_DENIED");
    let error = batch(&service, context(), sequential(vec![fail()])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AccessDenied);
}

#[tokio::test]
async fn an_empty_batch_has_no_results() {
    assert!(results(&service(), parallel(vec![])).await.is_empty());
}

#[tokio::test]
async fn calls_run_side_by_side_only_if_that_is_asked_for() {
    let service = service();
    let four = || vec![sleep(50), sleep(50), sleep(50), sleep(50)];
    let time = async |request| {
        let start = Instant::now();
        assert_eq!(statuses(&results(&service, request).await), [Well; 4]);
        start.elapsed()
    };
    assert!(time(sequential(four())).await >= Duration::from_millis(200));
    assert!(time(parallel(four())).await < Duration::from_millis(190));
    let two = BatchCallRequest { max_parallel: 2, ..parallel(four()) };
    assert!(time(two).await >= Duration::from_millis(100));
    let request = BatchCallRequest { max_parallel: 2, ..sequential(four()) };
    let error = batch(&service, context(), request).await.unwrap_err();
    assert_eq!(error.fact("field"), Some("max_parallel"));
}

#[tokio::test]
async fn results_come_as_asked_for() {
    let service = service();
    let items = || vec![sleep(120), sleep(60), fail(), sleep(1)];
    let order = async |order: BatchOrder| -> Vec<u32> {
        let request = BatchCallRequest { order: order.into(), ..parallel(items()) };
        results(&service, request).await.iter().map(|result| result.index).collect()
    };
    assert_eq!(order(BatchOrder::Unspecified).await, [0, 1, 2, 3]);
    assert_eq!(order(BatchOrder::Request).await, [0, 1, 2, 3]);
    assert_eq!(order(BatchOrder::Completion).await, [2, 3, 1, 0]);
    let request = BatchCallRequest { order: 7, ..sequential(items()) };
    let error = batch(&service, context(), request).await.unwrap_err();
    assert_eq!(error.fact("field"), Some("order"));
}

#[tokio::test]
async fn an_error_stops_the_batch_if_that_is_asked_for() {
    let service = service();
    let items = || vec![remember("a", "1"), fail(), remember("b", "2"), recall("a")];
    let on = results(&service, sequential(items())).await;
    assert_eq!(statuses(&on), [Well, Failed, Well, Well]);
    let request = BatchCallRequest { stop_on_error: true, ..sequential(items()) };
    let off = results(&service, request).await;
    assert_eq!(statuses(&off), [Well, Failed, Skipped, Skipped]);
    let (reason, text) = reason(&off[2]);
    assert!(reason == "CANCELLED" && text.contains("items[1]"), "{reason}: {text}");
    assert!(off[2].took.is_none());

    let request = BatchCallRequest {
        stop_on_error: true,
        max_parallel: 2,
        ..parallel(vec![sleep(50), fail(), sleep(1)])
    };
    let found = results(&service, request).await;
    assert_eq!(statuses(&found), [Well, Failed, Skipped], "what runs goes on");
}

#[tokio::test]
async fn a_batch_that_is_dropped_cancels_what_runs() {
    let service = service();
    let request = BatchCallRequest { max_parallel: 3, ..parallel(vec![sleep(5_000); 5]) };
    let running = batch(&service, context(), request);
    assert!(tokio::time::timeout(Duration::from_millis(50), running).await.is_err());
    assert_eq!(waits(&service).await, (3, 0, 3));
    let metrics = service.executor.metrics().render().unwrap();
    let line = r#"opdbus_calls_total{agent="probe",interface="own",operation="Sleep",outcome="cancelled",transport="grpc"} 3"#;
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn what_is_done_before_the_deadline_is_given() {
    let service = service();
    let request = sequential(vec![remember("a", "1"), sleep(5_000), recall("a")]);
    let found = batch(&service, with_timeout(200), request).await.unwrap().results;
    assert_eq!(statuses(&found), [Well, Failed, Skipped]);
    assert_eq!(reason(&found[1]).0, "DEADLINE_EXCEEDED");
    assert_eq!(reason(&found[2]).0, "DEADLINE_EXCEEDED");
    assert_eq!(waits(&service).await, (1, 0, 1));
}

#[tokio::test]
async fn a_call_has_a_time_of_its_own() {
    let service = service();
    let short = Some(prost_types::Duration { seconds: 0, nanos: 20_000_000 });
    let items = vec![BatchItem { timeout: short, ..sleep(5_000) }, sleep(1)];
    let found = results(&service, sequential(items)).await;
    assert_eq!(statuses(&found), [Failed, Well]);
    assert_eq!(reason(&found[0]).0, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn request_ids_stand_for_calls_and_for_batches() {
    let service = service();
    let count = |id: &str| BatchItem { request_id: id.into(), ..item("probe", "Count", "") };
    let found = results(&service, sequential(vec![count("a"), count("b"), count("a")])).await;
    let texts: Vec<_> = found.iter().map(|result| result.result.as_str()).collect();
    assert_eq!(texts, [r#"{"count":"1"}"#, r#"{"count":"2"}"#, r#"{"count":"1"}"#]);

    let once = || context_with_id("whole");
    let request = sequential(vec![count(""), count("a")]);
    let first = batch(&service, once(), request.clone()).await.unwrap();
    assert_eq!(first.results[0].result, r#"{"count":"3"}"#);
    assert_eq!(first.results[1].result, r#"{"count":"1"}"#);
    assert_eq!(batch(&service, once(), request).await.unwrap(), first);
    let other = sequential(vec![count("")]);
    assert_eq!(
        batch(&service, once(), other).await.unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
}

fn context_with_id(id: &str) -> op_dbus::call::Context {
    op_dbus::call::Context { request_id: Some(id.into()), ..context() }
}

#[tokio::test]
async fn a_batch_reads_what_was_stored_before() {
    let service = service();
    let request = sequential(vec![remember("k", r#"{"a":["b"]}"#), recall("k")]);
    let found = results(&service, request).await;
    let json: serde_json::Value = serde_json::from_str(&found[1].result).unwrap();
    assert_eq!(json["value"], serde_json::json!({"a": ["b"]}));
    let encoded =
        BatchItem { request: Some(vec![10, 1, b'k'].into()), ..item("memory", "Recall", "") };
    let found = results(&service, parallel(vec![encoded])).await;
    assert_eq!(RecallResponse::decode(found[0].response.clone()).unwrap().version, 1);
}
