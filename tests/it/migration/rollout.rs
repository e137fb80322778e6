//! Rules: the first one that is about a call holds, whoever asks hears of it over either way, and at the
//! last stage D-Bus answers where to go.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use nix::unistd::getuid;
use op_dbus::proto::opdbus::v1::{WatchRoutesRequest, WatchRoutesResponse};
use serde_json::{Value, json};
use tempfile::tempdir;
use tokio::time::timeout;
use tonic::Streaming;
use zbus::message::{Message, Type};
use zbus::{MessageStream, Variant};

use super::{Ends, position};
use crate::ctl::{command, stderr, stdout};
use crate::dbus::{MANAGER, call};
use crate::grpc::Client;
use crate::process::PATIENCE;

const WATCH: &str = "/opdbus.v1.MigrationService/WatchRoutes";

fn rules_of(routes: &Value) -> Vec<(String, String)> {
    let routes = routes["routes"].as_array().unwrap().iter();
    routes.map(|route| (route["rule"].as_str().unwrap().to_owned(), position(route).0)).collect()
}

#[tokio::test]
async fn the_first_rule_that_is_about_a_client_holds_for_it() {
    let state = tempdir().unwrap();
    // The path where the kernel lets the daemon see it, else the name of the command.
    let path = std::env::current_exe().unwrap();
    let command = std::fs::read_to_string("/proc/self/comm").unwrap();
    let program = [path.to_str().unwrap(), command.trim()];
    let (me, other) = (getuid().as_raw(), getuid().as_raw() + 1);
    let config = format!(
        "[migration]\nstage = \"shadow\"\n\
         [[migration.rule]]\nname = \"other-user\"\nusers = [\"{other}\"]\nstage = \"final\"\n\
         [[migration.rule]]\nname = \"other-program\"\nexecutables = [\"/usr/bin/op-chat\"]\nstage = \"final\"\n\
         [[migration.rule]]\nname = \"other-unit\"\nunits = [\"op-chat.service\"]\nstage = \"final\"\n\
         [[migration.rule]]\nname = \"named\"\nnames = [\"chat\"]\nstage = \"canary\"\npercent = 12.5\n\
         operations = [\"memory.recall\"]\n\
         [[migration.rule]]\nname = \"both\"\nnames = [\"chat\"]\nusers = [\"{other}\"]\nstage = \"final\"\n\
         [[migration.rule]]\nname = \"program\"\nexecutables = {program:?}\nusers = [\"{me}\"]\n\
         agents = [\"memory\"]\nstage = \"grpc\"\n"
    );
    let ends = Ends::start(&config, state.path()).await;
    let mut told = Vec::new();
    for name in ["", "chat"] {
        let request = json!({ "name": name });
        let grpc = ends.over_grpc("migration", "GetRoutes", request.clone()).await.unwrap();
        let dbus = ends.over_dbus("migration", "GetRoutes", request).await.unwrap();
        assert_eq!(grpc, dbus, "both ways tell the same, the client's id included");
        told.push(grpc);
    }
    let of = |rule: &str, stage: &str| (rule.to_owned(), stage.to_owned());
    assert_eq!(rules_of(&told[0]), [of("program", "grpc"), of("default", "shadow")]);
    let expected = [of("named", "canary"), of("program", "grpc"), of("default", "shadow")];
    assert_eq!(rules_of(&told[1]), expected);
    let named = &told[1]["routes"][0];
    assert_eq!(named["operations"], json!(["memory.Recall"]), "as the contract writes it");
    assert_eq!((position(named).1, named["salt"].as_str()), (1250, Some("named")));
    assert_eq!(named["changed_by"], "the configuration");
    assert_ne!(told[0]["client"], told[1]["client"]);
    let wrong = ends.over_grpc("migration", "GetRoutes", json!({"name": "a b"})).await;
    assert_eq!(wrong.unwrap_err().0, "INVALID_ARGUMENT");
    ends.daemon.stop();
}

/// A client with a token is known by it, and one that may not administer moves nothing.
#[tokio::test]
async fn a_token_is_somebody_to_rules_and_another_user_moves_nothing() {
    let state = tempdir().unwrap();
    let made = command().args(["token", "new", "ci", "--user", "4711"]).output().unwrap();
    let text = stdout(&made);
    let token = text.lines().find(|line| line.starts_with("opdbus_")).unwrap();
    let lines = &text[text.find("[[grpc.token]]").unwrap()..];
    let config = format!(
        "{lines}\n[[migration.rule]]\nname = \"by-token\"\ntokens = [\"ci\"]\nstage = \"grpc\"\n"
    );
    let ends = Ends::start(&config, state.path()).await;
    let file = state.path().join("token");
    std::fs::write(&file, token).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let ctl = |words: &[&str]| {
        let address = format!("unix:{}", ends.daemon.grpc_socket().display());
        let mut command = command();
        command.args(["--address", &address, "--token-file"]).arg(&file).args(words);
        command.output().unwrap()
    };
    let routes = ctl(&["--json", "migration", "routes"]);
    let routes: Value = serde_json::from_str(&stdout(&routes)).unwrap();
    assert_eq!(rules_of(&routes)[0], ("by-token".to_owned(), "grpc".to_owned()));
    for words in [
        ["migration", "advance", "by-token"].as_slice(),
        &["migration", "status"],
        &["migration", "simulate", "/dev/null"],
    ] {
        let refused = ctl(words);
        assert!(!refused.status.success(), "{words:?}");
        let text = stderr(&refused);
        let is_refusal = ["ACCESS_DENIED", "APPROVAL_REQUIRED"].iter().any(|it| text.contains(it));
        assert!(is_refusal, "{words:?}: {text}");
    }
    assert_eq!(ends.position("by-token").await.0, "grpc");
    assert_eq!(ends.rule("by-token").await["who"], "token ci");
    ends.daemon.stop();
}

/// The stage that a watcher on gRPC is told next.
async fn next(stream: &mut Streaming<WatchRoutesResponse>) -> (i32, String) {
    let next = timeout(PATIENCE, stream.message()).await.expect("a change is told");
    let routes = next.unwrap().unwrap().routes.unwrap();
    (routes.routes[0].stage, routes.version)
}

/// The stages of the next message of a watcher on D-Bus.
async fn next_on_bus(stream: &mut MessageStream) -> String {
    let next = async {
        loop {
            let message: Message = stream.next().await.unwrap().unwrap();
            let header = message.header();
            let member = header.member().map(|member| member.as_str().to_owned());
            if message.message_type() != Type::Signal || member.as_deref() != Some("Message") {
                continue;
            }
            let body = message.body();
            let (_, _, fields): (u64, u64, HashMap<String, Variant<'_>>) =
                body.deserialize().unwrap();
            let routes: HashMap<String, Variant<'_>> =
                fields["routes"].try_clone().unwrap().try_into().unwrap();
            let first: Vec<HashMap<String, Variant<'_>>> =
                routes["routes"].try_clone().unwrap().try_into().unwrap();
            return String::try_from(first[0]["stage"].try_clone().unwrap()).unwrap();
        }
    };
    timeout(PATIENCE, next).await.expect("a change is told")
}

#[tokio::test]
async fn a_change_reaches_who_watches_on_either_way_without_connecting_anew() {
    let state = tempdir().unwrap();
    let at = |stage: &str| format!("[migration]\nstage = \"{stage}\"\n");
    let ends = Ends::start(&at("dbus"), state.path()).await;
    let client = Client::unix(&ends.daemon.grpc_socket()).await;
    let request = || tokio_stream::iter([WatchRoutesRequest::default()]);
    let mut grpc = client.stream(WATCH, request()).await.unwrap().into_inner();
    let mut bus = MessageStream::from(&ends.bus);
    let options: HashMap<&str, Variant<'_>> = HashMap::new();
    let interface = Some("org.opdbus.Migration1");
    call(&ends.bus, MANAGER, interface, "WatchRoutes", &(options,)).await.unwrap();
    let (first, version) = next(&mut grpc).await;
    assert_eq!((first, &*next_on_bus(&mut bus).await), (1, "dbus"));

    // By somebody, by the configuration, and back again.
    ends.set(json!({"rule": "default", "stage": "STAGE_SHADOW"})).await.unwrap();
    assert_eq!((next(&mut grpc).await.0, &*next_on_bus(&mut bus).await), (2, "shadow"));
    ends.reload(&at("grpc"), state.path());
    let (stage, third) = next(&mut grpc).await;
    assert_eq!((stage, &*next_on_bus(&mut bus).await), (4, "grpc"));

    // Who has that version is told of the next change only, and others at once.
    let of = |version: &str| {
        let request = WatchRoutesRequest { version: version.to_owned(), ..Default::default() };
        client.stream(WATCH, tokio_stream::iter([request]))
    };
    let mut known: Streaming<WatchRoutesResponse> = of(&third).await.unwrap().into_inner();
    let mut old: Streaming<WatchRoutesResponse> = of(&version).await.unwrap().into_inner();
    assert_eq!(next(&mut old).await, (4, third));
    timeout(Duration::from_millis(300), known.message()).await.unwrap_err();
    ends.set(json!({"rule": "default", "change": "STAGE_CHANGE_ROLLBACK"})).await.unwrap();
    assert_eq!(next(&mut known).await.0, 3);
    drop((grpc, bus, known, old));
    ends.daemon.stop();
}

#[tokio::test]
async fn at_the_last_stage_dbus_answers_where_to_go_and_before_says_that_it_will() {
    let state = tempdir().unwrap();
    let rule = |stage: &str| {
        format!("[[migration.rule]]\nname = \"m\"\nagents = [\"memory\"]\nstage = \"{stage}\"\n")
    };
    let ends = Ends::start(&rule("canary"), state.path()).await;
    let remember = json!({"key": "k", "value": 1});
    ends.over_dbus("memory", "Remember", remember.clone()).await.unwrap();
    let memory = "/org/opdbus/Agents1/agent/memory";
    let introspect = async |path: &str| {
        let interface = Some("org.freedesktop.DBus.Introspectable");
        let reply = call(&ends.bus, path, interface, "Introspect", &()).await.unwrap();
        reply.body().deserialize::<String>().unwrap()
    };
    let deprecated = |xml: &str| xml.matches("org.freedesktop.DBus.Deprecated").count();
    assert_eq!(deprecated(&introspect(memory).await), 0);
    ends.reload(&rule("grpc"), state.path());
    let xml = introspect(memory).await;
    // Each method of the typed interface, and the interface.
    let (_, typed) = xml.split_once("<interface name=\"org.opdbus.Memory1\">").unwrap();
    let (typed, _) = typed.split_once("</interface>").unwrap();
    assert_eq!(deprecated(typed), typed.matches("<method ").count() + 1, "{typed}");
    assert_eq!(deprecated(&introspect(MANAGER).await), 0);
    let other = introspect("/org/opdbus/Agents1/agent/sequential_thinking").await;
    assert_eq!(deprecated(&other), 0);
    ends.over_dbus("memory", "Remember", remember.clone()).await.unwrap();

    ends.reload(&rule("final"), state.path());
    let socket = format!("unix:{}", ends.daemon.grpc_socket().display());
    let json = ends.over_dbus("memory", "Recall", json!({"key": "k"})).await.unwrap_err();
    let options: HashMap<&str, Variant<'_>> = HashMap::new();
    let interface = Some("org.opdbus.Memory1");
    let typed = call(&ends.bus, memory, interface, "Recall", &("k", options)).await.unwrap_err();
    for (name, text) in [json, typed] {
        assert_eq!(name, "org.opdbus.Error.Migrated");
        let method = "/opdbus.agent.memory.v1.MemoryService/Recall";
        let example = format!("op-dbusctl --via grpc --address {socket} call memory Recall");
        assert!(text.contains(method) && text.contains(&example), "{text}");
    }
    // The older interface says the same, in its own way.
    let older = "org.dbusmcp.Agent";
    let name = format!("{older}.Memory");
    let body = ("recall", "", json!({"key": "k"}).to_string());
    let path = "/org/dbusmcp/Agent/Memory";
    let reply = ends.bus.call_method(Some(name), path, Some(older), "RunOperation", &body).await;
    let refused = reply.unwrap_err().to_string();
    assert!(refused.contains("Migrated") && refused.contains("op-dbusctl --via grpc"), "{refused}");
    // The example works.
    let words = ["--via", "grpc", "--address", &socket, "call", "memory", "Recall", "key=k"];
    assert!(command().args(words).output().unwrap().status.success());
    // A batch on D-Bus gets no further, and op-dbus's own services stay.
    let arguments = json!({"key": "k"}).to_string();
    let call = json!({"agent": "memory", "operation": "Recall", "arguments": arguments});
    let batch = json!({"items": [call]});
    let batch = ends.over_dbus("calls", "BatchCall", batch).await.unwrap();
    assert!(batch.to_string().contains("MIGRATED"), "{batch}");
    ends.over_dbus("agents", "ListAgents", json!({})).await.unwrap();
    ends.over_dbus("sequential_thinking", "ListChains", json!({})).await.unwrap();
    assert_eq!(ends.daemon.metric("opdbus_migration_stage{rule=\"m\"}"), Some(5.0));
    assert!(ends.daemon.metric("opdbus_rejected_total{reason=\"migrated\"}").unwrap() >= 3.0);
    ends.daemon.stop();
}
