//! The daemon is killed while clients write and search: what a search finds afterwards is what is stored.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use op_dbus::proto::opdbus::agent::memory::v1::{
    RecallRequest, RecallResponse, RememberRequest, RememberResponse, SearchMode, SearchRequest,
    SearchResponse,
};

use super::plain;
use crate::grpc::Client;
use crate::process::{Daemon, Prepared};

const REMEMBER: &str = "/opdbus.agent.memory.v1.MemoryService/Remember";
const RECALL: &str = "/opdbus.agent.memory.v1.MemoryService/Recall";
const SEARCH: &str = "/opdbus.agent.memory.v1.MemoryService/Search";

const WRITERS: u32 = 8;
const KEYS: u32 = 5;

/// The last number that the daemon answered to have stored under each key.
type Answered = Arc<Mutex<HashMap<String, u32>>>;

fn query(query: String) -> SearchRequest {
    SearchRequest { query, limit: 100, mode: SearchMode::Exact.into(), ..Default::default() }
}

async fn write(client: Client, writer: u32, answered: Answered) {
    for round in 1.. {
        let key = format!("{writer}-{}", round % KEYS);
        let value = Some(prost_types::Value::from(format!("common w{writer}r{round}")));
        let request = RememberRequest { key: key.clone(), value, ..RememberRequest::default() };
        let Ok(_) = client.call::<_, RememberResponse>(REMEMBER, request).await else { return };
        answered.lock().unwrap().insert(key, round);
    }
}

async fn search(client: Client) -> u32 {
    let mut searches = 0;
    while client.call::<_, SearchResponse>(SEARCH, query("common".into())).await.is_ok() {
        searches += 1;
    }
    searches
}

async fn found(client: &Client, words: String) -> Vec<String> {
    let answer: SearchResponse = client.call(SEARCH, query(words)).await.unwrap();
    answer.hits.into_iter().map(|hit| hit.key).collect()
}

#[tokio::test]
async fn the_index_says_what_is_stored_after_a_kill() {
    let state = tempfile::tempdir().unwrap();
    let config = format!("[storage]\npath = {:?}\n", state.path().join("state"));
    let answered = Answered::default();
    let mut daemon = Daemon::start(&config);
    let client = Client::unix(&daemon.grpc_socket()).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(client.clone(), writer, Arc::clone(&answered)));
    }
    let searcher = tokio::spawn(search(client.clone()));
    let all = (WRITERS * KEYS) as usize;
    while answered.lock().unwrap().len() < all {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    writers.join_all().await;
    assert!(searcher.await.unwrap() > 0);

    let again = Prepared::new(&config).start();
    let client = Client::unix(&again.grpc_socket()).await;
    let answered = Arc::into_inner(answered).unwrap().into_inner().unwrap();
    assert_eq!(found(&client, "common".into()).await.len(), all);
    for (key, round) in answered {
        let request = RecallRequest { key: key.clone(), ..RecallRequest::default() };
        let stored: RecallResponse = client.call(RECALL, request).await.unwrap();
        let text = plain(stored.value).as_str().unwrap().to_owned();
        assert_eq!(found(&client, text).await, std::slice::from_ref(&key));
        let (writer, _) = key.split_once('-').unwrap();
        let before = found(&client, format!("w{writer}r{}", round.saturating_sub(KEYS))).await;
        assert!(before.is_empty(), "{key}: what was there before is still found");
    }
}
