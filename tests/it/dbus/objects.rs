//! What the objects show: introspection, properties, standard interfaces and their errors.

use std::collections::HashMap;

use op_dbus::contract::Contract;
use zbus::Variant;

use super::{MANAGER, NAME, Options, PROBE, World, failed, none};

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
    let contract = Contract::built_in().unwrap();
    let service = contract.service("opdbus.agent.probe.v1.ProbeService").unwrap();
    let names: Vec<_> =
        service.operations.iter().map(|operation| format!("\"{}\"", operation.name)).collect();
    let operations = format!(".Operations property as {} {}", names.len(), names.join(" "));
    for line in [
        "org.opdbus.Probe1 interface",
        ".Echo method saya{sv}a{sv} saya{sv}a{sv}",
        ".Nothing method a{sv} -",
        ".Generate method ua{sv} oa{sv}",
        ".Sum method aa{sv}a{sv} oa{sv}",
        ".Chat method aa{sv}a{sv} oa{sv}",
        "org.opdbus.Agent1 interface",
        ".CallJson method ssa{sv} s",
        &operations,
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
    assert!(docs.contains("handle-token (s)"), "{docs}");
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
        (MANAGER, Some("org.opdbus.Agents1"), "WatchAgents", "UnknownMethod"),
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
    assert_eq!(all.len(), 11);
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
async fn the_manager_lists_the_agents() {
    let world = World::new().await;
    let standard = Some("org.freedesktop.DBus.ObjectManager");
    let reply = world.call(MANAGER, standard, "GetManagedObjects", &()).await.unwrap();
    assert_eq!(reply.body().signature().to_string(), "a{oa{sa{sv}}}");
    let body = reply.body();
    let objects: HashMap<zbus::ObjectPath<'_>, HashMap<&str, Options<'_>>> =
        body.deserialize().unwrap();
    let probe = &objects[&zbus::ObjectPath::try_from(PROBE).unwrap()];
    assert_eq!(probe["org.opdbus.Agent1"]["Id"], Variant::from("probe"));
    assert!(probe["org.opdbus.Probe1"].is_empty());
    assert!(!objects.contains_key(&zbus::ObjectPath::try_from(MANAGER).unwrap()));
}
