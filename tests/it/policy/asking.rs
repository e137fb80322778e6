//! The decision `ask`: somebody approves a call before its agent is reached, tasks and batches included.

use op_dbus::call::Context;
use op_dbus::contract::json_to_message;
use op_dbus::error::ErrorKind;
use op_dbus::executor::{Decision, Input, Who};
use op_dbus::proto::opdbus::agent::probe::v1::{SumRequest, SumResponse};
use serde_json::json;

use super::{ALICE, GUARDED, ROOT, about, approve, asked, call, context, ruled, with};

#[tokio::test]
async fn the_policy_asks_before_the_agent_is_reached() {
    let service = ruled(vec![about("Count", Who::everybody(), Decision::Ask)]);
    let count = |context| call(&service, context, ("probe", "Count"), json!({}));
    let id = asked(count(context(ALICE)).await);
    let rejected = "opdbus_rejected_total{reason=\"approval_required\"} 1";
    assert!(service.executor.metrics().render().unwrap().contains(rejected));
    approve(&service, ROOT, &id).await.unwrap();
    // Had the agent seen the first call, this were the second.
    assert_eq!(count(with(ALICE, &id)).await.unwrap()["count"], "1");
    assert_ne!(asked(count(context(ALICE)).await), id);
}

#[tokio::test]
async fn the_preview_shows_the_request_without_its_secrets() {
    let service = ruled(vec![about("Guarded", Who::everybody(), Decision::Ask)]);
    let request = json!({"text": "it", "secret": "s3cret", "inner": {"secret": "s3cret"}});
    let error = call(&service, context(ALICE), GUARDED, request.clone()).await.unwrap_err();
    let preview = error.fact("preview").unwrap();
    assert!(preview.starts_with("probe.Guarded {"), "{preview}");
    assert!(preview.contains("\"it\"") && !preview.contains("s3cret"), "{preview}");
    // One approval serves both, the policy and the agent.
    let id = error.fact("approval_id").unwrap();
    approve(&service, ROOT, id).await.unwrap();
    let done = call(&service, with(ALICE, id), GUARDED, request.clone()).await.unwrap();
    assert_eq!(done["approved_by"], 0);
    // And a secret is part of what was approved.
    let id = asked(call(&service, context(ALICE), GUARDED, request).await);
    approve(&service, ROOT, &id).await.unwrap();
    let other = json!({"text": "it", "secret": "other", "inner": {"secret": "s3cret"}});
    let error = call(&service, with(ALICE, &id), GUARDED, other).await.unwrap_err();
    assert_eq!(error.fact("field"), Some("approval-id"), "{error}");
}

#[tokio::test]
async fn a_task_is_approved_like_any_call() {
    let service = ruled(vec![about("Generate", Who::everybody(), Decision::Ask)]);
    let start = |context| {
        let request = json!({
            "agent": "probe", "operation": "Generate", "arguments": "{\"count\": 3}",
        });
        call(&service, context, ("calls", "StartCall"), request)
    };
    let id = asked(start(context(ALICE)).await);
    approve(&service, ROOT, &id).await.unwrap();
    let task = start(with(ALICE, &id)).await.unwrap();
    let wait = json!({"id": task["task"]["id"], "timeout": "30s"});
    let ended = call(&service, context(ALICE), ("tasks", "WaitTask"), wait).await.unwrap();
    assert_eq!(ended["task"]["state"], "TASK_STATE_COMPLETED", "{ended}");
    assert_eq!(start(with(ALICE, &id)).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_task_whose_agent_asks_ends_with_the_question() {
    let service = ruled(Vec::new());
    let start = |context| {
        let request = json!({
            "agent": "probe", "operation": "Guarded", "arguments": "{\"text\": \"it\"}",
        });
        call(&service, context, ("calls", "StartCall"), request)
    };
    let wait = async |task: serde_json::Value| {
        let wait = json!({"id": task["task"]["id"], "timeout": "30s"});
        call(&service, context(ALICE), ("tasks", "WaitTask"), wait).await.unwrap()
    };
    let ended = wait(start(context(ALICE)).await.unwrap()).await;
    let failure = &ended["task"]["failure"];
    assert_eq!(failure["reason"], "APPROVAL_REQUIRED", "{ended}");
    let id = failure["facts"]["approval_id"].as_str().unwrap();
    approve(&service, ROOT, id).await.unwrap();
    let ended = wait(start(with(ALICE, id)).await.unwrap()).await;
    assert_eq!(ended["task"]["state"], "TASK_STATE_COMPLETED", "{ended}");
}

#[tokio::test]
async fn a_stream_of_requests_cannot_be_approved_and_is_refused() {
    let service = ruled(vec![about("Sum", Who::everybody(), Decision::Ask)]);
    let requests = [Ok(SumRequest { number: 1 })];
    let sum = service.stream::<_, SumResponse>(("probe", "Sum"), context(ALICE), requests);
    let error = sum.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AccessDenied, "{error}");
    assert!(error.message().contains("stream"), "{error}");
}

#[tokio::test]
async fn a_batch_does_not_lend_its_approval_to_its_calls() {
    let service = ruled(Vec::new());
    let item = json!({
        "agent": "probe", "operation": "Guarded", "arguments": "{\"text\": \"it\"}",
    });
    let id = asked(super::guarded(&service, context(ALICE), "it").await);
    approve(&service, ROOT, &id).await.unwrap();
    let batch = json!({"items": [item]});
    let answer = call(&service, with(ALICE, &id), ("calls", "BatchCall"), batch).await.unwrap();
    assert_eq!(answer["failed"], 1, "{answer}");
    super::guarded(&service, with(ALICE, &id), "it").await.unwrap();
}

#[tokio::test]
async fn a_client_cannot_say_that_it_was_approved() {
    let service = ruled(vec![about("Generate", Who::everybody(), Decision::Ask)]);
    let route = service.executor.find("probe", "Generate").unwrap();
    let request = json_to_message(&route.operation.input, "{\"count\": 1}").unwrap();
    let context = Context { approval_id: Some("mine".into()), ..context(ALICE) };
    let started = service.executor.start(&route, context, Input::One(request.into())).await;
    assert_eq!(started.err().unwrap().kind(), ErrorKind::NotFound);
}
