//! Calls with one answer: typed and with JSON, over gRPC and over D-Bus.

use std::time::Duration;

use op_dbus::client::prost_types::Duration as Time;
use op_dbus::client::{CallOptions, MemoryClient, ProbeClient, Request};
use op_dbus::error::ErrorKind;
use op_dbus::proto::opdbus::agent::memory::v1::{IncrementRequest, RecallRequest, RememberRequest};
use op_dbus::proto::opdbus::agent::probe::v1::{
    CountRequest, EchoRequest, Everything, FailRequest, SleepRequest,
};

use super::{World, failure};

#[tokio::test]
async fn every_way_gives_the_same_result() {
    let world = World::new();
    let everything = Everything {
        a_bool: true,
        an_int64: -5,
        a_double: 0.5,
        a_colour: 2,
        int32s: vec![1, -2, 300],
        a_duration: Some(Time { seconds: 3, nanos: 5_000 }),
        nested: Some(Box::new(Everything { a_string: "within".into(), ..Everything::default() })),
        ..Everything::default()
    };
    let request = EchoRequest {
        text: "hällo".into(),
        data: bytes::Bytes::from_static(&[0, 255, 7]),
        everything: Some(everything.clone()),
        more: Some(everything),
        texts: vec!["a".into(), String::new()],
        value: Some("value".into()),
    };
    for client in world.both() {
        let echo = ProbeClient::new(client).echo(request.clone()).await.unwrap();
        assert_eq!(echo.text, request.text);
        assert_eq!(echo.data, request.data);
        assert_eq!(echo.everything, request.everything);
        assert_eq!(echo.more, request.more);
        assert_eq!(echo.texts, request.texts);
        assert_eq!(echo.value, request.value);
    }
    assert_eq!(world.counted("Echo", "grpc").await, 1);
    assert_eq!(world.counted("Echo", "dbus").await, 1);

    let [grpc, dbus] = world.both().map(MemoryClient::new);
    for (key, writer, reader) in [("one", &grpc, &dbus), ("other", &dbus, &grpc)] {
        let value = Some(key.to_uppercase().into());
        let remember = RememberRequest { key: key.into(), value, ..RememberRequest::default() };
        assert!(writer.remember(remember).await.unwrap().created);
        let recall = RecallRequest { key: key.into(), ..RecallRequest::default() };
        let here = reader.recall(recall.clone()).await.unwrap();
        assert_eq!(here.value, Some(key.to_uppercase().into()));
        let json = format!("{{\"key\": {key:?}}}");
        let options = CallOptions::default();
        let answers = [
            grpc.client().call_json("memory", "recall", &json, &options).await.unwrap(),
            dbus.client().call_json("memory", "Recall", &json, &options).await.unwrap(),
        ];
        for answer in answers {
            let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(answer["value"], key.to_uppercase());
        }
    }
}

#[tokio::test]
async fn every_way_fails_in_the_same_way() {
    let world = World::new();
    for client in world.both() {
        let probe = ProbeClient::new(client.clone());
        for kind in ErrorKind::ALL {
            // These the executor says of itself, never an agent.
            let reason = kind.reason().to_owned();
            let request = FailRequest { reason, message: "on purpose".into() };
            let failure = failure(probe.fail(request).await);
            assert_eq!(failure.kind, kind, "{} {failure:?}", client.target());
            assert!(!failure.lost, "{failure:?}");
            assert!(failure.message.contains("on purpose"), "{failure:?}");
        }
        let memory = MemoryClient::new(client.clone());
        let missing = RecallRequest { key: "missing".into(), ..RecallRequest::default() };
        assert_eq!(failure(memory.recall(missing).await).kind, ErrorKind::NotFound);
        let empty = failure(memory.recall(RecallRequest::default()).await);
        assert_eq!(empty.kind, ErrorKind::InvalidArgument);
        assert!(empty.message.contains("key"), "{empty:?}");

        let options = CallOptions::default();
        for (agent, operation, kind) in [
            ("nobody", "Echo", ErrorKind::UnknownAgent),
            ("probe", "Ecco", ErrorKind::UnknownOperation),
        ] {
            let failure = failure(client.call_json(agent, operation, "{}", &options).await);
            assert_eq!(failure.kind, kind, "{}: {failure:?}", client.target());
        }
    }
}

#[tokio::test]
async fn a_text_that_dbus_cannot_carry_is_named_before_it_is_sent() {
    let world = World::new();
    let [grpc, dbus] = world.both().map(ProbeClient::new);
    let request = EchoRequest {
        text: "x".into(),
        everything: Some(Everything { a_string: "a\0b".into(), ..Everything::default() }),
        ..EchoRequest::default()
    };
    assert!(grpc.echo(request.clone()).await.is_ok());
    let failure = failure(dbus.echo(request).await);
    assert_eq!(failure.kind, ErrorKind::InvalidArgument, "{failure:?}");
    assert!(failure.message.contains("everything.a_string"), "{failure:?}");
    assert_eq!(failure.facts["field"], "everything.a_string");
    // The bus, which would have closed the connection, has not seen it.
    let request = EchoRequest { text: "y".into(), ..EchoRequest::default() };
    assert_eq!(dbus.echo(request).await.unwrap().text, "y");
}

#[tokio::test]
async fn the_time_of_a_call_is_over_on_every_way() {
    let world = World::new();
    for client in world.both() {
        let probe = ProbeClient::new(client.clone());
        let request = SleepRequest { duration: Some(Time { seconds: 30, nanos: 0 }) };
        let request = Request::new(request).timeout(Duration::from_millis(100));
        let failure = failure(probe.sleep(request).await);
        assert_eq!(failure.kind, ErrorKind::DeadlineExceeded, "{failure:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_repeated_is_carried_out_once() {
    let world = World::new();
    let by = |id: &str| {
        Request::new(IncrementRequest {
            key: "count".into(),
            by: Some(1),
            ..IncrementRequest::default()
        })
        .request_id(id)
    };
    let [grpc, dbus] = world.both().map(MemoryClient::new);
    for (step, client) in [(1, &grpc), (2, &dbus)] {
        for _ in 0..3 {
            let id = format!("step-{step}");
            assert_eq!(client.increment(by(&id)).await.unwrap().value, step);
        }
    }
    let [grpc, dbus] = world.both().map(ProbeClient::new);
    let before = grpc.count(CountRequest {}).await.unwrap().count;
    assert_eq!(dbus.count(CountRequest {}).await.unwrap().count, before + 1, "it does count");
}
