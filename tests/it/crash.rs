//! The daemon is killed while clients write: every write that it had answered is there afterwards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use op_dbus::proto::opdbus::agent::memory::v1::{
    IncrementRequest, IncrementResponse, RecallRequest, RecallResponse, RememberRequest,
    RememberResponse,
};
use prost_types::value::Kind;

use crate::grpc::Client;
use crate::process::{Daemon, Prepared};

const REMEMBER: &str = "/opdbus.agent.memory.v1.MemoryService/Remember";
const INCREMENT: &str = "/opdbus.agent.memory.v1.MemoryService/Increment";
const RECALL: &str = "/opdbus.agent.memory.v1.MemoryService/Recall";

/// How many clients write at once.
const WRITERS: usize = 32;

/// What the daemon had answered: the last number stored under each key, and the highest sum.
#[derive(Default)]
struct Answered {
    stored: HashMap<String, u32>,
    sum: i64,
}

fn number(number: u32) -> Option<prost_types::Value> {
    Some(prost_types::Value { kind: Some(Kind::NumberValue(f64::from(number))) })
}

/// Writes until the daemon is gone. Each writer has keys of its own, and all share one sum.
async fn write(client: Client, writer: usize, answered: Arc<Mutex<Answered>>) {
    for round in 1.. {
        let key = format!("{writer}-{}", round % 7);
        let request = RememberRequest {
            key: key.clone(),
            value: number(round),
            ..RememberRequest::default()
        };
        let Ok(_) = client.call::<_, RememberResponse>(REMEMBER, request).await else { return };
        answered.lock().unwrap().stored.insert(key, round);
        let request = IncrementRequest { key: "sum".into(), ..IncrementRequest::default() };
        let Ok(sum) = client.call::<_, IncrementResponse>(INCREMENT, request).await else { return };
        let mut answered = answered.lock().unwrap();
        answered.sum = answered.sum.max(sum.value);
    }
}

async fn recall(client: &Client, key: &str) -> f64 {
    let request = RecallRequest { key: key.into(), ..RecallRequest::default() };
    let response: RecallResponse = client.call(RECALL, request).await.unwrap();
    match response.value.unwrap().kind {
        Some(Kind::NumberValue(number)) => number,
        other => panic!("{key} holds {other:?}"),
    }
}

async fn killed_while_it_writes(durability: &str) {
    let state = tempfile::tempdir().unwrap();
    let config = format!(
        "[storage]\npath = {:?}\ndurability = {durability:?}\n",
        state.path().join("state")
    );
    let answered = Arc::new(Mutex::new(Answered::default()));
    let mut daemon = Daemon::start(&config);
    let client = Client::unix(&daemon.grpc_socket()).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(client.clone(), writer, Arc::clone(&answered)));
    }
    while answered.lock().unwrap().stored.len() < WRITERS * 7 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    writers.join_all().await;

    let again = Prepared::new(&config).start();
    let client = Client::unix(&again.grpc_socket()).await;
    let answered = Arc::into_inner(answered).unwrap().into_inner().unwrap();
    for (key, stored) in answered.stored {
        let found = recall(&client, &key).await;
        assert!(found >= f64::from(stored), "{key}: {stored} was answered, {found} is there");
    }
    let sum = recall(&client, "sum").await;
    // Increments whose answer the kill cut off may be there too, one for each writer at most.
    let most = answered.sum + i64::try_from(WRITERS).unwrap();
    assert!(
        sum >= answered.sum as f64 && sum <= most as f64,
        "{} was answered, {sum} is there",
        answered.sum
    );
}

#[tokio::test]
async fn what_was_answered_outlives_a_kill_in_mode_full() {
    killed_while_it_writes("full").await;
}

#[tokio::test]
async fn what_was_answered_outlives_a_kill_in_mode_normal() {
    killed_while_it_writes("normal").await;
}
