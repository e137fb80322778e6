//! What a call of a batch, or one that is started, takes over from the call that makes it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use op_dbus::call::{Context, SessionScope};
use op_dbus::contract::{Agent, Contract, Operation, RawReplies, RawRequests, Running};
use op_dbus::executor::Calls;
use op_dbus::host::{Host, Local};
use op_dbus::metrics::Metrics;
use op_dbus::proto::opdbus::v1::{
    BatchCallResponse, CallsServiceAgent, SessionsServiceAgent, StartCallRequest,
};
use op_dbus::registry::Registry;
use op_dbus::session;
use prost::Message;
use tokio::time::Instant;

use super::{context, item, sequential};
use crate::fixture::{executor_of, start_session};

/// Notes the contexts of calls.
#[derive(Default)]
struct Heard(Mutex<Vec<Context>>);

impl Host for Heard {
    fn call<'a>(&'a self, _: &'a Operation, context: &'a Context, _: Bytes) -> Running<'a, Bytes> {
        self.0.lock().unwrap().push(context.clone());
        Box::pin(async { Ok(Bytes::new()) })
    }

    fn stream<'a>(
        &'a self,
        _: &'a Operation,
        context: &'a Context,
        _: RawRequests,
        _: RawReplies,
    ) -> Running<'a, ()> {
        self.0.lock().unwrap().push(context.clone());
        Box::pin(async { Ok(()) })
    }

    fn session_ended<'a>(&'a self, _: &'a SessionScope) -> Running<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn who_calls_and_in_what_is_handed_on_and_the_rest_is_not() {
    let contract = Contract::built_in().unwrap();
    let registry = Arc::new(Registry::default());
    let heard = Arc::new(Heard::default());
    let probe = "opdbus.agent.probe.v1.ProbeService";
    registry.register(&contract, probe, Arc::clone(&heard) as _).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let executor = executor_of(registry, metrics, &Arc::default(), folder.path());
    let calls = CallsServiceAgent(Arc::new(Calls::new(&executor)));
    let sessions = session::Service::new(Arc::clone(executor.sessions()));
    let sessions = SessionsServiceAgent(Arc::new(sessions));
    let serve = |name: &str, agent: Arc<dyn Agent>| {
        executor.registry().register(&contract, name, Arc::new(Local::new(agent))).unwrap();
    };
    serve("opdbus.v1.CallsService", Arc::new(calls));
    serve("opdbus.v1.SessionsService", Arc::new(sessions));
    executor.refresh();
    start_session(&executor, context(), "work").await;

    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let outer = Context {
        timeout: Some(Duration::from_secs(10)),
        request_id: Some("outer".into()),
        traceparent: Some(trace.into()),
        session: Some("work".into()),
        ..context()
    };
    let count = || item("probe", "count", "");
    let short = prost_types::Duration { seconds: 2, nanos: 0 };
    let timed = op_dbus::proto::opdbus::v1::BatchItem { timeout: Some(short), ..count() };
    let route = executor.find("calls", "BatchCall").unwrap();
    let request = sequential(vec![count(), timed]).encode_to_vec().into();
    let before = Instant::now();
    let without_id = Context { request_id: None, ..outer.clone() };
    let response = executor.call(&route, without_id, request).await.unwrap();
    assert_eq!(BatchCallResponse::decode(response).unwrap().failed, 0);

    let route = executor.find("calls", "StartCall").unwrap();
    let request = StartCallRequest {
        agent: "probe".into(),
        operation: "generate".into(),
        ..StartCallRequest::default()
    };
    executor.call(&route, outer.clone(), request.encode_to_vec().into()).await.unwrap();
    tokio::task::yield_now().await;

    let contexts = std::mem::take(&mut *heard.0.lock().unwrap());
    assert_eq!(contexts.len(), 3);
    for inner in &contexts {
        assert_eq!((&inner.caller, inner.transport), (&outer.caller, outer.transport));
        assert_eq!((&inner.traceparent, &inner.session), (&outer.traceparent, &outer.session));
        assert_eq!(inner.request_id, None);
        assert!(inner.received >= before);
    }
    let left = |index: usize| contexts[index].deadline.unwrap() - before;
    assert!(left(0) < Duration::from_secs(10), "the batch bounds the call");
    assert!(left(0) > Duration::from_secs(9), "and takes a little for the answer");
    assert!(left(1) < Duration::from_secs(3), "the call's own time is shorter");
    assert!(left(2) > Duration::from_secs(60), "a task has its own time");
}
