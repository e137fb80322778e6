//! Native calls: requests, responses, errors and metadata.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use op_dbus::call::{Context, SessionScope, Transport};
use op_dbus::contract::{Contract, Operation, RawReplies, RawRequests, Running as Call};
use op_dbus::error::ErrorKind;
use op_dbus::executor::Executor;
use op_dbus::host::Host;
use op_dbus::metrics::Metrics;
use op_dbus::proto::opdbus::agent::probe::v1::{
    CountRequest, CountResponse, EchoRequest, EchoResponse, Everything, FailRequest, FailResponse,
};
use op_dbus::proto::opdbus::v1::{CallJsonRequest, CallJsonResponse, PingRequest, PingResponse};
use op_dbus::registry::Registry;
use op_dbus::status::Status as ServiceStatus;
use op_dbus::transport::grpc::{self, Config, Server};
use tempfile::TempDir;
use tonic::{Code, Request};

use crate::fixture::executor_of;

use super::{COUNT, Client, ECHO, FAIL, PING, check_error, config, place, start};

#[tokio::test]
async fn every_type_comes_back_as_it_was_sent() {
    let running = start().await;
    let everything = Everything {
        a_bool: true,
        an_int64: i64::MIN,
        a_double: -0.5,
        some_bytes: Bytes::from_static(&[0, 255]),
        strings: vec!["".into(), "é\n\0".into()],
        nested: Some(Box::default()),
        ..Everything::default()
    };
    let request = EchoRequest {
        text: "a text".into(),
        data: vec![0x80; 70_000].into(),
        everything: Some(everything.clone()),
        ..EchoRequest::default()
    };
    let client = running.client().await;
    let response: EchoResponse = client.call(ECHO, request.clone()).await.unwrap();
    assert_eq!((response.text, response.data), (request.text, request.data));
    assert_eq!(response.everything, Some(everything));
    assert_eq!(running.metric("opdbus_calls_total", "outcome=\"ok\",transport=\"grpc\""), 1.0);
}

#[tokio::test]
async fn many_calls_share_a_connection() {
    let running = start().await;
    let client = running.client().await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..500_usize {
        let client = client.clone();
        calls.spawn(async move {
            let payload = Bytes::from(vec![7; number * 50]);
            let request = PingRequest { payload: payload.clone() };
            let response: PingResponse = client.call(PING, request).await.unwrap();
            assert_eq!(response.payload, payload);
        });
    }
    assert_eq!(calls.join_all().await.len(), 500);
}

#[tokio::test]
async fn json_calls_are_calls_of_what_they_name() {
    let running = start().await;
    let client = running.client().await;
    let request = CallJsonRequest {
        agent: "probe".into(),
        operation: "echo".into(),
        arguments: r#"{"text": "hello"}"#.into(),
    };
    let path = "/opdbus.v1.AgentsService/CallJson";
    let response: CallJsonResponse = client.call(path, request.clone()).await.unwrap();
    assert!(response.result.contains(r#""text":"hello""#), "{}", response.result);
    let wrong = CallJsonRequest { arguments: r#"{"txt": 1}"#.into(), ..request };
    let outcome = client.call::<_, CallJsonResponse>(path, wrong).await;
    check_error(outcome, Code::InvalidArgument, "INVALID_ARGUMENT");
}

/// The code of each kind, written down a second time so that a slip in the table shows.
fn expected(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::AccessDenied | ErrorKind::PathOutsideRoot => Code::PermissionDenied,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::ApprovalRequired => Code::FailedPrecondition,
        ErrorKind::BackendFailed | ErrorKind::Internal => Code::Internal,
        ErrorKind::BackendMissing => Code::FailedPrecondition,
        ErrorKind::BackendUnavailable => Code::Unavailable,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Conflict => Code::Aborted,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::LimitExceeded => Code::ResourceExhausted,
        ErrorKind::Migrated => Code::FailedPrecondition,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::SandboxUnavailable => Code::FailedPrecondition,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::UnknownAgent => Code::NotFound,
        ErrorKind::UnknownOperation => Code::Unimplemented,
    }
}

#[tokio::test]
async fn each_kind_of_error_has_its_code_and_reason() {
    let running = start().await;
    let client = running.client().await;
    for kind in ErrorKind::ALL {
        let reason = kind.reason();
        let request = FailRequest { reason: reason.into(), message: format!("as {reason}") };
        let outcome = client.call::<_, FailResponse>(FAIL, request).await;
        assert_eq!(outcome.as_ref().unwrap_err().message(), format!("as {reason}"));
        let details = check_error(outcome, expected(kind), reason);
        assert_eq!(details.error_info().unwrap().metadata["origin"], "probe");
    }
}

#[tokio::test]
async fn error_texts_survive_whatever_is_in_them() {
    let running = start().await;
    let client = running.client().await;
    for text in ["two\nlines\r\n", "100 % \u{1F980} é", "a\0b", "\u{7f}\t\"<>`?{}#", ""] {
        let request = FailRequest { reason: "NOT_FOUND".into(), message: text.into() };
        let status = client.call::<_, FailResponse>(FAIL, request).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::NotFound, text));
    }
    let request = FailRequest { reason: "CONFLICT".into(), message: "é".repeat(300_000) };
    let status = client.call::<_, FailResponse>(FAIL, request).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert!(status.message().ends_with(" ...") && status.message().len() < 2048);
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_nothing_else_ends() {
    let running = start().await;
    let client = running.client().await;
    let request = FailRequest { reason: "PANIC".into(), message: String::new() };
    let outcome = client.call::<_, FailResponse>(FAIL, request).await;
    check_error(outcome, Code::Internal, "INTERNAL");
    client.ping().await;
}

#[tokio::test]
async fn unknown_paths_are_unimplemented() {
    let running = start().await;
    let client = running.client().await;
    for path in [
        "/opdbus.v1.NoService/Ping",
        "/opdbus.v1.AgentsService/NoMethod",
        "/",
        "/a/b/c",
        "/grpc.nothing/Here",
    ] {
        let outcome = client.call::<_, PingResponse>(path, PingRequest::default()).await;
        assert!(outcome.as_ref().unwrap_err().message().contains(path));
        check_error(outcome, Code::Unimplemented, "UNKNOWN_OPERATION");
        // As a stream, too.
        let requests = tokio_stream::iter([PingRequest::default()]);
        let outcome = client.stream::<_, PingResponse>(path, requests).await.map(|_| ());
        assert!(outcome.as_ref().unwrap_err().message().contains(path));
        check_error(outcome, Code::Unimplemented, "UNKNOWN_OPERATION");
    }
    assert_eq!(running.metric("opdbus_rejected_total", "unknown_operation"), 10.0);
}

#[tokio::test]
async fn a_request_id_gives_the_first_result_again() {
    let running = start().await;
    let client = running.client().await;
    let count = async |id: Option<&'static str>| {
        let mut request = Request::new(CountRequest {});
        if let Some(id) = id {
            request.metadata_mut().insert("opdbus-request-id", id.parse().unwrap());
        }
        client.request::<_, CountResponse>(COUNT, request).await.unwrap().into_inner().count
    };
    assert_eq!(count(Some("one")).await, 1);
    assert_eq!(count(Some("one")).await, 1);
    assert_eq!(count(Some("two")).await, 2);
    assert_eq!(count(None).await, 3);
}

#[tokio::test]
async fn wrong_metadata_are_named() {
    let running = start().await;
    let client = running.client().await;
    for (name, value) in [
        ("opdbus-request-id", "a b"),
        ("opdbus-session-id", "a b"),
        ("opdbus-on-disconnect", "never"),
        ("opdbus-detach", "true"),
        ("opdbus-nothing", "1"),
        ("traceparent", "00-1-2-3"),
        ("grpc-timeout", "soon"),
    ] {
        let mut request = Request::new(PingRequest::default());
        request.metadata_mut().insert(name, value.parse().unwrap());
        let outcome = client.request::<_, PingResponse>(PING, request).await;
        let details = check_error(outcome, Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, name);
    }
    assert_eq!(running.metric("opdbus_rejected_total", "invalid_request"), 7.0);
}

/// A host that notes the context of each call and answers with the request.
struct Listening(Arc<Mutex<Vec<Context>>>);

impl Host for Listening {
    fn call<'a>(
        &'a self,
        _operation: &'a Operation,
        context: &'a Context,
        request: Bytes,
    ) -> Call<'a, Bytes> {
        self.0.lock().unwrap().push(context.clone());
        Box::pin(async move { Ok(request) })
    }

    fn stream<'a>(
        &'a self,
        operation: &'a Operation,
        _: &'a Context,
        _: RawRequests,
        _: RawReplies,
    ) -> Call<'a, ()> {
        op_dbus::contract::wrong_shape("a service of unary calls", operation.index)
    }

    fn session_ended<'a>(&'a self, _: &'a SessionScope) -> Call<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A transport whose calls' contexts can be seen, with op-dbus's own service only.
pub struct Heard {
    pub executor: Arc<Executor>,
    pub status: Arc<ServiceStatus>,
    pub contexts: Arc<Mutex<Vec<Context>>>,
    pub server: Server,
    _folder: TempDir,
}

pub async fn listening(config: Config) -> Heard {
    let contexts = Arc::default();
    let registry = Arc::new(Registry::default());
    let contract = Contract::built_in().unwrap();
    let host = Arc::new(Listening(Arc::clone(&contexts)));
    registry.register(&contract, "opdbus.v1.AgentsService", host).unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let status = Arc::new(ServiceStatus::default());
    let folder = tempfile::tempdir().unwrap();
    let executor = executor_of(registry, metrics, &status, folder.path());
    let server = grpc::start(config, Arc::clone(&executor), Arc::clone(&status)).await.unwrap();
    Heard { executor, status, contexts, server, _folder: folder }
}

impl Heard {
    /// Registers a further service while the transport runs.
    pub fn register(&self, service: &str) {
        let host = Arc::new(Listening(Arc::clone(&self.contexts)));
        let contract = Contract::built_in().unwrap();
        self.executor.registry().register(&contract, service, host).unwrap();
        self.executor.refresh();
    }
}

#[tokio::test]
async fn the_context_is_what_the_client_said() {
    let (_folder, path) = place();
    let heard = listening(config(&path)).await;
    let client = Client::unix(&path).await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut request = Request::new(PingRequest::default());
    request.metadata_mut().insert("grpc-timeout", "5S".parse().unwrap());
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    client.request::<_, PingResponse>(PING, request).await.unwrap();
    client.ping().await;
    let heard = heard.contexts.lock().unwrap();
    let [first, second] = heard.as_slice() else { panic!("there were two calls") };
    assert_eq!((first.transport, second.transport), (Transport::Grpc, Transport::Grpc));
    assert_eq!(first.traceparent.as_deref(), Some(traceparent));
    let seconds = |context: &Context| (context.deadline.unwrap() - context.received).as_secs_f64();
    assert!((4.5..=5.0).contains(&seconds(first)), "{}", seconds(first));
    assert_eq!((second.traceparent.as_deref(), seconds(second)), (None, 30.0));
    assert!(Arc::ptr_eq(&first.caller, &second.caller), "one caller for a connection");
}
