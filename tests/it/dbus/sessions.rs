//! The objects of sessions, and what they send to the connections that hold them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::stream::iter;
use op_dbus::call::Transport;
use op_dbus::executor::Config;
use op_dbus::proto::opdbus::agent::probe::v1::{
    CountRequest, CountResponse, GenerateRequest, GenerateResponse,
};
use op_dbus::proto::opdbus::v1::StartSessionRequest;
use op_dbus::session::{self, Holder, Start};
use zbus::message::Message;
use zbus::{Connection, Variant};

use super::watch::Watch;
use super::{MANAGER, NAME, Options, PROBE, World, call, connect, failed, hear, none};
use crate::fixture::Bus;
use crate::grpc::eventually;
use crate::grpc::{self, place};

const SESSION: Option<&str> = Some("org.opdbus.Session1");
const PROPERTIES: Option<&str> = Some("org.freedesktop.DBus.Properties");
const PATH: &str = "/org/opdbus/Agents1/session";

fn uid() -> u32 {
    nix::unistd::getuid().as_raw()
}

/// The path of this user's session with an id that needs no escape.
fn path(id: &str) -> String {
    format!("{PATH}/{}/{id}", uid())
}

/// Starts a session, or resumes it with its token, and gives the token.
async fn begin(client: &Connection, name: &str, id: &str, token: &str) -> String {
    let mut options = Options::from([("session_id", Variant::from(id))]);
    if !token.is_empty() {
        options.insert("token", token.into());
    }
    let sessions = Some("org.opdbus.Sessions1");
    let reply = call(client, MANAGER, sessions, "StartSession", &(name, options)).await.unwrap();
    let body = reply.body();
    let (session, found, _, _): (Options<'_>, String, Vec<Options<'_>>, Options<'_>) =
        body.deserialize().unwrap();
    assert_eq!(session["object_path"], Variant::from(path(id)));
    found
}

async fn get(client: &Connection, path: &str, name: &str) -> Result<Variant<'static>, String> {
    let reply = call(client, path, PROPERTIES, "Get", &("org.opdbus.Session1", name)).await;
    reply.map_err(|(name, _)| name).map(|reply| {
        let body = reply.body();
        body.deserialize::<Variant<'_>>().unwrap().try_to_owned().unwrap().into()
    })
}

/// The reason in an `Ended`.
fn reason((name, message): &(String, Message)) -> String {
    assert_eq!(name, "Ended");
    message.body().deserialize().unwrap()
}

/// The next change of the session at `path`: the name of its client and its agents.
async fn changed(watch: &mut Watch, path: &str) -> (String, Vec<String>) {
    let (name, message) = watch.signal(path).await;
    assert_eq!(name, "PropertiesChanged");
    let body = message.body();
    let (interface, mut changed, _): (&str, Options<'_>, Vec<&str>) = body.deserialize().unwrap();
    assert_eq!((Some(interface), changed.len()), (SESSION, 4));
    assert_eq!(changed["Held"], Variant::from(true));
    let client = String::try_from(changed.remove("ClientName").unwrap()).unwrap();
    (client, Vec::try_from(changed.remove("Agents").unwrap()).unwrap())
}

#[tokio::test]
async fn a_session_has_an_object_until_its_end() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    let other = connect(&world.bus).await;
    let metadata = HashMap::from([("colour", "blue")]);
    let options = HashMap::from([
        ("session_id", Variant::from("my.chat")),
        ("metadata", Variant::from(metadata.clone())),
    ]);
    world.call(MANAGER, None, "StartSession", &("desktop", options)).await.unwrap();
    let path = path("my_2echat");

    let reply = call(&other, &path, PROPERTIES, "GetAll", &"org.opdbus.Session1").await.unwrap();
    let body = reply.body();
    let all: Options<'_> = body.deserialize().unwrap();
    assert_eq!(all.len(), 11);
    for (name, value) in [
        ("Id", Variant::from("my.chat")),
        ("ClientName", "desktop".into()),
        ("Metadata", metadata.into()),
        ("UID", uid().into()),
        ("Transport", "dbus".into()),
        ("ExpiresTime", 0_u64.into()),
        ("Held", true.into()),
        ("Agents", Vec::<String>::new().into()),
        ("Calls", 0_u64.into()),
    ] {
        assert_eq!(all[name], value, "{name}");
    }
    let time = |name: &str| u64::try_from(&all[name]).unwrap();
    assert!(0 < time("StartTime") && time("StartTime") <= time("UsedTime") + 1_000);
    let set = ("org.opdbus.Session1", "Held", Variant::from(false));
    let reply = call(&other, &path, PROPERTIES, "Set", &set).await;
    failed(reply, "org.freedesktop.DBus.Error.PropertyReadOnly");

    let reply = call(&other, &path, SESSION, "KeepAlive", &none()).await.unwrap();
    let body = reply.body();
    assert_eq!(body.deserialize::<(u64, Options<'_>)>().unwrap(), (0, none()));
    for (interface, method, error) in [
        (SESSION, "NoSuch", "UnknownMethod"),
        (Some("org.opdbus.Task1"), "Cancel", "UnknownInterface"),
        (None, "GetManagedObjects", "UnknownMethod"),
    ] {
        let reply = call(&other, &path, interface, method, &none()).await;
        failed(reply, &format!("org.freedesktop.DBus.Error.{error}"));
    }
    let reply = call(&other, &path, SESSION, "End", &super::with("force", true)).await;
    let text = failed(reply, "org.opdbus.Error.InvalidArgument");
    assert!(text.starts_with("force"), "{text}");

    // Whoever of the user's ends it.
    let reply = call(&other, &path, SESSION, "End", &none()).await.unwrap();
    assert!(reply.body().deserialize::<Options<'_>>().unwrap().is_empty());
    let signal = watch.signal(&path).await;
    assert_eq!(reason(&signal), "asked");
    let own = world.client.unique_name().unwrap();
    assert_eq!(signal.1.header().destination().unwrap().as_str(), own.as_str());
    for method in ["End", "KeepAlive"] {
        let reply = call(&other, &path, SESSION, method, &none()).await;
        failed(reply, "org.freedesktop.DBus.Error.UnknownObject");
    }
}

#[tokio::test]
async fn foreign_programs_show_and_end_a_session() {
    let world = World::new().await;
    begin(&world.client, "desktop", "chat", "").await;
    let path = path("chat");
    let shown = world.run("busctl", &["--system", "introspect", NAME, &path]).await;
    for line in [".End", ".KeepAlive", ".Ended", ".PropertiesChanged", ".ExpiresTime"] {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }
    let show = ["introspect", "--system", "--dest", NAME, "--object-path", &path];
    let shown = world.run("gdbus", &show).await;
    assert!(shown.contains("readonly s ClientName = 'desktop'"), "{shown}");
    // The document is what the file says.
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/dbus/interfaces/org.opdbus.Session1.xml");
    let file = std::fs::read_to_string(file).unwrap();
    let element = file.split_once("<node>\n").unwrap().1.strip_suffix("</node>\n").unwrap();
    let standard = Some("org.freedesktop.DBus.Introspectable");
    let reply = world.call(&path, standard, "Introspect", &()).await.unwrap();
    assert!(reply.body().deserialize::<String>().unwrap().contains(element));
    let end = ["--system", "call", NAME, &path, "org.opdbus.Session1", "End", "a{sv}", "0"];
    assert_eq!(world.run("busctl", &end).await.trim(), "a{sv} 0");
}

#[tokio::test]
async fn a_session_is_there_for_its_user_alone() {
    let world = World::new().await;
    let sessions = world.service.executor.sessions();
    let request = StartSessionRequest {
        client_name: "theirs".into(),
        session_id: "chat".into(),
        ..StartSessionRequest::default()
    };
    let start = Start::check(request, &session::Config::default()).unwrap();
    let begun = sessions.begin(uid() + 1, Transport::Dbus, start, Holder::Nothing).await;
    let mut begun = begun.unwrap();
    begun.told();
    let theirs = format!("{PATH}/{}/chat", uid() + 1);
    assert_eq!(begun.session.object_path, theirs);
    let unknown = "org.freedesktop.DBus.Error.UnknownObject";
    for (interface, method) in [(SESSION, "End"), (SESSION, "NoSuch"), (Some("no.such"), "End")] {
        failed(world.call(&theirs, interface, method, &none()).await, unknown);
    }
    assert_eq!(get(&world.client, &theirs, "Id").await.unwrap_err(), unknown);
    assert!(sessions.get(uid() + 1, "chat").is_ok());
    for path in [path("nobody"), path("my.chat"), format!("{PATH}/x/chat"), PATH.to_owned() + "/1"]
    {
        let path = path.replace('.', "_2E");
        let reply = world.call(&path, None, "End", &none()).await;
        failed(reply, unknown);
    }
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_a_session_that_is_resumed_with_its_token() {
    let grace = Duration::from_millis(1_500);
    let sessions = session::Config { grace, ..session::Config::default() };
    let config = Config { sessions, ..Config::default() };
    let world = World::with(Bus::start(), config).await;
    let path = path("chat");
    let first = connect(&world.bus).await;
    let token = begin(&first, "first", "chat", "").await;
    first.close().await.unwrap();
    let is_held = || world.service.executor.sessions().get(uid(), "chat").unwrap().held;
    eventually("nothing holds it", async || !is_held()).await;
    assert_eq!(get(&world.client, &path, "Held").await.unwrap(), Variant::from(false));
    let expires = get(&world.client, &path, "ExpiresTime").await.unwrap();
    assert_ne!(expires, Variant::from(0_u64));

    let second = connect(&world.bus).await;
    assert_eq!(begin(&second, "second", "chat", &token).await, token);
    tokio::time::sleep(grace + Duration::from_millis(300)).await;
    assert_eq!(get(&world.client, &path, "ClientName").await.unwrap(), Variant::from("second"));
    assert_eq!(get(&world.client, &path, "ExpiresTime").await.unwrap(), Variant::from(0_u64));
    second.close().await.unwrap();
    eventually("its grace is over", async || {
        world.service.executor.sessions().get(uid(), "chat").is_err()
    })
    .await;
    let gone = get(&world.client, &path, "Held").await.unwrap_err();
    assert_eq!(gone, "org.freedesktop.DBus.Error.UnknownObject");
}

#[tokio::test]
async fn who_holds_a_session_hears_of_it_and_nobody_else() {
    let world = World::new().await;
    let path = path("chat");
    let (other, third) = (connect(&world.bus).await, connect(&world.bus).await);
    hear(&third, &path).await;
    let mut deaf = Watch::new(&third);
    let mut watches = [Watch::new(&world.client), Watch::new(&other)];
    let token = begin(&world.client, "first", "chat", "").await;
    begin(&other, "second", "chat", &token).await;
    for watch in &mut watches {
        assert_eq!(changed(watch, &path).await, ("second".into(), vec![]));
    }
    let memory = format!("{MANAGER}/agent/memory");
    let options = super::with("session-id", "chat");
    call(&third, &memory, None, "List", &options).await.unwrap();
    for watch in &mut watches {
        assert_eq!(changed(watch, &path).await, ("second".into(), vec!["memory".into()]));
    }
    call(&third, &path, SESSION, "End", &none()).await.unwrap();
    for watch in &mut watches {
        assert_eq!(reason(&watch.signal(&path).await), "asked");
    }
    // Had anything come for it, it would have come before this reply.
    world.call(MANAGER, None, "Ping", &(vec![1_u8], none())).await.unwrap();
    call(&third, MANAGER, None, "Ping", &(vec![1_u8], none())).await.unwrap();
    let message = deaf.next().await;
    assert_ne!(message.message_type(), zbus::message::Type::Signal, "{message:?}");
}

#[tokio::test]
async fn changes_are_told_at_most_ten_times_a_second() {
    let world = World::new().await;
    let path = path("chat");
    let mut watch = Watch::new(&world.client);
    let other = connect(&world.bus).await;
    let token = begin(&world.client, "0", "chat", "").await;
    let start = Instant::now();
    let rename = async {
        for name in 1..=60 {
            begin(&other, &name.to_string(), "chat", &token).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let listen = async {
        let mut told = Vec::new();
        // The last one is told too, although nothing happens after it.
        while told.last() != Some(&60) {
            told.push(changed(&mut watch, &path).await.0.parse::<u32>().unwrap());
        }
        told
    };
    let ((), told) = tokio::join!(rename, listen);
    assert!(told.is_sorted() && told.len() >= 3, "{told:?}");
    let most = start.elapsed().as_millis() / 100 + 2;
    assert!(told.len() as u128 <= most, "{} in the time of {most}", told.len());
}

#[tokio::test]
async fn however_many_end_at_once_each_end_is_told_once() {
    const MANY: usize = 600;
    let world = World::new().await;
    let sessions = world.service.executor.sessions();
    let mut watch = Watch::new(&world.client);
    let me = world.client.unique_name().unwrap().as_str();
    for number in 0..MANY {
        let request = StartSessionRequest {
            client_name: "test".into(),
            session_id: format!("s{number}"),
            ..StartSessionRequest::default()
        };
        let start = Start::check(request, &session::Config::default()).unwrap();
        let begun = sessions.begin(uid(), Transport::Dbus, start, Holder::Client(me.into())).await;
        begun.unwrap().told();
    }
    // The transport has heard of them all when it can answer after this.
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Nothing else runs meanwhile, so that more ends come than changes are kept.
    for number in 0..MANY {
        sessions.end(uid(), &format!("s{number}")).unwrap();
    }
    let mut reasons = HashMap::new();
    while reasons.len() < MANY {
        let message = watch.next().await;
        let header = message.header();
        let name = header.member().unwrap().as_str();
        if name == "Ended" {
            let path = header.path().unwrap().to_string();
            let reason: String = message.body().deserialize().unwrap();
            assert_eq!(reasons.insert(path, reason), None, "{message:?}");
        } else {
            assert_eq!(name, "PropertiesChanged");
        }
    }
    let with = |reason: &str| reasons.values().filter(|found| *found == reason).count();
    assert_eq!(with("asked") + with(""), MANY);
    assert!(with("asked") > 0 && with("") > 0, "the test was too slow to show anything");
    // None is told twice.
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.call(MANAGER, None, "Ping", &(vec![1_u8], none())).await.unwrap();
    let message = watch.next().await;
    assert_ne!(message.message_type(), zbus::message::Type::Signal, "{message:?}");
}

#[tokio::test]
async fn a_session_that_is_not_there_is_named_on_both_transports() {
    let world = World::new().await;
    let (_folder, socket) = place();
    let server = grpc::serve(grpc::config(&socket), &world.service).await.unwrap();
    let client = grpc::Client::unix(&socket).await;

    let mut texts = Vec::new();
    let options = || super::with("session-id", "nobody");
    let detached = || {
        let mut options = options();
        options.insert("detach", true.into());
        options
    };
    let json = |options| ("Count", "{}", options);
    for reply in [
        world.probe("Count", &options()).await,
        world.probe("Count", &detached()).await,
        world.probe("Generate", &(1_u32, options())).await,
        world.call(PROBE, None, "CallJson", &json(options())).await,
        world.call(PROBE, None, "CallJson", &json(detached())).await,
    ] {
        texts.push(failed(reply, "org.opdbus.Error.NotFound"));
    }
    let with_session = |value: &str| {
        let mut request = tonic::Request::new(CountRequest {});
        request.metadata_mut().insert("opdbus-session-id", value.parse().unwrap());
        request
    };
    let outcome = client.request::<_, CountResponse>(grpc::COUNT, with_session("nobody")).await;
    texts.push(outcome.as_ref().unwrap_err().message().to_owned());
    grpc::check_error(outcome, tonic::Code::NotFound, "NOT_FOUND");
    let mut request = tonic::Request::new(iter([GenerateRequest { count: 1 }]));
    request.metadata_mut().insert("opdbus-session-id", "nobody".parse().unwrap());
    let outcome = client.stream::<_, GenerateResponse>(grpc::GENERATE, request).await;
    texts.push(outcome.as_ref().unwrap_err().message().to_owned());
    grpc::check_error(outcome.map(drop), tonic::Code::NotFound, "NOT_FOUND");
    assert_eq!(texts, ["there is no session nobody"; 7]);

    // What could be no session's id is the caller's mistake on both.
    let reply = world.probe("Count", &super::with("session-id", "a b")).await;
    let text = failed(reply, "org.opdbus.Error.InvalidArgument");
    assert!(text.starts_with("session-id"), "{text}");
    let outcome = client.request::<_, CountResponse>(grpc::COUNT, with_session("a b")).await;
    grpc::check_error(outcome, tonic::Code::InvalidArgument, "INVALID_ARGUMENT");
    let metrics = world.metrics();
    assert!(metrics.contains("opdbus_rejected_total{reason=\"unknown_session\"} 7"), "{metrics}");
    server.stop(Duration::from_secs(1)).await;
}
