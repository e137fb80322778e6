//! Workers that are ready with a session, and what agents in workers are said to do.

use std::time::Duration;

use futures_util::future::join_all;
use op_dbus::proto::opdbus::agent::worker_probe::v1::{
    WaitRequest, WaitResponse, WhoAmIThereRequest, WhoAmIThereResponse,
};
use op_dbus::proto::opdbus::v1::{
    AgentStart, AgentState, AgentSummary, EndSessionRequest, EndSessionResponse, GetStatusRequest,
    GetStatusResponse, ListAgentsRequest, ListAgentsResponse, StartSessionRequest,
    StartSessionResponse,
};
use serde_json::json;

use super::{WAIT, WHO_AM_I_THERE, World, runs, uid};
use crate::dbus::{self, Options};
use crate::grpc::{Client, eventually};
use crate::process::Daemon;

const WARM: &str = "[agents]\nrun_on_connection = [\"worker_probe\"]\n";

async fn start_session(client: &Client, id: &str) -> AgentStart {
    let start = StartSessionRequest {
        session_id: id.into(),
        client_name: "test".into(),
        ..StartSessionRequest::default()
    };
    let path = "/opdbus.v1.SessionsService/StartSession";
    let started: StartSessionResponse = client.call(path, start).await.unwrap();
    let own = started.agents.into_iter().find(|start| start.agent == "worker_probe");
    own.expect("the session names the agent")
}

async fn end_session(client: &Client, id: &str) {
    let end = EndSessionRequest { session_id: id.into() };
    let path = "/opdbus.v1.SessionsService/EndSession";
    let _: EndSessionResponse = client.call(path, end).await.unwrap();
}

async fn summary(client: &Client) -> AgentSummary {
    let path = "/opdbus.v1.AgentsService/ListAgents";
    let list: ListAgentsResponse = client.call(path, ListAgentsRequest {}).await.unwrap();
    list.agents.into_iter().find(|agent| agent.id == "worker_probe").unwrap()
}

async fn is(client: &Client, state: AgentState) {
    eventually(state.as_str_name(), async || summary(client).await.state() == state).await;
}

fn gauge(daemon: &Daemon, state: &str) -> Option<f64> {
    daemon.metric(&format!("opdbus_agent_state{{agent=\"worker_probe\",state=\"{state}\"}}"))
}

#[tokio::test]
async fn a_session_finds_the_workers_of_its_user_ready() {
    let world = World::with(&format!("idle_ms = 300\n{WARM}")).await;
    assert_eq!(world.metric("opdbus_workers"), 0.0);
    let started = start_session(&world.client, "first").await;
    assert_eq!(started.state(), AgentState::Running, "{started:?}");
    assert!(started.took.unwrap().nanos > 0, "{started:?}");
    // One for each profile of its operations.
    assert_eq!(world.metric("opdbus_workers"), 2.0);
    let pids = async || {
        let there: WhoAmIThereResponse =
            world.client.call(WHO_AM_I_THERE, WhoAmIThereRequest {}).await.unwrap();
        [world.who().await.pid, there.pid]
    };
    let first = pids().await;
    assert_eq!(world.metric("opdbus_worker_starts_total{outcome=\"ok\"}"), 2.0);
    let again = start_session(&world.client, "second").await;
    assert_eq!((again.state(), again.took), (AgentState::Running, None));

    // They stay while a session is open.
    end_session(&world.client, "first").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(pids().await, first);
    end_session(&world.client, "second").await;
    eventually("they end", async || !first.iter().any(|pid| runs(*pid))).await;
    is(&world.client, AgentState::Stopped).await;
}

#[tokio::test]
async fn a_session_on_the_bus_finds_them_ready_too() {
    let daemon = Daemon::start(&format!("[worker]\nmin_uid = 0\n{WARM}"));
    let bus = dbus::connect(&daemon.bus).await;
    let options: Options<'_> = Options::new();
    let body = ("sessions", "StartSession", json!({"clientName": "test"}).to_string(), options);
    let interface = Some("org.opdbus.Agents1");
    let reply = dbus::call(&bus, dbus::MANAGER, interface, "CallJson", &body).await.unwrap();
    let text: String = reply.body().deserialize::<(String, Options<'_>)>().unwrap().0;
    let started: serde_json::Value = serde_json::from_str(&text).unwrap();
    let agents = started["agents"].as_array().unwrap();
    let own = agents.iter().find(|start| start["agent"] == "worker_probe").unwrap();
    assert_eq!(own["state"], "AGENT_STATE_RUNNING", "{started}");
    assert!(own["took"].is_string(), "{started}");
    assert_eq!(daemon.metric("opdbus_workers"), Some(2.0));
}

#[tokio::test]
async fn what_cannot_be_ready_is_said_to_have_failed() {
    let config = format!("[worker]\nmin_uid = {}\n{WARM}", uid() + 1);
    let daemon = Daemon::start(&config);
    let client = Client::unix(&daemon.grpc_socket()).await;
    let started = start_session(&client, "forbidden").await;
    assert_eq!((started.state(), started.took), (AgentState::Failed, None));
    assert!(started.reason.contains("[worker] min_uid"), "{}", started.reason);
    // That is about this user, and says nothing of the agent.
    assert_eq!(summary(&client).await.state(), AgentState::Stopped);

    let missing =
        "[worker]\nmin_uid = 0\nstarter = \"exec-service\"\nexec_socket = \"/nowhere/exec\"\n";
    let daemon = Daemon::start(&format!("{missing}{WARM}"));
    let client = Client::unix(&daemon.grpc_socket()).await;
    let started = start_session(&client, "broken").await;
    assert_eq!((started.state(), started.took), (AgentState::Failed, None));
    assert!(started.reason.contains("the exec service at /nowhere/exec"), "{}", started.reason);
    let listed = summary(&client).await;
    assert_eq!(listed.state(), AgentState::Failed);
    assert!(listed.state_reason.contains("/nowhere/exec"), "{}", listed.state_reason);
    assert_eq!(gauge(&daemon, "failed"), Some(1.0));
    let path = "/opdbus.v1.AgentsService/GetStatus";
    let status: GetStatusResponse = client.call(path, GetStatusRequest {}).await.unwrap();
    let said = |warning: &String| warning.contains("agent worker_probe has failed");
    assert!(status.warnings.iter().any(said), "{:?}", status.warnings);
}

#[tokio::test]
async fn an_agent_in_workers_says_what_it_does() {
    let world = World::with("idle_ms = 300\n").await;
    assert_eq!(summary(&world.client).await.state(), AgentState::Stopped);
    assert_eq!(gauge(&world.daemon, "stopped"), Some(1.0));
    let waits = (0..3).map(|_| {
        let duration = Some(prost_types::Duration { seconds: 2, nanos: 0 });
        world.client.call::<_, WaitResponse>(WAIT, WaitRequest { duration })
    });
    let busy = async {
        is(&world.client, AgentState::Busy).await;
        assert_eq!(gauge(&world.daemon, "busy"), Some(1.0));
    };
    let (outcomes, ()) = tokio::join!(join_all(waits), busy);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    is(&world.client, AgentState::Running).await;
    is(&world.client, AgentState::Stopped).await;
    assert_eq!(gauge(&world.daemon, "stopped"), Some(1.0));
    let starts = "opdbus_agent_starts_total{agent=\"worker_probe\",outcome=\"ok\"}";
    assert_eq!(world.metric(starts), 1.0);
}
