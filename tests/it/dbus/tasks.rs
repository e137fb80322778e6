//! Calls that become tasks: their objects, and what becomes of them with their client. How their signals
//! travel is in `delivery.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use op_dbus::call::{Attested, Caller, Context, Identity, SessionScope, Transport};
use op_dbus::contract::task_path;
use op_dbus::executor::Input;
use op_dbus::task::{State, Task};
use prost::Message as _;
use zbus::Variant;

use super::watch::{Watch, finished, numbers};
use super::{MANAGER, NAME, Options, PROBE, World, call, connect, failed, none, with};
use crate::fixture;
use crate::grpc::eventually;

pub(super) const TASK: Option<&str> = Some("org.opdbus.Task1");
const PROPERTIES: Option<&str> = Some("org.freedesktop.DBus.Properties");
pub(super) const MINUTE: i64 = 60_000_000;

/// The task at a path, as the executor knows it.
pub(super) fn task(world: &World, path: &str) -> Arc<Task> {
    let id = path.rsplit('/').next().unwrap();
    world.service.executor.tasks().find(id, me()).unwrap()
}

pub(super) fn me() -> Identity {
    Identity::User { uid: nix::unistd::getuid().as_raw(), gid: None }
}

/// How many sleeps of the probe were cancelled.
async fn cancelled(world: &World) -> u64 {
    let reply = world.probe("Sleep", &(0_i64, none())).await.unwrap();
    let body = reply.body();
    let (_, _, extra): (u64, u64, Options<'_>) = body.deserialize().unwrap();
    extra.get("cancelled").map_or(0, |count| u64::try_from(count).unwrap())
}

#[tokio::test]
async fn a_stream_gives_its_path_its_messages_and_its_end_in_this_order() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    for _ in 0..20 {
        let path = watch.begin("Generate", &(3_u32, none())).await;
        let signals = watch.until_end(&path).await;
        assert_eq!(numbers(&signals), [(1, 0, 1), (2, 2, 2), (3, 4, 3)]);
        assert_eq!(finished(&signals), ("completed".into(), String::new(), String::new(), 3));
        assert_eq!(signals.len(), 4);
    }
}

#[tokio::test]
async fn the_properties_say_what_the_task_is_before_its_end_is_told() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    let path = watch.begin("Generate", &(3_u32, with("deadline-ms", 5_000))).await;
    let mut changed = None;
    loop {
        let (name, message) = watch.signal(&path).await;
        match name.as_str() {
            "PropertiesChanged" => changed = Some(message),
            "Finished" => break,
            _ => {}
        }
    }
    drop(watch);
    let changed = changed.unwrap();
    let body = changed.body();
    let (interface, told, _): (&str, Options<'_>, Vec<&str>) = body.deserialize().unwrap();
    assert_eq!(Some(interface), TASK);
    assert_eq!(told["State"], Variant::from("completed"));
    assert_eq!(told["LastSeq"], Variant::from(3_u64));

    let reply = world.call(&path, PROPERTIES, "GetAll", &"org.opdbus.Task1").await.unwrap();
    let body = reply.body();
    let all: Options<'_> = body.deserialize().unwrap();
    assert_eq!(all.len(), 20);
    for (name, value) in [
        ("Agent", Variant::from("probe")),
        ("Operation", "Generate".into()),
        ("Signature", "opdbus.agent.probe.v1.GenerateResponse".into()),
        ("State", "completed".into()),
        ("Transport", "dbus".into()),
        ("Session", "".into()),
        ("ErrorName", "".into()),
        ("Bytes", 6_u64.into()),
        ("FirstSeq", 1_u64.into()),
        ("Cancelable", false.into()),
        ("ProgressValid", false.into()),
        ("StartedByUID", nix::unistd::getuid().as_raw().into()),
    ] {
        assert_eq!(all[name], value, "{name}");
        let reply = world.call(&path, PROPERTIES, "Get", &("org.opdbus.Task1", name)).await;
        let reply = reply.unwrap();
        assert_eq!(reply.body().deserialize::<Variant<'_>>().unwrap(), value, "{name}");
    }
    let time = |name: &str| u64::try_from(&all[name]).unwrap();
    assert!(time("StartTime") <= time("EndTime") && time("EndTime") < time("Deadline"));
    let set = ("org.opdbus.Task1", "State", Variant::from("failed"));
    let reply = world.call(&path, PROPERTIES, "Set", &set).await;
    failed(reply, "org.freedesktop.DBus.Error.PropertyReadOnly");
}

#[tokio::test]
async fn a_token_names_the_task_before_it_is_called() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    let path = watch.path("my_Token1");
    let options = with("handle-token", "my_Token1");
    assert_eq!(watch.begin("Generate", &(200_u32, &options)).await, path);
    let signals = watch.until_end(&path).await;
    let seqs: Vec<u64> = numbers(&signals).into_iter().map(|(seq, ..)| seq).collect();
    assert_eq!(seqs, (1..=200).collect::<Vec<_>>());

    // The name is taken while the task runs, and free once it has ended.
    let mut detached = with("detach", true);
    detached.insert("handle-token", "my_Token1".into());
    assert_eq!(watch.begin("Sleep", &(MINUTE, detached)).await, path);
    drop(watch);
    let reply = world.probe("Generate", &(1_u32, &options)).await;
    failed(reply, "org.opdbus.Error.AlreadyExists");
    world.call(&path, TASK, "Cancel", &none()).await.unwrap();
    world.probe("Generate", &(1_u32, &options)).await.unwrap();
}

#[tokio::test]
async fn requests_that_are_a_stream_come_as_an_array() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    let number = |number: i64| with("number", number);
    let path = watch.begin("Sum", &(vec![number(40), number(2)], none())).await;
    let signals = watch.until_end(&path).await;
    let body = signals[0].1.body();
    let (_, _, sum): (u64, u64, Options<'_>) = body.deserialize().unwrap();
    assert_eq!(sum["sum"], Variant::from(42_i64));
    assert_eq!(signals.len(), 2);

    let empty: [Options<'_>; 0] = [];
    let path = watch.begin("Sum", &(empty.as_slice(), none())).await;
    let signals = watch.until_end(&path).await;
    assert_eq!(finished(&signals).3, 1);

    let texts: Vec<Options<'_>> = ["a", "b", "c"].map(|text| with("text", text)).into();
    let path = watch.begin("Chat", &(texts, none())).await;
    let signals = watch.until_end(&path).await;
    let texts: Vec<String> = signals[..3]
        .iter()
        .map(|(_, message)| {
            let body = message.body();
            let (_, _, fields): (u64, u64, Options<'_>) = body.deserialize().unwrap();
            String::try_from(fields["text"].try_clone().unwrap()).unwrap()
        })
        .collect();
    assert_eq!(texts, ["a", "b", "c"]);

    drop(watch);
    let reply = world.probe("Sum", &(vec![with("no_such", 1)], none())).await;
    let text = failed(reply, "org.opdbus.Error.InvalidArgument");
    assert!(text.starts_with("messages.no_such"), "{text}");
}

#[tokio::test]
async fn any_call_can_be_detached() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    let path = watch.begin("Sleep", &(1_000_i64, with("detach", true))).await;
    let signals = watch.until_end(&path).await;
    let body = signals[0].1.body();
    let (_, _, fields): (u64, u64, Options<'_>) = body.deserialize().unwrap();
    assert_eq!(fields["finished"], Variant::from(1_u64));
    let arguments = ("Fail", r#"{"reason": "NOT_FOUND", "message": "no"}"#, with("detach", true));
    let path = watch.begin("CallJson", &arguments).await;
    let (state, name, text, last) = finished(&watch.until_end(&path).await);
    assert_eq!((state.as_str(), last), ("failed", 0));
    assert_eq!((name.as_str(), text.as_str()), ("org.opdbus.Error.NotFound", "no"));
    let path =
        watch.begin("CallJson", &("generate", r#"{"count": 2}"#, with("detach", true))).await;
    assert_eq!(numbers(&watch.until_end(&path).await).len(), 2);
    // Not detached it is what it was.
    drop(watch);
    world.probe("Sleep", &(0_i64, with("detach", false))).await.unwrap();
}

#[tokio::test]
async fn options_that_do_not_go_with_the_call_are_named() {
    let world = World::new().await;
    let generate = |options| ("Generate", 1_u32, options);
    for (method, count, options) in [
        generate(with("detach", true)),
        generate(with("input-format", "json")),
        generate(with("output-format", "json")),
    ] {
        let place = (*options.keys().next().unwrap()).to_owned();
        let reply = world.probe(method, &(count, options)).await;
        let text = failed(reply, "org.opdbus.Error.InvalidArgument");
        assert!(text.starts_with(&place), "{text}");
    }
    let reply = world.call(MANAGER, None, "ListAgents", &with("detach", true)).await;
    let text = failed(reply, "org.opdbus.Error.InvalidArgument");
    assert!(text.starts_with("detach"), "{text}");
    for (name, value) in [("handle-token", "a"), ("on-disconnect", "cancel")] {
        let reply = world.probe("Count", &with(name, value)).await;
        let text = failed(reply, "org.opdbus.Error.InvalidArgument");
        assert!(text.starts_with(name), "{text}");
        let reply = world.call(PROBE, None, "CallJson", &("Count", "", with(name, value))).await;
        failed(reply, "org.opdbus.Error.InvalidArgument");
    }
}

#[tokio::test]
async fn another_connection_of_the_same_user_waits_and_cancels() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    let path = watch.begin("Sleep", &(MINUTE, with("detach", true))).await;
    let other = connect(&world.bus).await;
    let reply = call(&other, &path, TASK, "Wait", &(1_000_u64, none())).await.unwrap();
    let body = reply.body();
    let (ended, state, _): (bool, &str, Options<'_>) = body.deserialize().unwrap();
    assert_eq!((ended, state), (false, "working"));

    let start = Instant::now();
    for _ in 0..2 {
        let reply = call(&other, &path, TASK, "Cancel", &none()).await.unwrap();
        let body = reply.body();
        let (ended, extra): (bool, Options<'_>) = body.deserialize().unwrap();
        assert!(ended && extra.is_empty());
    }
    assert!(start.elapsed() < Duration::from_secs(50));
    let reply = call(&other, &path, TASK, "Wait", &(u64::MAX, none())).await.unwrap();
    let body = reply.body();
    let (ended, state, _): (bool, &str, Options<'_>) = body.deserialize().unwrap();
    assert_eq!((ended, state), (true, "cancelled"));
    let (state, name, ..) = finished(&watch.until_end(&path).await);
    assert_eq!((state.as_str(), name.as_str()), ("cancelled", "org.opdbus.Error.Cancelled"));
}

#[tokio::test]
async fn a_client_that_vanishes_ends_only_what_it_wants_to_end() {
    let world = World::new().await;
    let other = connect(&world.bus).await;
    let mut watch = Watch::new(&other);
    let sleep = |options: Options<'static>| {
        let mut options = options;
        options.insert("detach", true.into());
        (MINUTE, options)
    };
    let going_on = watch.begin("Sleep", &sleep(none())).await;
    let ending = watch.begin("Sleep", &sleep(with("on-disconnect", "cancel"))).await;
    let said = watch.begin("Sleep", &sleep(with("on-disconnect", "continue"))).await;
    let [going_on, ending, said] = [going_on, ending, said].map(|path| task(&world, &path));
    drop(watch);
    other.close().await.unwrap();
    eventually("the task is cancelled", async || ending.state() == State::Cancelled).await;
    assert_eq!(going_on.state(), State::Working);
    assert_eq!(said.state(), State::Working);
    assert_eq!(cancelled(&world).await, 1);
    // Its user still reaches what goes on.
    let path = task_path(going_on.id());
    world.call(&path, TASK, "Cancel", &none()).await.unwrap();
    assert_eq!(going_on.state(), State::Cancelled);
}

#[tokio::test]
async fn tasks_are_there_for_their_user_alone_whatever_they_were_started_on() {
    let world = World::new().await;
    let executor = &world.service.executor;
    let route = executor.find("probe", "Generate").unwrap();
    let start = async |identity| {
        let caller = Caller::new(identity, Attested::Kernel, "unix");
        let context = Context::new(Arc::new(caller), Transport::Grpc);
        let request = op_dbus::proto::opdbus::agent::probe::v1::GenerateRequest { count: 5_000 };
        let request = Input::One(Bytes::from(request.encode_to_vec()));
        let task = executor.start(&route, context, request).await.unwrap();
        eventually("the task has ended", async || task.state().is_final()).await;
        task
    };
    let uid = nix::unistd::getuid().as_raw();
    let own = start(Identity::User { uid, gid: Some(7) }).await;
    let path = task_path(own.id());
    let reply = world.call(&path, PROPERTIES, "Get", &("", "Transport")).await.unwrap();
    assert_eq!(reply.body().deserialize::<Variant<'_>>().unwrap(), Variant::from("grpc"));

    // Its ring has let go of the first messages.
    let reply = world.call(&path, TASK, "ReadMessages", &(1_u64, 2_u32, none())).await.unwrap();
    let body = reply.body();
    let (messages, extra): (Vec<(u64, u64, Options<'_>)>, Options<'_>) =
        body.deserialize().unwrap();
    let first = own.record().first_seq;
    assert!(first > 3_000, "{first}");
    let seqs: Vec<u64> = messages.iter().map(|(seq, ..)| *seq).collect();
    assert_eq!(seqs, [first, first + 1]);
    assert_eq!(u64::from(u32::try_from(&messages[0].2["number"]).unwrap()), first);
    assert_eq!(extra["gap"], Variant::from((1_u64, first - 1)));
    for (from, max, place) in [(5_002_u64, 1_u32, "from_seq"), (1, 1001, "max")] {
        let reply = world.call(&path, TASK, "ReadMessages", &(from, max, none())).await;
        let text = failed(reply, "org.opdbus.Error.InvalidArgument");
        assert!(text.starts_with(place), "{text}");
    }

    let foreign = start(Identity::User { uid: uid + 1, gid: None }).await;
    let path = task_path(foreign.id());
    for (interface, method) in [(TASK, "Cancel"), (TASK, "NoSuch"), (Some("no.such"), "Cancel")] {
        let reply = world.call(&path, interface, method, &none()).await;
        failed(reply, "org.freedesktop.DBus.Error.UnknownObject");
    }
    let reply = world.call(&path, PROPERTIES, "Get", &("org.opdbus.Task1", "State")).await;
    failed(reply, "org.freedesktop.DBus.Error.UnknownObject");
}

#[tokio::test]
async fn what_a_task_does_not_have_is_an_error() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    let path = watch.begin("Generate", &(1_u32, none())).await;
    watch.until_end(&path).await;
    drop(watch);
    for (path, interface, method, error) in [
        (task_path("nobody").as_str(), TASK, "Cancel", "UnknownObject"),
        (task_path("no/body").as_str(), TASK, "Cancel", "UnknownObject"),
        (path.as_str(), TASK, "NoSuch", "UnknownMethod"),
        (path.as_str(), Some("org.opdbus.Agent1"), "CallJson", "UnknownInterface"),
        (path.as_str(), None, "GetManagedObjects", "UnknownMethod"),
    ] {
        let reply = world.call(path, interface, method, &none()).await;
        failed(reply, &format!("org.freedesktop.DBus.Error.{error}"));
    }
    let reply = world.call(&path, TASK, "Cancel", &()).await;
    failed(reply, "org.freedesktop.DBus.Error.InvalidArgs");
    let reply = world.call(&path, TASK, "Cancel", &with("force", true)).await;
    let text = failed(reply, "org.opdbus.Error.InvalidArgument");
    assert!(text.starts_with("force"), "{text}");
    let peer = Some("org.freedesktop.DBus.Peer");
    world.call(&task_path("nobody"), peer, "Ping", &()).await.unwrap();
}

#[tokio::test]
async fn foreign_programs_start_and_show_tasks() {
    let world = World::new().await;
    let busctl = async |arguments: &[&str]| {
        let arguments = [&["--system"], arguments].concat();
        world.run("busctl", &arguments).await.trim().to_owned()
    };
    let path = busctl(&[
        "call",
        NAME,
        PROBE,
        "org.opdbus.Probe1",
        "Generate",
        "ua{sv}",
        "3",
        "1",
        "on-disconnect",
        "s",
        "continue",
    ])
    .await;
    let path = path.strip_prefix("oa{sv} \"").unwrap().strip_suffix("\" 0").unwrap().to_owned();
    let wait = ["call", NAME, &path, "org.opdbus.Task1", "Wait", "ta{sv}", "9000000", "0"];
    assert_eq!(busctl(&wait).await, "bsa{sv} true \"completed\" 0");
    let read = ["call", NAME, &path, "org.opdbus.Task1", "ReadMessages", "tua{sv}", "3", "0", "0"];
    assert_eq!(busctl(&read).await, "a(tta{sv})a{sv} 1 3 4 1 \"number\" u 3 0");
    let shown = busctl(&["introspect", NAME, &path]).await;
    for line in ["org.opdbus.Task1", ".Cancel", ".Finished", ".PropertiesChanged", ".StartedByUID"]
    {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }
    let show = ["introspect", "--system", "--dest", NAME, "--object-path", &path];
    let shown = world.run("gdbus", &show).await;
    assert!(shown.contains("readonly s State = 'completed'"), "{shown}");
    // The document is what the file says.
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/dbus/interfaces/org.opdbus.Task1.xml");
    let file = std::fs::read_to_string(file).unwrap();
    let element = file.split_once("<node>\n").unwrap().1.strip_suffix("</node>\n").unwrap();
    let standard = Some("org.freedesktop.DBus.Introspectable");
    let reply = world.call(&path, standard, "Introspect", &()).await.unwrap();
    assert!(reply.body().deserialize::<String>().unwrap().contains(element));
}

#[tokio::test]
async fn who_may_do_nothing_may_not_do_it_through_objects_either() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    let path = watch.begin("Sleep", &(MINUTE, with("detach", true))).await;
    let session = with("session_id", "one");
    world.call(MANAGER, None, "StartSession", &("tester", session)).await.unwrap();
    let uid = nix::unistd::getuid();
    let scope = SessionScope { uid: uid.as_raw(), id: "one".into() };
    let session = op_dbus::session::object_path::of(&scope);
    let denying = fixture::denying();
    world.service.executor.reconfigure(denying);
    for (path, interface, method) in [
        (path.as_str(), TASK, "Cancel"),
        (session.as_str(), Some("org.opdbus.Session1"), "End"),
        (session.as_str(), Some("org.opdbus.Session1"), "KeepAlive"),
    ] {
        let reply = world.call(path, interface, method, &none()).await;
        failed(reply, "org.opdbus.Error.AccessDenied");
    }
    for (path, name) in [(&*path, "org.opdbus.Task1"), (&*session, "org.opdbus.Session1")] {
        let reply = world.call(path, PROPERTIES, "GetAll", &name).await;
        failed(reply, "org.opdbus.Error.AccessDenied");
    }
    assert_eq!(task(&world, &path).state(), State::Working);
}
