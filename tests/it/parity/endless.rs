//! Streams without an end of their own: what they begin with is the same on every way, and that their
//! client goes away is counted as the same.

use std::collections::BTreeSet;

use bytes::BytesMut;
use http_body_util::BodyExt as _;
use op_dbus::contract::Operation;
use serde_json::{Value, json};
use zbus::ObjectPath;

use super::bus::message_in;
use super::call::{Call, Way};
use super::cancelled::{LOOKS, PAUSE};
use super::client::{Client, Options, frames, message_of};
use super::roles::{self, Role};
use super::table::{self, ENDLESS};
use super::values::plain;
use super::world::World;
use crate::dbus::watch::Watch;

/// What is asked, and how many messages come at once.
fn begun(name: &str) -> (Value, usize) {
    match name {
        // The key as it is, and that there are no more.
        "memory.Watch" => (json!({"pattern": "watched", "current": true, "values": true}), 2),
        "agents.WatchAgents"
        | "approvals.WatchApprovals"
        | "migration.WatchRoutes"
        | "probe.Linger" => (json!({}), 1),
        other => panic!("nobody has said what {other} begins with"),
    }
}

impl Client {
    /// The first messages of a stream, at least `count`; that no more are wanted is told by closing the
    /// client.
    async fn first(&self, way: Way, call: &Call, count: usize) -> Vec<Value> {
        match way {
            Way::TypedOverGrpc => self.first_over_grpc(call, count).await,
            Way::TypedOverDbus => self.first_over_bus(call, count).await,
            Way::JsonOverGrpc | Way::JsonOverDbus => self.first_of_task(way, call, count).await,
            Way::Older => panic!("the older interface has no streams"),
        }
    }

    async fn first_over_grpc(&self, call: &Call, count: usize) -> Vec<Value> {
        let (_, mut body) = self.exchange(call).await;
        let mut come = BytesMut::new();
        while frames(&come).count() < count {
            let frame = body.frame().await.expect("the stream goes on").unwrap();
            come.extend_from_slice(frame.data_ref().expect("it has not ended"));
        }
        frames(&come).map(|message| message_of(&call.operation, message)).collect()
    }

    async fn first_over_bus(&self, call: &Call, count: usize) -> Vec<Value> {
        let mut watch = Watch::new(self.bus());
        let reply = self.begin_over_bus(&mut watch, call).await.unwrap();
        let body = reply.body();
        let (path, _): (ObjectPath<'_>, Options<'_>) = body.deserialize().unwrap();
        let mut messages = Vec::new();
        while messages.len() < count {
            let (name, signal) = watch.signal(path.as_str()).await;
            match name.as_str() {
                "Message" => messages.push(message_in(&signal)),
                "PropertiesChanged" => {}
                other => panic!("{other} instead of a message"),
            }
        }
        messages
    }

    async fn first_of_task(&self, way: Way, call: &Call, count: usize) -> Vec<Value> {
        let (id, said) = self.start(way, call).await;
        assert_eq!(said.reason, None);
        let arguments = json!({"id": id.unwrap(), "json": true});
        let read = Call::new(&self.operation("tasks", "ReadTask"), arguments);
        for _ in 0..LOOKS {
            let read = self.json(way, &read).await.unwrap();
            let messages = read["messages"].as_array().cloned().unwrap_or_default();
            if messages.len() >= count {
                let texts = messages.iter().map(|message| message["json"].as_str().unwrap());
                return texts.map(|text| serde_json::from_str(text).unwrap()).collect();
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("{way:?}: no {count} messages of {} come", call.operation.grpc_path);
    }
}

/// How many calls of an operation were given up on a way.
fn given_up(world: &World, operation: &Operation, way: Way) -> u64 {
    let [transport, interface] = way.labels();
    let key = [&operation.agent, &operation.name, transport, interface, "cancelled"];
    world.counts().get(&key.map(ToString::to_string)).copied().unwrap_or_default()
}

#[tokio::test]
async fn what_has_no_end_begins_alike_on_every_way() {
    let world = World::start(Way::TypedOverGrpc, roles::config()).await;
    for (agent, operation, arguments) in [
        ("memory", "Remember", json!({"key": "watched", "value": [1, "x"], "tags": ["t"]})),
        ("probe", "Guarded", json!({"text": "waits"})),
    ] {
        world.call(Role::Owner, &Call::new(&world.operation(agent, operation), arguments)).await;
    }
    let mut seen = BTreeSet::new();
    for operation in table::operations(&world.contract).filter(|it| table::is_endless(it)) {
        let name = format!("{}.{}", operation.agent, operation.name);
        let (arguments, count) = begun(&name);
        let call = Call { ends_with_client: true, ..Call::new(operation, arguments) };
        let mut first: Option<Vec<Value>> = None;
        for way in Way::ALL.into_iter().filter(|way| table::no_way(operation, *way).is_none()) {
            let client = world.connect(Role::Owner).await;
            let before = given_up(&world, operation, way);
            let mut messages = client.first(way, &call, count).await;
            // More may have come together with these.
            messages.truncate(count);
            client.close().await;
            let mut looks = LOOKS;
            while given_up(&world, operation, way) == before {
                looks -= 1;
                assert!(looks > 0, "{name} {way:?} goes on without its client");
                tokio::time::sleep(PAUSE).await;
            }
            assert_eq!(given_up(&world, operation, way), before + 1, "{name} {way:?}");
            let messages: Vec<Value> = messages.iter().map(|it| plain(it, "watched")).collect();
            assert_eq!(messages.len(), count, "{name} {way:?}");
            assert_eq!(&messages, first.get_or_insert_with(|| messages.clone()), "{name} {way:?}");
        }
        assert!(first.is_some(), "{name} has no way");
        seen.insert(name);
    }
    assert_eq!(seen, BTreeSet::from(ENDLESS.map(str::to_owned)));
}
