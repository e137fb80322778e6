//! A call whose ways are compared in the background beside one that only takes D-Bus, through the client
//! library.

use std::time::Instant;

use op_dbus::client::{AgentClient, Bus, GrpcAddress, MemoryClient, Settings};
use op_dbus::proto::opdbus::agent::memory::v1::{RecallRequest, RememberRequest};

use crate::measure::{Party, Plan, Sample, heading, in_turns, rows};
use crate::parties::{self, Daemon};

/// Recalls a value, again and again, at stage `dbus` and at stage `shadow`.
pub fn run(plan: &Plan) {
    parties::pin();
    heading("the client library, Recall over D-Bus, one core");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stages = ["dbus", "shadow"].map(|stage| {
        let config = format!("[migration]\nstage = {stage:?}\n");
        let daemon = Daemon::start_with("normal", &config);
        let settings = Settings {
            addresses: vec![GrpcAddress::Unix(daemon.socket())],
            bus: Bus::Address(daemon.bus.address.clone()),
            ..Settings::default()
        };
        let client = AgentClient::new(&settings);
        runtime.block_on(remember(&client));
        (stage, daemon, client)
    });
    let mut parties: Vec<Party<'_>> = stages
        .iter()
        .map(|(stage, _, client)| {
            let sample: Box<dyn FnMut() -> Sample> =
                Box::new(|| runtime.block_on(recall(client, plan)));
            (*stage, sample)
        })
        .collect();
    let figures = in_turns(plan, &mut parties);
    rows(&parties, &figures);
    for (stage, _, client) in &stages {
        let compared: u64 = client
            .agent_metrics()
            .map(|metrics| metrics.snapshot().operations.iter().map(|it| it.compared).sum())
            .unwrap_or_default();
        println!("  {stage}: {compared} calls were compared");
    }
    parties::unpin();
}

async fn remember(client: &AgentClient) {
    let value = Some("x".repeat(64).into());
    let request = RememberRequest { key: "k".into(), value, ..RememberRequest::default() };
    MemoryClient::new(client.clone()).remember(request).await.unwrap();
}

async fn recall(client: &AgentClient, plan: &Plan) -> Sample {
    let memory = MemoryClient::new(client.clone());
    let mut nanos = Vec::new();
    let started = Instant::now();
    while started.elapsed() < plan.time() {
        let call = Instant::now();
        let request = RecallRequest { key: "k".into(), ..RecallRequest::default() };
        memory.recall(request).await.unwrap();
        nanos.push(u64::try_from(call.elapsed().as_nanos()).unwrap());
    }
    Sample { nanos, wall: started.elapsed() }
}
