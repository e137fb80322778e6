//! Calls of operations: arguments, options, results, errors, limits.

use std::collections::HashMap;

use zbus::Variant;
use zbus::message::Message;

use super::{NAME, Options, PROBE, World, failed, none, with};

#[tokio::test]
async fn echo_gives_the_same_back() {
    let world = World::new().await;
    let more = with("a_string", "deep");
    let everything = HashMap::from([("an_int32", Variant::from(-7)), ("a_colour", "red".into())]);
    let options = HashMap::from([
        ("texts", Variant::from(vec!["a", "b"])),
        ("more", Variant::from(more)),
        ("value", Variant::from(5_u8)),
    ]);
    let reply =
        world.probe("Echo", &("hello", vec![1_u8, 2, 0], everything, options)).await.unwrap();
    let body = reply.body();
    let (text, data, everything, extra): (&str, Vec<u8>, Options<'_>, Options<'_>) =
        body.deserialize().unwrap();
    assert_eq!((text, data), ("hello", vec![1, 2, 0]));
    assert_eq!(everything["an_int32"], Variant::from(-7));
    assert_eq!(everything["a_colour"], Variant::from("red"));
    assert_eq!(extra["texts"], Variant::from(vec!["a", "b"]));
    assert_eq!(extra["value"], Variant::from(5.0));
    assert_eq!(extra.len(), 3);
}

#[tokio::test]
async fn errors_of_operations_have_their_names() {
    use op_dbus::error::ErrorKind;
    let world = World::new().await;
    for kind in ErrorKind::ALL {
        // A text with U+0000 can reach the probe only as JSON.
        let json = format!(r#"{{"reason": "{}", "message": "a\u0000b"}}"#, kind.reason());
        let reply = world.call(PROBE, None, "CallJson", &("Fail", json, none())).await;
        let camel: String = kind
            .reason()
            .split('_')
            .map(|word| word[..1].to_owned() + &word[1..].to_lowercase())
            .collect();
        let text = failed(reply, &format!("org.opdbus.Error.{camel}"));
        assert!(text.starts_with("a\u{fffd}b"), "{text}");
        assert!(text.contains("origin: probe"), "{text}");
    }
    let reply = world.probe("Fail", &("PANIC", none())).await;
    failed(reply, "org.opdbus.Error.Internal");
    let reply = world.call(PROBE, None, "CallJson", &("NoSuch", "", none())).await;
    let text = failed(reply, "org.opdbus.Error.UnknownOperation");
    assert!(text.contains("Echo"), "{text}");
    let reply = world.call(PROBE, None, "CallJson", &("Count", "{\"x\": 1}", none())).await;
    failed(reply, "org.opdbus.Error.InvalidArgument");
    for operation in ["Generate", "Sum", "Chat"] {
        let reply = world.call(PROBE, None, "CallJson", &(operation, "", none())).await;
        let text = failed(reply, "org.opdbus.Error.InvalidArgument");
        assert!(text.contains("is a stream") && text.contains("calls.StartCall"), "{text}");
    }
}

#[tokio::test]
async fn requests_that_do_not_fit_are_explained_and_counted() {
    let world = World::new().await;
    let reply = world.probe("Sleep", &("x", none())).await;
    let text = failed(reply, "org.opdbus.Error.InvalidArgument");
    assert!(text.starts_with("duration: takes x, not s; Sleep takes \"xa{sv}\""), "{text}");
    let reply = world.probe("Count", &with("no_such", 1)).await;
    let text = failed(reply, "org.opdbus.Error.InvalidArgument");
    assert!(text.starts_with("no_such: "), "{text}");
    let reply = world.call(PROBE, None, "CallJson", &("Count", "", with("agent", 1))).await;
    failed(reply, "org.opdbus.Error.InvalidArgument");
    let metrics = world.metrics();
    // What is known to be a call of an operation counts as one; no more is known of the last.
    for name in ["Sleep", "Count"] {
        let counted = format!(
            "opdbus_calls_total{{agent=\"probe\",interface=\"own\",operation=\"{name}\",\
             outcome=\"invalid_argument\",transport=\"dbus\"}} 1"
        );
        assert!(metrics.contains(&counted), "{metrics}");
    }
    assert!(metrics.contains("opdbus_rejected_total{reason=\"invalid_request\"} 1"), "{metrics}");
}

#[tokio::test]
async fn sizes_are_limited_both_ways() {
    let world = World::new().await;
    let half = vec![7_u8; 512 * 1024];
    let reply = world.probe("Echo", &("", &half, none(), none())).await.unwrap();
    let body = reply.body();
    let (_, data, ..): (&str, &[u8], Options<'_>, Options<'_>) = body.deserialize().unwrap();
    assert_eq!(data, half);

    let reply = world.probe("Echo", &("", vec![7_u8; 1024 * 1024], none(), none())).await;
    let text = failed(reply, "org.opdbus.Error.LimitExceeded");
    assert!(text.contains("dbus.max_body_bytes") && text.contains("gRPC"), "{text}");
    let metrics = world.metrics();
    assert!(metrics.contains("opdbus_rejected_total{reason=\"too_large\"} 1"), "{metrics}");

    let size = 33 * 1024 * 1024_u64;
    let reply = world.probe("Fill", &(size, none())).await;
    let text = failed(reply, "org.opdbus.Error.LimitExceeded");
    assert!(text.contains("gRPC"), "{text}");
    let json = format!("{{\"size_bytes\": {size}}}");
    let reply = world.call(PROBE, None, "CallJson", &("Fill", json, none())).await;
    failed(reply, "org.opdbus.Error.LimitExceeded");
    let reply = world.probe("Fill", &(31 * 1024 * 1024_u64, none())).await.unwrap();
    assert!(reply.body().len() > 31 * 1024 * 1024);
}

#[tokio::test]
async fn what_the_bus_cannot_carry_is_an_error_and_nothing_worse() {
    let world = World::new().await;
    let json = r#"{"size_bytes": 3, "filler": "\u0000"}"#;
    // As JSON the character is escaped, so it travels.
    let reply = world.call(PROBE, None, "CallJson", &("Fill", json, none())).await.unwrap();
    assert!(reply.body().deserialize::<String>().unwrap().contains("\\u0000"));
    let unique = world.client.unique_name().unwrap().clone();
    world.probe("Count", &none()).await.unwrap();
    assert_eq!(world.client.unique_name().unwrap(), &unique);

    // Twenty levels: the request is refused, the client stays connected.
    let mut deep = none();
    for _ in 0..16 {
        deep = with("nested", Variant::from(deep));
    }
    let reply = world.probe("Echo", &("", [0_u8; 0].as_slice(), deep, none())).await;
    let text = failed(reply, "org.opdbus.Error.InvalidArgument");
    assert!(text.contains("15 levels"), "{text}");
    world.probe("Count", &none()).await.unwrap();
}

#[tokio::test]
async fn a_deadline_ends_the_work() {
    let world = World::new().await;
    let reply = world.probe("Sleep", &(60_000_000_i64, with("deadline-ms", 50))).await;
    failed(reply, "org.opdbus.Error.DeadlineExceeded");
    let reply = world.probe("Sleep", &(0_i64, none())).await.unwrap();
    let body = reply.body();
    let (started, finished, extra): (u64, u64, Options<'_>) = body.deserialize().unwrap();
    assert_eq!((started, finished), (2, 1));
    assert_eq!(extra["cancelled"], Variant::from(1_u64));
}

#[tokio::test]
async fn a_call_that_waits_delays_no_other() {
    let world = World::new().await;
    let body = (60_000_000_i64, none());
    let sleeping = world.probe("Sleep", &body);
    tokio::select! {
        _ = sleeping => panic!("the sleep ended"),
        () = async {
            for _ in 0..100 {
                world.probe("Count", &none()).await.unwrap();
            }
        } => {}
    }
}

#[tokio::test]
async fn a_request_id_makes_a_call_run_once() {
    let world = World::new().await;
    let options = with("request-id", "the same");
    let mut counts = Vec::new();
    for _ in 0..3 {
        let reply = world.probe("Count", &options).await.unwrap();
        counts.push(reply.body().deserialize::<(u64, Options<'_>)>().unwrap().0);
    }
    assert_eq!(counts, [1, 1, 1]);
    let reply = world.probe("Count", &none()).await.unwrap();
    assert_eq!(reply.body().deserialize::<(u64, Options<'_>)>().unwrap().0, 2);
}

#[tokio::test]
async fn a_call_without_reply_runs() {
    let world = World::new().await;
    let message = Message::method_call(PROBE, "Count")
        .destination(NAME)
        .with_flags(zbus::message::Flags::NO_REPLY_EXPECTED)
        .build(&none())
        .unwrap();
    let mut stream = zbus::MessageStream::from(&world.client);
    world.client.send(&message).await.unwrap();
    let reply = world.probe("Count", &none()).await.unwrap();
    assert_eq!(reply.body().deserialize::<(u64, Options<'_>)>().unwrap().0, 2);
    // The first reply that comes is the one to the second call.
    let first = loop {
        let message = futures_util::StreamExt::next(&mut stream).await.unwrap().unwrap();
        if let Some(serial) = message.header().reply_serial() {
            break serial;
        }
    };
    assert_eq!(Some(first), reply.header().reply_serial());
}
