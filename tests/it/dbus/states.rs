//! What the bus is told of agents: what each does, and which have come.

use std::collections::HashMap;
use std::time::Duration;

use op_dbus::agents::Start;
use op_dbus::error::{Error, ErrorKind};
use op_dbus::testing::probe;
use zbus::{Connection, ObjectPath, Variant};

use super::watch::Watch;
use super::{MANAGER, Options, PROBE, call, connect, hear, serve};
use crate::activation;
use crate::fixture::Bus;
use crate::grpc::calls::listening;
use crate::grpc::{config, place};

const AGENT: &str = "org.opdbus.Agent1";

async fn get(client: &Connection, name: &str) -> String {
    let properties = Some("org.freedesktop.DBus.Properties");
    let reply = call(client, PROBE, properties, "Get", &(AGENT, name)).await.unwrap();
    let body = reply.body();
    String::try_from(body.deserialize::<Variant<'_>>().unwrap()).unwrap()
}

/// What the probe says next of its state and why.
async fn told(watch: &mut Watch) -> (String, String) {
    let (name, message) = watch.signal(PROBE).await;
    assert_eq!(name, "PropertiesChanged");
    assert!(message.header().destination().is_none(), "it is for everybody");
    let body = message.body();
    let (interface, changed, gone): (&str, HashMap<&str, String>, Vec<&str>) = read(&body);
    assert_eq!((interface, changed.len(), gone.len()), (AGENT, 2, 0));
    (changed["State"].clone(), changed["StateReason"].clone())
}

/// A body of `PropertiesChanged` whose properties are texts.
fn read(body: &zbus::message::Body) -> (&str, HashMap<&str, String>, Vec<&str>) {
    let (interface, changed, gone): (&str, Options<'_>, Vec<&str>) = body.deserialize().unwrap();
    let text = |value: Variant<'_>| String::try_from(value).unwrap();
    (interface, changed.into_iter().map(|(name, value)| (name, text(value))).collect(), gone)
}

#[tokio::test]
async fn everybody_who_listens_hears_what_an_agent_does() {
    let bus = Bus::start();
    let idle = Some(Duration::from_millis(200));
    let world = activation::World::new(Start::AtFirstCall, idle, |number| match number {
        1 => Err(Error::new(ErrorKind::BackendFailed, "the well is dry")),
        _ => Ok(probe()),
    });
    let server = serve(&bus, &world.executor, &world.status).await.unwrap();
    let client = connect(&bus).await;
    hear(&client, PROBE).await;
    let mut watch = Watch::new(&client);
    let other = connect(&bus).await;
    assert_eq!(get(&other, "State").await, "stopped");

    let error = world.count().await.unwrap_err();
    assert_eq!(told(&mut watch).await, ("starting".into(), String::new()));
    let (state, reason) = told(&mut watch).await;
    assert_eq!(state, "failed");
    assert!(reason.contains("the well is dry"), "{reason}");
    // A client that keeps what it was told is right for as long as nothing else is told.
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!((get(&other, "State").await, get(&other, "StateReason").await), (state, reason));

    tokio::time::sleep(error.retry_after().unwrap()).await;
    let sleep = world.sleep(300);
    for state in ["starting", "running", "busy", "running", "stopping", "stopped"] {
        assert_eq!(told(&mut watch).await, (state.into(), String::new()));
    }
    sleep.await.unwrap().unwrap();
    assert_eq!(get(&other, "State").await, "stopped");
    server.stop().await;
}

#[tokio::test]
async fn an_agent_that_comes_is_announced() {
    let bus = Bus::start();
    let (_folder, path) = place();
    let heard = listening(config(&path)).await;
    let server = serve(&bus, &heard.executor, &heard.status).await.unwrap();
    let client = connect(&bus).await;
    hear(&client, MANAGER).await;
    let mut watch = Watch::new(&client);

    // A new configuration alone is nothing to tell.
    heard.executor.refresh();
    heard.register("opdbus.agent.probe.v1.ProbeService");
    let (name, message) = watch.signal(MANAGER).await;
    assert_eq!(name, "InterfacesAdded");
    assert!(message.header().destination().is_none(), "it is for everybody");
    assert_eq!(message.body().signature().to_string_no_parens(), "oa{sa{sv}}");
    let body = message.body();
    let (path, interfaces): (ObjectPath<'_>, HashMap<&str, Options<'_>>) =
        body.deserialize().unwrap();
    assert_eq!(path.as_str(), PROBE);
    let mut names: Vec<&str> = interfaces.keys().copied().collect();
    names.sort_unstable();
    assert_eq!(names, [AGENT, "org.opdbus.Probe1"]);
    let agent = &interfaces[AGENT];
    assert_eq!(agent["Id"], Variant::from("probe"));
    assert_eq!(agent["State"], Variant::from("running"));
    assert_eq!(get(&connect(&bus).await, "Id").await, "probe");
    server.stop().await;
}
