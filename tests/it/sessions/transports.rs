//! Sessions over both transports, by clients of each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use op_dbus::call::Transport;
use op_dbus::executor::Config;
use op_dbus::transport::dbus;
use zbus::{Connection, Variant};

use crate::fixture::{Bus, Service};

type Options<'a> = HashMap<&'a str, Variant<'a>>;

#[tokio::test]
async fn a_bus_client_starts_resumes_and_ends_a_session() {
    let bus = Bus::start();
    let service = Service::new(Config::default());
    let config = dbus::Config {
        bus: dbus::Bus::Address(bus.address.clone()),
        name: "org.opdbus.Agents1".to_owned(),
        max_body_bytes: 1024 * 1024,
    };
    let server = dbus::start(config, Arc::clone(&service.executor), Arc::clone(&service.status));
    let _server = server.await.unwrap();
    let address = bus.address.as_str();
    let client: Connection = zbus::connection::Builder::address(address).build().await.unwrap();
    let call = async |method, first: &str, options: Options<'_>| {
        client
            .call_method(
                Some("org.opdbus.Agents1"),
                "/org/opdbus/Agents1",
                Some("org.opdbus.Sessions1"),
                method,
                &(first, options),
            )
            .await
    };
    let chat = || HashMap::from([("session_id", Variant::from("chat"))]);
    let reply = call("StartSession", "desktop", chat()).await.unwrap();
    let body = reply.body();
    let (session, token, agents, _): (
        HashMap<String, Variant<'_>>,
        String,
        Vec<HashMap<String, Variant<'_>>>,
        HashMap<String, Variant<'_>>,
    ) = body.deserialize().unwrap();
    assert_eq!(session["transport"], Variant::from("dbus"));
    assert_eq!(session["held"], Variant::from(true));
    let named: Vec<_> = agents.iter().map(|agent| agent["agent"].clone()).collect();
    for agent in ["context_manager", "memory", "sequential_thinking"] {
        assert!(named.contains(&Variant::from(agent)), "{named:?}");
    }

    let name = client.unique_name().unwrap().to_string();
    service.executor.client_gone(Transport::Dbus, &name);
    let uid = nix::unistd::getuid().as_raw();
    assert!(!service.executor.sessions().get(uid, "chat").unwrap().held);
    let again = HashMap::from([
        ("session_id", Variant::from("chat")),
        ("token", Variant::from(token.as_str())),
    ]);
    call("StartSession", "desktop", again).await.unwrap();
    assert!(service.executor.sessions().get(uid, "chat").unwrap().held);

    call("EndSession", "chat", HashMap::new()).await.unwrap();
    let error = call("EndSession", "chat", HashMap::new()).await.unwrap_err();
    let zbus::Error::MethodError(name, Some(text), _) = error else { panic!("{error}") };
    assert_eq!(name.as_str(), "org.opdbus.Error.NotFound");
    assert!(text.starts_with("there is no session chat"), "{text}");
    tokio::time::sleep(Duration::from_millis(1)).await;
}
