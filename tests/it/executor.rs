//! What the executor does with every call, whichever transport it came by.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use op_dbus::call::{Attested, Caller, Context, Identity, Transport};
use op_dbus::error::{Error, ErrorKind};
use op_dbus::executor::Config;
use op_dbus::proto::opdbus::agent::probe::v1::{
    CountRequest, CountResponse, SleepRequest, SleepResponse,
};
use prost::Message;

use crate::fixture::{Service, denying};

pub fn context(uid: u32) -> Context {
    let identity = Identity::User { uid, gid: Some(uid) };
    Context::new(Arc::new(Caller::new(identity, Attested::Kernel, "test")), Transport::Grpc)
}

fn with_timeout(millis: u64) -> Context {
    Context { timeout: Some(Duration::from_millis(millis)), ..context(1000) }
}

fn with_id(uid: u32, id: &str) -> Context {
    Context { request_id: Some(id.into()), ..context(uid) }
}

async fn count(service: &Service, context: Context) -> Result<u64, Error> {
    let route = service.executor.find("probe", "Count")?;
    let request = CountRequest {}.encode_to_vec().into();
    let response = service.executor.call(&route, context, request).await?;
    Ok(CountResponse::decode(response).unwrap().count)
}

async fn sleep(service: &Service, context: Context, millis: i32) -> Result<SleepResponse, Error> {
    let route = service.executor.find("probe", "Sleep")?;
    let duration = prost_types::Duration { seconds: 0, nanos: millis * 1_000_000 };
    let request = SleepRequest { duration: Some(duration) }.encode_to_vec().into();
    let response = service.executor.call(&route, context, request).await?;
    Ok(SleepResponse::decode(response).unwrap())
}

fn metric(service: &Service, line: &str) -> bool {
    service.executor.metrics().render().unwrap().lines().any(|found| found == line)
}

#[tokio::test]
async fn a_call_is_counted_once_with_its_outcome() {
    let service = Service::new(Config::default());
    assert_eq!(count(&service, context(1)).await.unwrap(), 1);
    assert!(metric(
        &service,
        r#"opdbus_calls_total{agent="probe",interface="own",operation="Count",outcome="ok",transport="grpc"} 1"#
    ));
    assert!(metric(
        &service,
        r#"opdbus_calls_in_flight{agent="probe",interface="own",operation="Count",transport="grpc"} 0"#
    ));
}

#[tokio::test]
async fn the_policy_decides_and_the_refusal_is_counted() {
    let denied = Service::new(denying());
    let error = count(&denied, context(0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AccessDenied);
    assert!(metric(&denied, r#"opdbus_rejected_total{reason="denied"} 1"#));

    let open = Service::new(Config::default());
    let nobody = Context::new(
        Arc::new(Caller::new(Identity::Unknown, Attested::Nobody, "test")),
        Transport::Dbus,
    );
    let error = count(&open, nobody).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(metric(&open, r#"opdbus_rejected_total{reason="unauthenticated"} 1"#));
}

#[tokio::test]
async fn unknown_names_say_what_there_is() {
    let service = Service::new(Config::default());
    let error = service.executor.find("memroy", "Recall").map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownAgent);
    assert!(error.message().contains("probe"), "{error}");
    let error = service.executor.find("probe", "Cuont").map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownOperation);
    assert!(error.message().contains("Count"), "{error}");
}

#[tokio::test]
async fn a_stream_has_no_single_answer_and_the_error_says_what_has() {
    let service = Service::new(Config::default());
    for operation in ["generate", "sum", "chat"] {
        let outcome = service.executor.call_json("probe", operation, "{}", context(1)).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains("is a stream"), "{error}");
        assert!(error.message().contains("calls.StartCall"), "{error}");
    }
}

#[tokio::test]
async fn a_deadline_ends_the_work() {
    let service = Service::new(Config::default());
    let error = sleep(&service, with_timeout(20), 900).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    let counters = sleep(&service, context(1000), 0).await.unwrap();
    assert_eq!((counters.started, counters.cancelled), (2, 1));
}

#[tokio::test]
async fn no_call_is_longer_than_the_maximum() {
    let config = Config { max_timeout: Duration::from_millis(20), ..Config::default() };
    let service = Service::new(config);
    let error = sleep(&service, with_timeout(60_000), 900).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_call() {
    let service = Service::new(Config::default());
    let call = sleep(&service, context(1000), 900);
    assert!(tokio::time::timeout(Duration::from_millis(20), call).await.is_err());
    let counters = sleep(&service, context(1000), 0).await.unwrap();
    assert_eq!(counters.cancelled, 1);
    assert!(metric(
        &service,
        r#"opdbus_calls_total{agent="probe",interface="own",operation="Sleep",outcome="cancelled",transport="grpc"} 1"#
    ));
}

#[tokio::test]
async fn ten_thousand_calls_past_every_limit_are_all_answered() {
    let config =
        Config { max_in_flight: 2, max_in_flight_per_agent: 2, queue: 3, ..Config::default() };
    let service = Arc::new(Service::new(config));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..10_000 {
        let service = Arc::clone(&service);
        calls.spawn(async move { sleep(&service, context(1000), 30).await });
    }
    let (mut done, mut refused) = (0, 0);
    while let Some(outcome) = calls.join_next().await {
        match outcome.unwrap() {
            Ok(_) => done += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::LimitExceeded);
                assert_eq!(error.fact("limit"), Some("executor.queue"));
                assert_eq!(error.fact("limit_value"), Some("3"));
                assert!(error.retry_after().is_some());
                refused += 1;
            }
        }
    }
    assert_eq!((done, refused), (5, 9995));
    assert!(metric(&service, r#"opdbus_rejected_total{reason="agent_queue_full"} 9995"#));
    assert!(metric(&service, "opdbus_calls_queued 0"));
    sleep(&service, context(1000), 0).await.unwrap();
}

#[tokio::test]
async fn a_call_that_waits_too_long_for_a_place_is_told_so() {
    let config = Config { max_in_flight: 1, max_in_flight_per_agent: 1, ..Config::default() };
    let service = Arc::new(Service::new(config));
    let holder = Arc::clone(&service);
    let holder = tokio::spawn(async move { sleep(&holder, context(1000), 300).await });
    tokio::task::yield_now().await;
    let error = count(&service, with_timeout(20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(error.message().contains("waited for a place"), "{error}");
    assert!(metric(&service, r#"opdbus_rejected_total{reason="deadline"} 1"#));
    holder.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_repeated_request_id_gives_the_first_result() {
    let service = Service::new(Config::default());
    assert_eq!(count(&service, with_id(1, "a")).await.unwrap(), 1);
    assert_eq!(count(&service, with_id(1, "a")).await.unwrap(), 1);
    assert_eq!(count(&service, with_id(1, "b")).await.unwrap(), 2);
    // The same id of another user is another id.
    assert_eq!(count(&service, with_id(2, "a")).await.unwrap(), 3);
}

#[tokio::test]
async fn a_request_id_is_for_one_request() {
    let service = Service::new(Config::default());
    sleep(&service, with_id(1, "a"), 1).await.unwrap();
    let error = sleep(&service, with_id(1, "a"), 2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(error.fact("field"), Some("request-id"));
}

#[tokio::test]
async fn a_call_with_a_request_id_outlives_its_client() {
    let service = Service::new(Config::default());
    let first = sleep(
        &service,
        Context { timeout: Some(Duration::from_millis(10)), ..with_id(1, "a") },
        60,
    );
    assert_eq!(first.await.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    let again = sleep(&service, with_id(1, "a"), 60).await.unwrap();
    assert_eq!((again.started, again.finished, again.cancelled), (1, 1, 0));
}

#[tokio::test]
async fn remembered_results_are_bounded_and_forgotten() {
    let config = Config {
        request_id_max: 2,
        request_id_ttl: Duration::from_millis(30),
        ..Config::default()
    };
    let service = Service::new(config);
    count(&service, with_id(1, "a")).await.unwrap();
    count(&service, with_id(1, "b")).await.unwrap();
    let error = count(&service, with_id(1, "c")).await.unwrap_err();
    assert_eq!(error.fact("limit"), Some("executor.request_id_max"));
    tokio::time::sleep(Duration::from_millis(40)).await;
    assert_eq!(count(&service, with_id(1, "a")).await.unwrap(), 3);
}

#[tokio::test]
async fn a_panic_is_an_error_of_its_call_only() {
    let service = Service::new(Config::default());
    let arguments = r#"{"reason": "PANIC"}"#;
    let error =
        service.executor.call_json("probe", "Fail", arguments, context(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(count(&service, context(1)).await.unwrap(), 1);
}

#[tokio::test]
async fn draining_refuses_new_calls_and_waits_for_running_ones() {
    let service = Arc::new(Service::new(Config::default()));
    let running = Arc::clone(&service);
    let running = tokio::spawn(async move { sleep(&running, context(1), 50).await });
    tokio::task::yield_now().await;
    service.executor.drain();
    let error = count(&service, context(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    service.executor.idle().await;
    assert!(running.is_finished());
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn json_is_counted_as_the_operation_it_calls() {
    let service = Service::new(Config::default());
    let route = service.executor.find("agents", "CallJson").unwrap();
    let request = op_dbus::proto::opdbus::v1::CallJsonRequest {
        agent: "probe".into(),
        operation: "count".into(),
        arguments: String::new(),
    };
    let request: Bytes = request.encode_to_vec().into();
    let response = service.executor.call(&route, context(1), request).await.unwrap();
    let response = op_dbus::proto::opdbus::v1::CallJsonResponse::decode(response).unwrap();
    assert_eq!(response.result, r#"{"count":"1"}"#);
    assert!(metric(
        &service,
        r#"opdbus_calls_total{agent="probe",interface="own",operation="Count",outcome="ok",transport="grpc"} 1"#
    ));
    let error = service
        .executor
        .call_json("agents", "CallJson", r#"{"agent":"agents","operation":"CallJson"}"#, context(1))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn json_that_does_not_fit_is_refused_with_its_place() {
    let service = Service::new(Config::default());
    for (arguments, says) in [
        (r#"{"duration": "1s", "colour": "red"}"#, "colour"),
        (r#"{"duration": 7}"#, "line 1"),
        (r#"{"duration": "1s"} trailing"#, "trailing"),
        ("[", "line 1"),
    ] {
        let outcome = service.executor.call_json("probe", "Sleep", arguments, context(1)).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{arguments}");
        assert!(error.message().contains(says), "{arguments}: {error}");
    }
}
