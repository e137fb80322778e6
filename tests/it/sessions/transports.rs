//! Sessions over both transports, by clients of each.

use std::collections::HashMap;
use std::sync::Arc;

use op_dbus::executor::Config;
use op_dbus::proto::opdbus::v1::Session;
use op_dbus::transport::dbus;
use zbus::message::Message;
use zbus::{Connection, Variant};

use crate::fixture::{Bus, Service};
use crate::grpc::eventually;

type Options<'a> = HashMap<&'a str, Variant<'a>>;

/// A bus with op-dbus on it.
struct World {
    bus: Bus,
    service: Service,
    _server: dbus::Server,
}

impl World {
    async fn new() -> Self {
        let bus = Bus::start();
        let service = Service::new(Config::default());
        let config = dbus::Config {
            bus: dbus::Bus::Address(bus.address.clone()),
            name: "org.opdbus.Agents1".to_owned(),
            max_body_bytes: 1024 * 1024,
            legacy: dbus::LegacyName::all().collect(),
        };
        let (executor, status) = (Arc::clone(&service.executor), Arc::clone(&service.status));
        let server = dbus::start(config, executor, status).await.unwrap();
        Self { bus, service, _server: server }
    }

    async fn client(&self) -> Connection {
        let address = self.bus.address.as_str();
        zbus::connection::Builder::address(address).build().await.unwrap()
    }

    fn session(&self) -> Session {
        let uid = nix::unistd::getuid().as_raw();
        self.service.executor.sessions().get(uid, "chat").unwrap()
    }

    async fn released(&self) {
        eventually("nothing holds it", async || !self.session().held).await;
    }
}

async fn call(
    client: &Connection,
    method: &str,
    first: &str,
    options: Options<'_>,
) -> zbus::Result<Message> {
    let (name, path, interface) =
        ("org.opdbus.Agents1", "/org/opdbus/Agents1", "org.opdbus.Sessions1");
    client.call_method(Some(name), path, Some(interface), method, &(first, options)).await
}

fn options<'a>(options: &[(&'a str, &'a str)]) -> Options<'a> {
    options.iter().map(|(name, value)| (*name, Variant::from(*value))).collect()
}

#[tokio::test]
async fn a_bus_client_starts_resumes_and_ends_a_session() {
    let world = World::new().await;
    let client = world.client().await;
    let chat = options(&[("session_id", "chat")]);
    let reply = call(&client, "StartSession", "desktop", chat).await.unwrap();
    let body = reply.body();
    let (session, token, agents, _): (Options<'_>, String, Vec<Options<'_>>, Options<'_>) =
        body.deserialize().unwrap();
    assert_eq!(session["transport"], Variant::from("dbus"));
    assert_eq!(session["held"], Variant::from(true));
    let named: Vec<_> = agents.iter().map(|agent| agent["agent"].clone()).collect();
    for agent in ["context_manager", "memory", "sequential_thinking"] {
        assert!(named.contains(&Variant::from(agent)), "{named:?}");
    }

    client.close().await.unwrap();
    world.released().await;
    let client = world.client().await;
    let again = options(&[("session_id", "chat"), ("token", &token)]);
    call(&client, "StartSession", "desktop", again).await.unwrap();
    assert!(world.session().held);

    call(&client, "EndSession", "chat", Options::new()).await.unwrap();
    let error = call(&client, "EndSession", "chat", Options::new()).await.unwrap_err();
    let zbus::Error::MethodError(name, Some(text), _) = error else { panic!("{error}") };
    assert_eq!(name.as_str(), "org.opdbus.Error.NotFound");
    assert!(text.starts_with("there is no session chat"), "{text}");
}

#[tokio::test]
async fn a_lost_bus_holds_nothing() {
    let mut world = World::new().await;
    let client = world.client().await;
    let chat = options(&[("session_id", "chat")]);
    call(&client, "StartSession", "desktop", chat).await.unwrap();
    assert!(world.session().held);
    world.bus.kill();
    world.released().await;
}
