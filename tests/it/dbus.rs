//! The D-Bus transport on a real bus, driven by a D-Bus client and by foreign programs.

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use op_dbus::executor::Config;
use op_dbus::transport::dbus::{self, Server};
use zbus::message::Message;
use zbus::{Connection, Variant};

use crate::fixture::{Bus, Service};

const NAME: &str = "org.opdbus.Agents1";
const MANAGER: &str = "/org/opdbus/Agents1";
const PROBE: &str = "/org/opdbus/Agents1/agent/probe";

type Options<'a> = HashMap<&'a str, Variant<'a>>;

/// A bus with op-dbus on it, and a client.
struct World {
    bus: Bus,
    service: Service,
    server: Option<Server>,
    client: Connection,
}

impl World {
    async fn new() -> Self {
        let bus = Bus::start();
        let service = Service::new(Config::default());
        let server = start(&bus, &service).await.unwrap();
        let client = connect(&bus).await;
        Self { bus, service, server: Some(server), client }
    }

    async fn call<B>(&self, path: &str, interface: Option<&str>, method: &str, body: &B) -> Reply
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        call(&self.client, path, interface, method, body).await
    }

    /// Calls a method of the probe.
    async fn probe<B>(&self, method: &str, body: &B) -> Reply
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        self.call(PROBE, Some("org.opdbus.Probe1"), method, body).await
    }

    fn metrics(&self) -> String {
        self.service.executor.metrics().render().unwrap()
    }

    /// Runs a foreign program on the bus and gives what it prints.
    async fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(arguments).env("DBUS_SYSTEM_BUS_ADDRESS", &self.bus.address);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let (out, err) = (&output.stdout, &output.stderr);
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}{}",
            String::from_utf8_lossy(out),
            String::from_utf8_lossy(err)
        );
        assert!(err.is_empty(), "{program} {arguments:?}: {}", String::from_utf8_lossy(err));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The reply, or name and text of the error.
type Reply = Result<Message, (String, String)>;

async fn call<B>(
    client: &Connection,
    path: &str,
    interface: Option<&str>,
    method: &str,
    body: &B,
) -> Reply
where
    B: serde::Serialize + zbus::DynamicType,
{
    let reply = client.call_method(Some(NAME), path, interface, method, body).await;
    reply.map_err(|error| match error {
        zbus::Error::MethodError(name, text, _) => (name.to_string(), text.unwrap_or_default()),
        zbus::Error::FDO(error) => {
            let reply = zbus::DBusError::name(&*error).to_string();
            (reply, zbus::DBusError::description(&*error).unwrap_or_default().to_owned())
        }
        error => panic!("no reply: {error}"),
    })
}

async fn start(bus: &Bus, service: &Service) -> Result<Server, op_dbus::error::Error> {
    let config = dbus::Config {
        bus: dbus::Bus::Address(bus.address.clone()),
        name: NAME.to_owned(),
        max_body_bytes: 1024 * 1024,
    };
    dbus::start(config, Arc::clone(&service.executor), Arc::clone(&service.status)).await
}

async fn connect(bus: &Bus) -> Connection {
    zbus::connection::Builder::address(bus.address.as_str())
        .method_timeout(Duration::from_secs(20))
        .build()
        .await
        .unwrap()
}

/// Asserts that a call failed with this error, and gives its text.
#[track_caller]
fn failed(reply: Reply, name: &str) -> String {
    let (found, text) = reply.expect_err("the call must fail");
    assert_eq!(found, name, "{text}");
    text
}

fn none() -> Options<'static> {
    HashMap::new()
}

fn with<'a>(name: &'a str, value: impl Into<Variant<'a>>) -> Options<'a> {
    HashMap::from([(name, value.into())])
}

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
async fn foreign_programs_read_every_object() {
    let world = World::new().await;
    let tree = world.run("busctl", &["--system", "tree", "--list", NAME]).await;
    for path in ["/", "/org", "/org/opdbus", MANAGER, "/org/opdbus/Agents1/agent", PROBE] {
        assert!(tree.lines().any(|line| line == path), "{path} is not in\n{tree}");
        world.run("busctl", &["--system", "introspect", NAME, path]).await;
        world
            .run("gdbus", &["introspect", "--system", "--dest", NAME, "--object-path", path])
            .await;
    }
    let probe = world.run("busctl", &["--system", "introspect", NAME, PROBE]).await;
    for line in [
        "org.opdbus.Probe1 interface",
        ".Echo method saya{sv}a{sv} saya{sv}a{sv}",
        ".Nothing method a{sv} -",
        "org.opdbus.Agent1 interface",
        ".CallJson method ssa{sv} s",
        ".Operations property as 9 \"Echo\"",
        ".Id property s \"probe\"",
        "org.freedesktop.DBus.Properties interface",
    ] {
        let found = probe
            .lines()
            .any(|found| found.split_whitespace().collect::<Vec<_>>().join(" ").starts_with(line));
        assert!(found, "{line} is not in\n{probe}");
    }
    let manager = world.run("busctl", &["--system", "introspect", NAME, MANAGER]).await;
    assert!(manager.contains("org.freedesktop.DBus.ObjectManager"), "{manager}");
    assert!(manager.contains(".ListAgents"), "{manager}");
    let docs = world
        .run("gdbus", &["introspect", "--system", "--xml", "--dest", NAME, "--object-path", PROBE])
        .await;
    assert!(docs.contains("Gives the same back"), "{docs}");
    assert!(!docs.contains("Generate"), "streams are not served yet:\n{docs}");
}

#[tokio::test]
async fn foreign_programs_call_and_read_properties() {
    let world = World::new().await;
    let busctl = async |arguments: &[&str]| {
        let arguments = [&["--system"], arguments].concat();
        world.run("busctl", &arguments).await.trim().to_owned()
    };
    let version = busctl(&["get-property", NAME, MANAGER, "org.opdbus.Agents1", "Version"]).await;
    assert_eq!(version, format!("s \"{}\"", env!("CARGO_PKG_VERSION")));
    let host = busctl(&["get-property", NAME, PROBE, "org.opdbus.Agent1", "Host"]).await;
    assert_eq!(host, "s \"daemon\"");
    let filled = busctl(&[
        "call",
        NAME,
        PROBE,
        "org.opdbus.Probe1",
        "Fill",
        "ta{sv}",
        "3",
        "1",
        "filler",
        "s",
        "y",
    ])
    .await;
    assert_eq!(filled, "sa{sv} \"yyy\" 0");
    let json = busctl(&[
        "call",
        NAME,
        PROBE,
        "org.opdbus.Agent1",
        "CallJson",
        "ssa{sv}",
        "fill",
        r#"{"size_bytes": 2}"#,
        "0",
    ])
    .await;
    assert_eq!(json, r#"s "{\"text\":\"xx\"}""#);
    let json = busctl(&[
        "call",
        NAME,
        MANAGER,
        "org.opdbus.Agents1",
        "CallJson",
        "sssa{sv}",
        "probe",
        "Fill",
        r#"{"size_bytes": 1}"#,
        "0",
    ])
    .await;
    assert!(json.contains(r#"\"text\":\"x\""#), "{json}");
    let nothing = world
        .run(
            "gdbus",
            &[
                "call",
                "--system",
                "--dest",
                NAME,
                "--object-path",
                PROBE,
                "--method",
                "org.opdbus.Probe1.Nothing",
                "{}",
            ],
        )
        .await;
    assert_eq!(nothing.trim(), "()");
    let managed =
        busctl(&["call", NAME, MANAGER, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"])
            .await;
    assert!(managed.contains(PROBE) && managed.contains("org.opdbus.Agent1"), "{managed}");
}

#[tokio::test]
async fn the_files_are_what_the_live_objects_say() {
    let world = World::new().await;
    let standard = Some("org.freedesktop.DBus.Introspectable");
    for (path, interface) in [(MANAGER, "org.opdbus.Agents1"), (PROBE, "org.opdbus.Agent1")] {
        let reply = world.call(path, standard, "Introspect", &()).await.unwrap();
        let live: String = reply.body().deserialize().unwrap();
        let file = format!("{}/dbus/interfaces/{interface}.xml", env!("CARGO_MANIFEST_DIR"));
        let file = std::fs::read_to_string(file).unwrap();
        let element = file.split_once("<node>\n").unwrap().1.strip_suffix("</node>\n").unwrap();
        assert!(live.contains(element), "{interface} is not as its file says:\n{live}");
    }
}

#[tokio::test]
async fn what_does_not_exist_gets_the_errors_of_dbus() {
    let world = World::new().await;
    let options = none();
    for (path, interface, method, error) in [
        ("/no/such", Some("org.opdbus.Probe1"), "Echo", "UnknownObject"),
        ("/org/opdbus/Agents1/agent/nobody", None, "Echo", "UnknownObject"),
        (PROBE, Some("org.opdbus.Nobody1"), "Echo", "UnknownInterface"),
        (PROBE, Some("org.opdbus.Probe1"), "NoSuch", "UnknownMethod"),
        (PROBE, Some("org.opdbus.Probe1"), "Generate", "UnknownMethod"),
        (PROBE, Some("org.opdbus.Agent1"), "NoSuch", "UnknownMethod"),
        (
            PROBE,
            Some("org.freedesktop.DBus.ObjectManager"),
            "GetManagedObjects",
            "UnknownInterface",
        ),
        (MANAGER, Some("org.opdbus.Agent1"), "CallJson", "UnknownInterface"),
        (PROBE, None, "NoSuch", "UnknownMethod"),
        ("/org", None, "NoSuch", "UnknownMethod"),
    ] {
        let reply = world.call(path, interface, method, &options).await;
        failed(reply, &format!("org.freedesktop.DBus.Error.{error}"));
    }
    let metrics = world.metrics();
    assert!(metrics.contains("opdbus_rejected_total{reason=\"unknown_agent\"} 5"), "{metrics}");
    assert!(metrics.contains("opdbus_rejected_total{reason=\"unknown_operation\"} 5"), "{metrics}");
}

#[tokio::test]
async fn properties_answer_as_the_specification_says() {
    let world = World::new().await;
    let standard = Some("org.freedesktop.DBus.Properties");
    let id = ("org.opdbus.Agent1", "Id");
    let reply = world.call(PROBE, standard, "Get", &id).await.unwrap();
    let body = reply.body();
    assert_eq!(body.deserialize::<Variant<'_>>().unwrap(), Variant::from("probe"));
    let reply = world.call(PROBE, standard, "GetAll", &"org.opdbus.Agent1").await.unwrap();
    let body = reply.body();
    let all: Options<'_> = body.deserialize().unwrap();
    assert_eq!(all["Service"], Variant::from("opdbus.agent.probe.v1.ProbeService"));
    assert_eq!(all["Activation"], Variant::from("on_demand"));
    assert_eq!(all.len(), 9);
    let reply = world.call(PROBE, standard, "GetAll", &"org.opdbus.Probe1").await.unwrap();
    assert!(reply.body().deserialize::<Options<'_>>().unwrap().is_empty());

    let get = |interface, name| (interface, name);
    for (method, body, error) in [
        ("Get", get("org.opdbus.Agent1", "Nope"), "UnknownProperty"),
        ("Get", get("org.opdbus.Nobody1", "Id"), "UnknownInterface"),
    ] {
        let reply = world.call(PROBE, standard, method, &body).await;
        failed(reply, &format!("org.freedesktop.DBus.Error.{error}"));
    }
    let set = ("org.opdbus.Agent1", "Id", Variant::from("other"));
    let reply = world.call(PROBE, standard, "Set", &set).await;
    failed(reply, "org.freedesktop.DBus.Error.PropertyReadOnly");
    let reply = world.call(PROBE, standard, "Get", &"org.opdbus.Agent1").await;
    failed(reply, "org.freedesktop.DBus.Error.InvalidArgs");
}

#[tokio::test]
async fn a_peer_answers_on_any_path() {
    let world = World::new().await;
    let peer = Some("org.freedesktop.DBus.Peer");
    world.call("/any/path", peer, "Ping", &()).await.unwrap();
    let reply = world.call(PROBE, peer, "GetMachineId", &()).await;
    if std::path::Path::new("/etc/machine-id").exists() {
        let id: String = reply.unwrap().body().deserialize().unwrap();
        assert_eq!(id.len(), 32);
    }
}

#[tokio::test]
async fn a_call_without_interface_finds_its_method() {
    let world = World::new().await;
    let reply = world.call(PROBE, None, "Count", &none()).await.unwrap();
    let body = reply.body();
    assert_eq!(body.deserialize::<(u64, Options<'_>)>().unwrap().0, 1);
    world.call(PROBE, None, "Ping", &()).await.unwrap();
    world.call(PROBE, None, "CallJson", &("Count", "{}", none())).await.unwrap();
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
    let reply = world.call(PROBE, None, "CallJson", &("Generate", "", none())).await;
    failed(reply, "org.opdbus.Error.UnknownOperation");
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
    assert!(metrics.contains("opdbus_rejected_total{reason=\"invalid_request\"} 3"), "{metrics}");
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

#[tokio::test]
async fn a_client_that_vanishes_ends_its_calls() {
    let world = World::new().await;
    let other = connect(&world.bus).await;
    let message = Message::method_call(PROBE, "Sleep")
        .destination(NAME)
        .build(&(60_000_000_i64, none()))
        .unwrap();
    other.send(&message).await.unwrap();
    let running =
        "opdbus_calls_in_flight{agent=\"probe\",operation=\"Sleep\",transport=\"dbus\"} 1";
    until("the call runs", || world.metrics().contains(running)).await;
    other.close().await.unwrap();
    let cancelled = "opdbus_calls_total{agent=\"probe\",operation=\"Sleep\",outcome=\"cancelled\",transport=\"dbus\"} 1";
    until("the call is cancelled", || world.metrics().contains(cancelled)).await;
}

/// Waits until something holds, ten seconds at most.
async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came that {what}");
}

#[tokio::test]
async fn a_second_service_on_the_same_name_fails_to_start() {
    let world = World::new().await;
    let second = Service::new(Config::default());
    let error = start(&world.bus, &second).await.err().unwrap();
    assert_eq!(error.kind(), op_dbus::error::ErrorKind::AlreadyExists);
    assert!(error.message().contains(NAME), "{error}");
    world.probe("Count", &none()).await.unwrap();
}

#[tokio::test]
async fn a_bus_that_is_not_there_is_an_error() {
    let mut bus = Bus::start();
    bus.kill();
    let error = start(&bus, &Service::new(Config::default())).await.err().unwrap();
    assert_eq!(error.kind(), op_dbus::error::ErrorKind::Unavailable);
    assert!(error.message().contains(&bus.address), "{error}");
}

#[tokio::test]
async fn a_lost_bus_is_found_again() {
    let mut world = World::new().await;
    world.bus.kill();
    let up = || world.service.status.report().transports[0].serving;
    until("the loss is noted", || !up()).await;
    assert!(world.metrics().contains("opdbus_transport_up{transport=\"dbus\"} 0"));
    world.bus.restart();
    until("it is served again", || world.service.status.report().transports[0].serving).await;
    assert!(world.metrics().contains("opdbus_dbus_reconnects_total 1"));
    assert!(world.metrics().contains("opdbus_transport_up{transport=\"dbus\"} 1"));
    assert_eq!(world.service.status.report().transports[0].reconnects, 1);
    let client = connect(&world.bus).await;
    call(&client, PROBE, None, "Count", &none()).await.unwrap();
}

#[tokio::test]
async fn a_stop_gives_the_name_back_and_lets_replies_leave() {
    let mut world = World::new().await;
    let server = world.server.take().unwrap();
    let body = (200_000_i64, none());
    let sleeping = world.probe("Sleep", &body);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.stop().await;
    };
    let (reply, ()) = tokio::join!(sleeping, stop);
    reply.unwrap();
    let reply = world.probe("Count", &none()).await;
    failed(reply, "org.freedesktop.DBus.Error.ServiceUnknown");
    // The name is free for the next one.
    start(&world.bus, &world.service).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_policy_that_refuses_the_name_is_explained() {
    let bus = Bus::start_with(
        "<policy context=\"mandatory\"><deny own=\"org.opdbus.Agents1\"/></policy>",
    );
    let error = start(&bus, &Service::new(Config::default())).await.err().unwrap();
    assert_eq!(error.kind(), op_dbus::error::ErrorKind::AccessDenied);
    assert!(error.message().contains("org.opdbus.Agents1.conf"), "{error}");
}

#[tokio::test]
async fn new_routes_are_served_without_a_restart() {
    let world = World::new().await;
    world.probe("Count", &none()).await.unwrap();
    let limits = Config { policy: op_dbus::executor::Policy::DenyAll, ..Config::default() };
    world.service.executor.reconfigure(limits);
    failed(world.probe("Count", &none()).await, "org.opdbus.Error.AccessDenied");
    world.service.executor.reconfigure(Config::default());
    world.probe("Count", &none()).await.unwrap();
}
