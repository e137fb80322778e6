//! Batches over both transports: what stands in the request holds, whichever way it came.

use std::time::{Duration, Instant};

use op_dbus::proto::opdbus::v1::{BatchCallRequest, BatchCallResponse, BatchItem};
use serde_json::{Value, json};

use super::{BOTH, Way, World};
use crate::process::PATIENCE;

const BATCH: (&str, &str) = ("calls", "BatchCall");

fn item(id: &str, agent: &str, operation: &str, arguments: &Value) -> Value {
    json!({"id": id, "agent": agent, "operation": operation, "arguments": arguments.to_string()})
}

fn sleep(id: &str, seconds: &str) -> Value {
    item(id, "probe", "sleep", &json!({"duration": seconds}))
}

fn remember(id: &str, key: &str, value: &Value) -> Value {
    item(id, "memory", "remember", &json!({"key": key, "value": value}))
}

fn recall(id: &str, key: &str) -> Value {
    item(id, "memory", "recall", &json!({"key": key}))
}

fn fail(id: &str) -> Value {
    item(id, "probe", "fail", &json!({"reason": "NOT_FOUND", "message": "as asked"}))
}

/// Id and status of each result, in the order in which they came.
fn statuses(answer: &Value) -> Vec<(String, &str)> {
    let results = answer["results"].as_array().unwrap().iter();
    let status = |result: &Value| match result["status"].as_str().unwrap() {
        "BATCH_STATUS_OK" => "ok",
        "BATCH_STATUS_FAILED" => "failed",
        "BATCH_STATUS_SKIPPED" => "skipped",
        other => panic!("{other} is no status"),
    };
    results
        .map(|result| (result["id"].as_str().unwrap_or_default().to_owned(), status(result)))
        .collect()
}

fn expected(expected: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
    expected.iter().map(|(id, status)| ((*id).to_owned(), *status)).collect()
}

#[tokio::test]
async fn each_result_has_its_status_in_the_order_that_was_asked_for() {
    let world = World::start("").await;
    for way in BOTH {
        let items = json!([sleep("slow", "0.3s"), fail("wrong"), sleep("fast", "0s")]);
        let answer =
            world.call(way, BATCH, json!({"items": items, "parallel": true})).await.unwrap();
        let asked = [("slow", "ok"), ("wrong", "failed"), ("fast", "ok")];
        assert_eq!(statuses(&answer), expected(&asked), "{way:?}");
        assert_eq!(answer["failed"], json!(1), "{way:?}");
        assert_eq!(answer["results"][1]["failure"]["reason"], json!("NOT_FOUND"), "{way:?}");
        assert_eq!(answer["results"][1]["failure"]["message"], json!("as asked"), "{way:?}");
        let request = json!({"items": items, "parallel": true, "order": "BATCH_ORDER_COMPLETION"});
        let answer = world.call(way, BATCH, request).await.unwrap();
        assert_eq!(statuses(&answer).last().unwrap().0, "slow", "{way:?}: {answer}");
    }
}

#[tokio::test]
async fn it_stops_at_an_error_and_runs_as_wide_as_it_may() {
    let world = World::start("").await;
    for way in BOTH {
        let key = format!("{way:?}");
        let items = json!([fail("wrong"), remember("after", &key, &json!(1))]);
        let request = json!({"items": items, "stop_on_error": true});
        let answer = world.call(way, BATCH, request).await.unwrap();
        let asked = [("wrong", "failed"), ("after", "skipped")];
        assert_eq!(statuses(&answer), expected(&asked), "{way:?}");
        let outcome = world.call(way, ("memory", "recall"), json!({"key": key})).await;
        assert_eq!(outcome, Err("NOT_FOUND".to_owned()), "what was skipped has not run");

        let items: Vec<Value> = (0..4).map(|_| sleep("", "0.2s")).collect();
        for (width, at_least, below) in [(1, 800, 5_000), (2, 400, 800), (4, 200, 400)] {
            // The best of three, because the machine may be busy with other things.
            let mut best = Duration::MAX;
            for _ in 0..3 {
                let begun = Instant::now();
                let request = json!({"items": items, "parallel": true, "max_parallel": width});
                world.call(way, BATCH, request).await.unwrap();
                assert!(begun.elapsed() >= Duration::from_millis(at_least), "{way:?} {width}");
                best = best.min(begun.elapsed());
            }
            assert!(best < Duration::from_millis(below), "{way:?} {width}: {best:?}");
        }
    }
}

#[tokio::test]
async fn results_are_used_and_writes_of_a_key_keep_their_order() {
    let world = World::start("").await;
    for way in BOTH {
        let key = format!("{way:?}");
        let version = json!({"key": key, "version": {"$result": "write/version"}});
        let items = json!([
            remember("write", &key, &json!("first")),
            item("read", "memory", "recall", &version),
            item("lost", "memory", "recall", &json!({"key": {"$result": "write/nothing"}})),
        ]);
        let answer =
            world.call(way, BATCH, json!({"items": items, "parallel": true})).await.unwrap();
        let asked = [("write", "ok"), ("read", "ok"), ("lost", "failed")];
        assert_eq!(statuses(&answer), expected(&asked), "{way:?}: {answer}");
        let result = answer["results"][1]["result"].as_str().unwrap();
        assert!(result.contains("first"), "{way:?}: {result}");

        let mut items: Vec<Value> = Vec::new();
        for number in 0..50 {
            items.push(remember(&format!("w{number}"), &key, &json!(number)));
            items.push(recall(&format!("r{number}"), &key));
        }
        let request = json!({"items": items, "parallel": true});
        let answer = world.call(way, BATCH, request).await.unwrap();
        for number in 0..50 {
            let result = answer["results"][2 * number + 1]["result"].as_str().unwrap();
            let read: Value = serde_json::from_str(result).unwrap();
            assert_eq!(read["value"].as_f64(), Some(number as f64), "{way:?}: {result}");
        }
    }
}

#[tokio::test]
async fn what_makes_no_sense_or_is_too_much_is_refused_before_anything_is_done() {
    let world = World::start("[batch]\nmax_items = 3\n").await;
    for way in BOTH {
        let key = format!("{way:?}");
        let write = remember("w", &key, &json!(1));
        let mut circle = fail("a");
        circle["after"] = json!(["b"]);
        let mut other = fail("b");
        other["after"] = json!(["a"]);
        let mut unknown = fail("c");
        unknown["after"] = json!(["nobody"]);
        for (items, reason) in [
            (json!([write, circle, other]), "INVALID_ARGUMENT"),
            (json!([write, unknown]), "INVALID_ARGUMENT"),
            (json!([write, fail("same"), fail("same")]), "INVALID_ARGUMENT"),
            (json!([write, fail("1"), fail("2"), fail("3")]), "LIMIT_EXCEEDED"),
        ] {
            let outcome = world.call(way, BATCH, json!({"items": items})).await;
            assert_eq!(outcome, Err(reason.to_owned()), "{way:?}: {items}");
        }
        let outcome = world.call(way, ("memory", "recall"), json!({"key": key})).await;
        assert_eq!(outcome, Err("NOT_FOUND".to_owned()), "{way:?}: nothing was done");
    }
}

#[tokio::test]
async fn a_client_that_goes_cancels_what_runs_and_what_would_have() {
    let world = World::start("").await;
    for (round, way) in (1_u64..).zip(BOTH) {
        let key = format!("{way:?}");
        let begun = world.sleeps().await.0;
        let items = vec![sleeping("one"), sleeping("two"), after_one(&key)];
        let request = BatchCallRequest { items, parallel: true, ..BatchCallRequest::default() };
        match way {
            Way::Grpc => {
                let client = crate::grpc::Client::unix(&world.daemon.grpc_socket()).await;
                let path = "/opdbus.v1.CallsService/BatchCall";
                let call = tokio::spawn(async move {
                    client.call::<_, BatchCallResponse>(path, request).await
                });
                sleeps_run(&world, begun).await;
                call.abort();
            }
            Way::Dbus => {
                let client = crate::dbus::connect(&world.daemon.bus).await;
                let items = request.items.iter().map(as_json).collect::<Vec<_>>();
                let arguments = json!({"items": items, "parallel": true}).to_string();
                let body = ("calls", "BatchCall", arguments, crate::dbus::none());
                let message = zbus::message::Message::method_call(crate::dbus::MANAGER, "CallJson")
                    .destination(crate::dbus::NAME)
                    .build(&body)
                    .unwrap();
                client.send(&message).await.unwrap();
                sleeps_run(&world, begun).await;
                client.close().await.unwrap();
            }
        }
        crate::grpc::eventually("its calls are cancelled", async || {
            world.sleeps().await.1 == 2 * round
        })
        .await;
        let outcome = world.call(way, ("memory", "recall"), json!({"key": key})).await;
        assert_eq!(outcome, Err("NOT_FOUND".to_owned()), "{way:?}: what was to come has not run");
    }
}

fn sleeping(id: &str) -> BatchItem {
    BatchItem {
        id: id.into(),
        agent: "probe".into(),
        operation: "sleep".into(),
        arguments: json!({"duration": "20s"}).to_string(),
        ..BatchItem::default()
    }
}

/// A write that comes after the sleep `one`.
fn after_one(key: &str) -> BatchItem {
    BatchItem {
        agent: "memory".into(),
        operation: "remember".into(),
        arguments: json!({"key": key, "value": 1}).to_string(),
        after: vec!["one".into()],
        ..BatchItem::default()
    }
}

fn as_json(item: &BatchItem) -> Value {
    json!({
        "id": item.id,
        "agent": item.agent,
        "operation": item.operation,
        "arguments": item.arguments,
        "after": item.after,
    })
}

/// Waits until both sleeps of the batch run: `sleeps` itself begins one each time.
async fn sleeps_run(world: &World, before: u64) {
    let mut asked = 0;
    let begun = Instant::now();
    loop {
        asked += 1;
        if world.sleeps().await.0 == before + asked + 2 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the batch does not run");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
