//! How a client finds the service: lazily, over the first way that reaches it, again after it was away, and
//! what it says when there is nothing.

use std::ffi::OsString;
use std::time::Duration;

use op_dbus::client::{
    AgentClient, CallOptions, Error, GrpcAddress, ProbeClient, Request, Settings, Via, Way,
};
use op_dbus::error::ErrorKind;
use op_dbus::proto::opdbus::agent::probe::v1::{EchoRequest, GenerateRequest};

use super::{World, failure};

async fn list(client: &AgentClient) -> Result<String, Error> {
    client.call_json("memory", "List", "{}", &CallOptions::default()).await
}

#[tokio::test]
async fn a_missing_socket_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("grpc.sock");
    let addresses = vec![GrpcAddress::Unix(socket.clone())];
    // Without retries, which soon leave the way alone.
    let settings = Settings { via: Via::Grpc, addresses, max_retries: 0, ..Settings::default() };
    let client = AgentClient::new(&settings);
    let error = list(&client).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Unreachable(_)), "{error:?}");
    assert!(text.contains(&format!("gRPC at unix:{}", socket.display())), "{text}");
    assert!(text.contains("systemctl start op-dbus.socket"), "{text}");
    assert!(text.contains("OP_DBUS_ADDRESS"), "{text}");

    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let text = list(&client).await.unwrap_err().to_string();
    assert!(text.contains("nobody listens there"), "{text}");
}

#[tokio::test]
async fn a_service_that_never_answers_is_waited_for_as_long_as_the_call_may_take() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("grpc.sock");
    // Connections come about, and nobody takes them.
    let _service = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let addresses = vec![GrpcAddress::Unix(socket)];
    let settings = Settings { via: Via::Grpc, addresses, max_retries: 0, ..Settings::default() };
    for client in [AgentClient::new(&settings), AgentClient::direct(&settings)] {
        let probe = ProbeClient::new(client);
        let time = Duration::from_millis(100);
        let unary = Request::new(EchoRequest::default()).timeout(time);
        let unary = probe.echo(unary).await.map(drop);
        let stream = Request::new(GenerateRequest { count: 1 }).timeout(time);
        let stream = probe.generate(stream).await.map(drop);
        for outcome in [unary, stream] {
            let failure = failure(outcome);
            assert_eq!(failure.kind, ErrorKind::DeadlineExceeded, "{failure:?}");
            assert!(failure.lost && failure.message.contains("no answer"), "{failure:?}");
        }
    }
}

#[tokio::test]
async fn dbus_is_taken_where_grpc_cannot_be_reached_and_grpc_when_it_can_again() {
    let world = World::new();
    let missing = GrpcAddress::Unix(world.daemon.folder.path().join("missing.sock"));
    let settings = Settings { addresses: vec![missing], ..world.settings(Via::Auto) };
    let client = AgentClient::direct(&settings);
    assert_eq!(client.way(), Way::Grpc, "nothing was tried yet");
    list(&client).await.unwrap();
    assert_eq!(client.way(), Way::Dbus);
    assert!(client.earlier()[0].target.contains("missing.sock"), "{:?}", client.earlier());
    assert_eq!(world.counted("List", "dbus").await, 1);

    let client = AgentClient::direct(&world.settings(Via::Auto));
    list(&client).await.unwrap();
    assert_eq!(client.way(), Way::Grpc);
    assert!(client.earlier().is_empty());
    assert_eq!(world.counted("List", "grpc").await, 1);
}

#[tokio::test]
async fn connections_are_shared_or_each_calls_own() {
    let world = World::new();
    for pool_connections in [true, false] {
        for via in [Via::Grpc, Via::Dbus] {
            let settings = Settings { pool_connections, ..world.settings(via) };
            let client = AgentClient::new(&settings);
            let calls = (0..8).map(|_| list(&client));
            for outcome in futures_util::future::join_all(calls).await {
                outcome.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_bus_that_was_away_is_connected_to_again() {
    let mut world = World::new();
    let client = world.client(Via::Dbus);
    list(&client).await.unwrap();
    world.daemon.bus.restart();
    crate::grpc::eventually("the service is back on the bus", async || list(&client).await.is_ok())
        .await;
}

#[tokio::test]
async fn files_and_environment_lead_to_the_service_and_the_environment_counts() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("grpc.toml");
    let text = format!(
        "[client]\naddress = \"unix:{}\"\nrequest_timeout_ms = 20000\n[dbus]\nbus = {:?}\n",
        folder.path().join("elsewhere.sock").display(),
        world.daemon.bus.address,
    );
    std::fs::write(&file, text).unwrap();
    let load = |variables: &[(&str, String)]| {
        let mut settings = Settings::default();
        settings.read_file(&file).unwrap();
        let variables =
            variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        settings.read_variables(variables).unwrap();
        AgentClient::new(&settings)
    };
    let by_file = load(&[]);
    list(&by_file).await.unwrap();
    assert_eq!(by_file.way(), Way::Dbus, "the file's socket is not there");
    let socket = format!("unix:{}", world.daemon.grpc_socket().display());
    let by_environment = load(&[("OP_DBUS_ADDRESS", socket), ("OP_DBUS_VIA", "grpc".to_owned())]);
    list(&by_environment).await.unwrap();
    assert_eq!(by_environment.way(), Way::Grpc);
    assert_eq!(world.counted("List", "grpc").await, 1);
}
