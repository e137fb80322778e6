//! One round trip on both transports.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use op_dbus::proto::opdbus::v1::{
    BatchCallRequest, BatchCallResponse,
    BatchStatus::{Failed, Ok as Well},
};
use tonic::Code;
use zbus::Variant;

use super::{fail, item, named, parallel, remember, sequential, sleep, statuses, waits};
use crate::dbus::{MANAGER, World, with};
use crate::grpc::{check_error, start};
use crate::process::PATIENCE;

const BATCH: &str = "/opdbus.v1.CallsService/BatchCall";

#[tokio::test]
async fn over_grpc() {
    let running = start().await;
    let client = running.client().await;
    // The batch of three of a chat client, and a call that uses what it stored.
    let items = vec![
        named("p", remember("project", r#""op-dbus-v2""#)),
        remember("language", r#""rust""#),
        item("context_manager", "load", r#"{"name":"session-context"}"#),
        item("memory", "recall", r#"{"key":"project","version":{"$result":"p/version"}}"#),
    ];
    let response: BatchCallResponse = client.call(BATCH, parallel(items)).await.unwrap();
    assert_eq!(statuses(&response.results), [Well, Well, Failed, Well], "{response:?}");
    assert_eq!(response.results[2].failure.as_ref().unwrap().reason, "NOT_FOUND");
    assert!(response.results[3].result.contains("op-dbus-v2"));
    let circle = sequential(vec![super::after(&["a"], named("a", fail()))]);
    let outcome = client.call::<_, BatchCallResponse>(BATCH, circle).await;
    check_error(outcome, Code::InvalidArgument, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn a_grpc_client_has_what_was_done_before_its_deadline() {
    let running = start().await;
    let client = running.client().await;
    let mut request = tonic::Request::new(sequential(vec![remember("k", "1"), sleep(60_000)]));
    request.set_timeout(Duration::from_secs(2));
    let response = client.request::<BatchCallRequest, BatchCallResponse>(BATCH, request).await;
    let response = response.unwrap().into_inner();
    assert_eq!(statuses(&response.results), [Well, Failed]);
}

#[tokio::test]
async fn a_grpc_client_that_goes_away_cancels_its_batch() {
    let running = start().await;
    let client = running.client().await;
    let request = parallel(vec![sleep(5_000), sleep(60_000)]);
    let call = client.call::<BatchCallRequest, BatchCallResponse>(BATCH, request);
    assert!(tokio::time::timeout(Duration::from_millis(100), call).await.is_err());
    let start = Instant::now();
    while waits(&running.service).await.2 < 2 {
        assert!(start.elapsed() < PATIENCE, "the calls go on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

type Item<'a> = HashMap<&'a str, Variant<'a>>;

fn dbus_item<'a>(id: &'a str, operation: &'a str, arguments: &'a str) -> Item<'a> {
    HashMap::from([
        ("id", id.into()),
        ("agent", "memory".into()),
        ("operation", operation.into()),
        ("arguments", arguments.into()),
    ])
}

#[tokio::test]
async fn over_dbus() {
    let world = World::new().await;
    let items = vec![
        dbus_item("w", "remember", r#"{"key":"k","value":[1,2]}"#),
        dbus_item("", "recall", r#"{"key":"k"}"#),
        dbus_item("", "recall", r#"{"key":"other"}"#),
    ];
    let interface = Some("org.opdbus.Calls1");
    let reply = world.call(MANAGER, interface, "BatchCall", &(items, with("parallel", true))).await;
    let reply = reply.unwrap();
    let body = reply.body();
    let (results, failed, _extra): (Vec<Item<'_>>, u32, Item<'_>) = body.deserialize().unwrap();
    assert_eq!((results.len(), failed), (3, 1));
    let text = |index: usize, name: &str| format!("{:?}", results[index].get(name));
    assert!(
        text(0, "status").contains("ok") && text(2, "status").contains("failed"),
        "{results:?}"
    );
    assert!(text(1, "result").contains("[1"), "{results:?}");
    assert!(text(2, "failure").contains("NOT_FOUND"), "{results:?}");

    let body = ("probe", "generate", with("arguments", r#"{"count":3}"#));
    let reply = world.call(MANAGER, interface, "StartCall", &body).await.unwrap();
    let body = reply.body();
    let (task, _extra): (Item<'_>, Item<'_>) = body.deserialize().unwrap();
    assert!(format!("{:?}", task.get("operation")).contains("Generate"), "{task:?}");
    let reply = world.call(MANAGER, interface, "StartCall", &("probe", "sum", Item::new())).await;
    crate::dbus::failed(reply, "org.opdbus.Error.InvalidArgument");
}
