//! What is kept for a session, over both transports and across the ends of the daemon; and the agents
//! that are warm when a session starts.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use op_dbus::proto::opdbus::v1::connect_request::Message;
use op_dbus::proto::opdbus::v1::{ConnectRequest, StartSessionRequest};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use super::{BOTH, Way, World, eventually};
use crate::grpc::raw;
use crate::process::Prepared;

const SCOPE: &str = "SCOPE_SESSION";

impl World {
    async fn start_session(&self, way: Way, id: &str, token: &str) -> Value {
        let request = json!({"client_name": "test", "session_id": id, "token": token});
        self.call(way, ("sessions", "StartSession"), request).await.unwrap()
    }

    /// Stores a value and two contexts in a session, one of which is to be saved at its end.
    async fn store(&self, way: Way, session: &str) {
        let call = async |operation, arguments| {
            self.call_in(way, Some(session), operation, arguments).await.unwrap();
        };
        let value = json!({"key": "k", "value": session, "scope": SCOPE});
        call(("memory", "remember"), value).await;
        let scratch = json!({"name": "scratch", "content": session, "scope": SCOPE});
        call(("context_manager", "save"), scratch).await;
        let name = format!("kept of {session}");
        let kept = json!({"name": name, "content": session, "scope": SCOPE, "auto_save": true});
        call(("context_manager", "save"), kept).await;
    }

    /// Whether the session has what was stored in it: the value, and the two contexts.
    async fn stored(&self, way: Way, session: &str) -> [Result<(), String>; 3] {
        let call = async |operation, arguments| {
            self.call_in(way, Some(session), operation, arguments).await
        };
        let value = call(("memory", "recall"), json!({"key": "k", "scope": SCOPE})).await;
        let value = value.map(|found| assert_eq!(found["value"], json!(session)));
        let load = async |name: String| {
            let arguments = json!({"name": name, "scope": SCOPE});
            let found = call(("context_manager", "load"), arguments).await;
            found.map(|found| assert_eq!(found["items"][0]["text"], json!(session)))
        };
        [value, load("scratch".into()).await, load(format!("kept of {session}")).await]
    }

    async fn has_all(&self, way: Way, session: &str) {
        assert_eq!(self.stored(way, session).await, [Ok(()), Ok(()), Ok(())], "{way:?} {session}");
    }

    /// Checks that a session that has ended left nothing but what was to be saved.
    async fn is_forgotten(&self, session: &str) {
        let name = json!({"name": format!("kept of {session}")});
        eventually("the context is saved", async || {
            self.call(Way::Grpc, ("context_manager", "load"), name.clone()).await.is_ok()
        })
        .await;
        let gone = || Err("NOT_FOUND".to_owned());
        // The session itself is not there.
        assert_eq!(self.stored(Way::Grpc, session).await, [gone(), gone(), gone()]);
        // Another one with its id has nothing of it. It starts when agents have forgotten the first.
        let started = self.start_session(Way::Grpc, session, "").await;
        assert_ne!(started["resumed"], json!(true));
        assert_eq!(self.stored(Way::Grpc, session).await, [gone(), gone(), gone()]);
    }
}

#[tokio::test]
async fn what_is_stored_for_a_session_goes_with_it_on_both_transports() {
    let world = World::start("").await;
    for starts in BOTH {
        for uses in BOTH {
            for ends in BOTH {
                let id = format!("{starts:?}-{uses:?}-{ends:?}");
                world.start_session(starts, &id, "").await;
                world.store(uses, &id).await;
                for way in BOTH {
                    world.has_all(way, &id).await;
                    for (agent, operation, request) in [
                        ("memory", "recall", json!({"key": "k"})),
                        ("context_manager", "load", json!({"name": "scratch"})),
                    ] {
                        let outcome = world.call(way, (agent, operation), request).await;
                        assert_eq!(outcome, Err("NOT_FOUND".to_owned()), "outside of the session");
                    }
                }
                let end = json!({"session_id": id});
                world.call(ends, ("sessions", "EndSession"), end.clone()).await.unwrap();
                let again = world.call(ends, ("sessions", "EndSession"), end).await;
                assert_eq!(again, Err("NOT_FOUND".to_owned()));
                world.is_forgotten(&id).await;
            }
        }
    }
}

#[tokio::test]
async fn a_bus_client_that_comes_back_within_the_grace_finds_what_it_stored() {
    let mut world = World::start("[sessions]\ngrace_ms = 1500\n").await;
    let started = world.start_session(Way::Dbus, "chat", "").await;
    let token = started["token"].as_str().unwrap();
    world.store(Way::Dbus, "chat").await;
    world.bus.clone().close().await.unwrap();
    world.bus = crate::dbus::connect(&world.daemon.bus).await;
    let held = json!({"session_id": "chat"});
    eventually("nothing holds it", async || {
        let session =
            world.call(Way::Grpc, ("sessions", "GetSession"), held.clone()).await.unwrap();
        session["session"].get("held").is_none_or(|held| *held == json!(false))
    })
    .await;
    let resumed = world.start_session(Way::Dbus, "chat", token).await;
    assert_eq!(resumed["resumed"], json!(true));
    tokio::time::sleep(Duration::from_millis(2_000)).await;
    world.has_all(Way::Dbus, "chat").await;
    world.bus.clone().close().await.unwrap();
    world.bus = crate::dbus::connect(&world.daemon.bus).await;
    world.is_forgotten("chat").await;
}

#[tokio::test]
async fn a_stream_over_grpc_holds_its_session_until_it_is_cut() {
    let world = World::start("[sessions]\ngrace_ms = 300\nidle_ms = 300\n").await;
    let start = StartSessionRequest {
        client_name: "test".into(),
        session_id: "chat".into(),
        ..StartSessionRequest::default()
    };
    let start = ConnectRequest { message: Some(Message::Start(start)) }.encode_to_vec();
    let path = "/opdbus.v1.SessionsService/Connect";
    let mut socket = UnixStream::connect(world.daemon.grpc_socket()).await.unwrap();
    socket.write_all(&raw::begun_bytes(path, &[start])).await.unwrap();
    let id = json!({"session_id": "chat"});
    let get = async || world.call(Way::Dbus, ("sessions", "GetSession"), id.clone()).await;
    eventually("the stream holds it", async || {
        get().await.is_ok_and(|found| found["session"]["held"] == json!(true))
    })
    .await;
    world.store(Way::Dbus, "chat").await;
    // Longer than it would live without being held.
    tokio::time::sleep(Duration::from_millis(800)).await;
    world.has_all(Way::Grpc, "chat").await;
    drop(socket);
    eventually("it ends", async || get().await == Err("NOT_FOUND".to_owned())).await;
    world.is_forgotten("chat").await;
}

/// Waits until the record says that the session used both agents.
async fn recorded(folder: &Path, sessions: usize) {
    let agents = || -> Result<Vec<String>, rusqlite::Error> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
        let file = folder.join("state").join("sessions.db");
        let database = rusqlite::Connection::open_with_flags(file, flags)?;
        let mut select = database.prepare("SELECT agents FROM session")?;
        select.query_map([], |row| row.get(0))?.collect()
    };
    let both = |agents: &String| agents.contains("memory") && agents.contains("context_manager");
    eventually("it is recorded", async || {
        agents().is_ok_and(|found| found.len() == sessions && found.iter().all(both))
    })
    .await;
}

#[tokio::test]
async fn what_is_stored_for_a_session_outlives_a_stop_and_a_kill_of_the_daemon() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let folder = tempfile::tempdir().unwrap();
        let world = World::keeping(folder.path(), "").await;
        let mut tokens = Vec::new();
        for way in BOTH {
            let id = format!("{way:?}");
            let started = world.start_session(way, &id, "").await;
            tokens.push(started["token"].as_str().unwrap().to_owned());
            world.store(way, &id).await;
        }
        recorded(folder.path(), 2).await;
        end(world, signal).await;

        let world = World::keeping(folder.path(), "").await;
        for (way, token) in BOTH.into_iter().zip(&tokens) {
            let id = format!("{way:?}");
            let resumed = world.start_session(way, &id, token).await;
            assert_eq!(resumed["resumed"], json!(true), "{signal} {way:?}");
            world.has_all(way, &id).await;
            let end = json!({"session_id": id});
            world.call(way, ("sessions", "EndSession"), end).await.unwrap();
            world.is_forgotten(&id).await;
        }
    }
}

#[tokio::test]
async fn a_session_whose_client_does_not_come_back_after_a_restart_is_forgotten() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let folder = tempfile::tempdir().unwrap();
        let world = World::keeping(folder.path(), "").await;
        world.start_session(Way::Dbus, "chat", "").await;
        world.store(Way::Dbus, "chat").await;
        recorded(folder.path(), 1).await;
        end(world, signal).await;
        let world = World::keeping(folder.path(), "[sessions]\ngrace_ms = 100\n").await;
        world.is_forgotten("chat").await;
    }
}

/// Ends the daemon, and gives it the time for that.
async fn end(world: World, signal: Signal) {
    let World { mut daemon, grpc, bus } = world;
    daemon.signal(signal);
    tokio::task::spawn_blocking(move || daemon.wait()).await.unwrap();
    drop((grpc, bus));
}

#[tokio::test]
async fn agents_are_warm_or_said_to_have_failed_when_a_session_starts() {
    let config = "[agents]\nrun_on_connection = [\"memory\", \"context_manager\"]\n\
                  on_demand = [\"sequential_thinking\"]\n";
    let prepared = Prepared::new(config);
    // A folder where a file should be.
    let in_the_way = prepared.folder.path().join("state").join("context_manager.db");
    std::fs::create_dir_all(&in_the_way).unwrap();
    let world = World::of(prepared.start()).await;
    let state = |agent: &str, state: &str| {
        let name = format!("opdbus_agent_state{{agent=\"{agent}\",state=\"{state}\"}}");
        world.daemon.metric(&name)
    };
    for (number, way) in BOTH.into_iter().enumerate() {
        let begun = Instant::now();
        let started = world.start_session(way, &format!("s{number}"), "").await;
        let agents = started["agents"].as_array().unwrap();
        let agent = |id: &str| agents.iter().find(|agent| agent["agent"] == json!(id));
        let memory = agent("memory").unwrap();
        assert_eq!(memory["state"], json!("AGENT_STATE_RUNNING"), "{started}");
        // The first session started it, the second found it started.
        let took = memory.get("took").and_then(Value::as_str);
        assert_eq!(took.is_some(), number == 0, "{started}");
        if let Some(took) = took {
            let took: f64 = took.strip_suffix('s').unwrap().parse().unwrap();
            assert!(took > 0.0 && took <= begun.elapsed().as_secs_f64(), "{took}");
        }
        let failed = agent("context_manager").unwrap();
        assert_eq!(failed["state"], json!("AGENT_STATE_FAILED"), "{started}");
        let reason = failed["reason"].as_str().unwrap();
        assert!(reason.contains("context_manager.db"), "{reason}");
        assert!(agent("sequential_thinking").is_none(), "{started}");
        assert_eq!(state("memory", "running"), Some(1.0), "{way:?}");
        assert_eq!(state("context_manager", "failed"), Some(1.0), "{way:?}");
    }
    assert_eq!(state("sequential_thinking", "stopped"), Some(1.0));
    let calls = (0..20).map(|number| {
        let way = BOTH[number % 2];
        world.call(way, ("sequential_thinking", "ListChains"), json!({}))
    });
    for outcome in futures_util::future::join_all(calls).await {
        outcome.unwrap();
    }
    assert_eq!(state("sequential_thinking", "stopped"), Some(0.0));
    std::fs::remove_dir(&in_the_way).unwrap();
    eventually("it is tried again", async || state("context_manager", "running") == Some(1.0))
        .await;
    world.call(Way::Dbus, ("context_manager", "list"), json!({})).await.unwrap();
}
