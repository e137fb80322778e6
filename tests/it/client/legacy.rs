//! Calls over the older interface on D-Bus: the same results where an operation has an older name, and a
//! clear error where it has none.

use op_dbus::client::{
    CallOptions, ContextManagerClient, MemoryClient, ProbeClient, Request,
    SequentialThinkingClient, Via, Way,
};
use op_dbus::error::ErrorKind;
use op_dbus::proto::opdbus::agent::context_manager::v1::{LoadRequest, SaveRequest};
use op_dbus::proto::opdbus::agent::memory::v1::{
    ForgetRequest, IncrementRequest, ListRequest, RecallRequest, RememberRequest,
};
use op_dbus::proto::opdbus::agent::probe::v1::GenerateRequest;
use op_dbus::proto::opdbus::agent::sequential_thinking::v1::{
    GetChainRequest, StartChainRequest, ThinkRequest,
};

use super::{World, failure};
use crate::process::PATIENCE;

#[tokio::test]
async fn the_older_interface_gives_what_the_others_give() {
    let world = World::new();
    let client = world.client(Via::Legacy);
    assert_eq!(client.way(), Way::Legacy);
    let (old, new) =
        (MemoryClient::new(client.clone()), MemoryClient::new(world.client(Via::Grpc)));
    let value = RememberRequest {
        key: "k".into(),
        value: Some("v".into()),
        tags: vec!["a".into(), "b".into()],
        ..RememberRequest::default()
    };
    assert!(old.remember(value).await.unwrap().created);
    let recall = RecallRequest { key: "k".into(), ..RecallRequest::default() };
    assert_eq!(old.recall(recall.clone()).await.unwrap(), new.recall(recall).await.unwrap());
    let list = ListRequest::default();
    assert_eq!(old.list(list.clone()).await.unwrap(), new.list(list).await.unwrap());
    let forget = ForgetRequest { key: "k".into(), ..ForgetRequest::default() };
    assert_eq!(old.forget(forget).await.unwrap().count, 1);

    let contexts = ContextManagerClient::new(client.clone());
    let save =
        SaveRequest { name: "c".into(), content: Some("text".into()), ..SaveRequest::default() };
    contexts.save(save).await.unwrap();
    let load = LoadRequest { name: "c".into(), ..LoadRequest::default() };
    assert_eq!(contexts.load(load).await.unwrap().content, "text");

    let thinking = SequentialThinkingClient::new(client.clone());
    let start = StartChainRequest { problem: "why".into(), ..StartChainRequest::default() };
    let chain = thinking.start_chain(start).await.unwrap().chain_id;
    let think =
        ThinkRequest { chain_id: chain.clone(), thought: "so".into(), ..ThinkRequest::default() };
    thinking.think(think).await.unwrap();
    let get = GetChainRequest { chain_id: chain, ..GetChainRequest::default() };
    let new = SequentialThinkingClient::new(world.client(Via::Grpc));
    assert_eq!(thinking.get_chain(get.clone()).await.unwrap(), new.get_chain(get).await.unwrap());

    let options = CallOptions::default();
    let json = client.call_json("memory", "list", "{}", &options).await.unwrap();
    assert!(json.starts_with('{'), "{json}");
    assert_eq!(world.counted("Remember", "dbus").await, 1);
}

#[tokio::test]
async fn what_fails_there_fails_as_elsewhere() {
    let world = World::new();
    let client = world.client(Via::Legacy);
    let memory = MemoryClient::new(client.clone());
    let missing = RecallRequest { key: "missing".into(), ..RecallRequest::default() };
    assert_eq!(failure(memory.recall(missing).await).kind, ErrorKind::NotFound);
    let conflict = RememberRequest {
        key: "k".into(),
        value: Some("v".into()),
        if_version: Some(7),
        ..RememberRequest::default()
    };
    let elsewhere = MemoryClient::new(world.client(Via::Grpc)).remember(conflict.clone()).await;
    let (there, elsewhere) = (failure(memory.remember(conflict).await), failure(elsewhere));
    assert_eq!((there.kind, &there.facts), (elsewhere.kind, &elsewhere.facts));
    let request = RecallRequest { key: "k".into(), ..RecallRequest::default() };
    let elsewhere = Request::new(request).session("nowhere").timeout(PATIENCE);
    assert_eq!(failure(memory.recall(elsewhere).await).kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn what_has_no_older_name_says_which_way_has_it() {
    let world = World::new();
    let client = world.client(Via::Legacy);
    let increment = IncrementRequest { key: "k".into(), ..IncrementRequest::default() };
    let outcomes = [
        failure(MemoryClient::new(client.clone()).increment(increment).await),
        failure(ProbeClient::new(client.clone()).generate(GenerateRequest { count: 1 }).await),
        failure(client.status(&CallOptions::default()).await),
    ];
    for failure in outcomes {
        assert_eq!(failure.kind, ErrorKind::UnknownOperation, "{failure:?}");
        assert!(failure.message.contains("OP_DBUS_VIA=grpc"), "{failure:?}");
    }
}
