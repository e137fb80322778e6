//! Streams through a worker: every shape, at the pace of whoever reads.

use std::time::Duration;

use futures_util::stream;
use op_dbus::proto::opdbus::agent::worker_probe::v1::{
    BlocksRequest, BlocksResponse, ChatRequest, ChatResponse, SumRequest, SumResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{BLOCKS, CHAT, SUM, World};
use crate::grpc::eventually;

#[tokio::test]
async fn replies_come_in_order_and_whole() {
    let world = World::new().await;
    for (count, size_bytes) in [(5000, 10), (200, 100_000)] {
        let request = stream::iter([BlocksRequest { count, size_bytes }]);
        let mut replies =
            world.client.stream::<_, BlocksResponse>(BLOCKS, request).await.unwrap().into_inner();
        let mut got = 0;
        while let Some(reply) = replies.message().await.unwrap() {
            assert_eq!(reply.block.len(), size_bytes as usize);
            got += 1;
        }
        assert_eq!(got, count);
    }
}

#[tokio::test]
async fn an_agent_runs_no_further_ahead_than_its_client_reads() {
    let world = World::new().await;
    let request = stream::iter([BlocksRequest { count: 1_000_000, size_bytes: 64 * 1024 }]);
    let mut replies =
        world.client.stream::<_, BlocksResponse>(BLOCKS, request).await.unwrap().into_inner();
    replies.message().await.unwrap();
    let before = loop {
        let blocks = world.count().await.blocks;
        tokio::time::sleep(Duration::from_millis(200)).await;
        if blocks == world.count().await.blocks {
            break blocks;
        }
    };
    // The windows, the outbox, the task's ring of 1 MiB and the client's own windows.
    assert!(before < 200, "{before} blocks of 64 KiB were sent unread");
    // Other calls are not held up by it.
    world.who().await;
    for _ in 0..before {
        replies.message().await.unwrap();
    }
    eventually("the agent goes on", async || world.count().await.blocks > before).await;
    drop(replies);
}

#[tokio::test]
async fn a_stream_of_requests_gives_one_response() {
    let world = World::new().await;
    let requests = (0..3000).map(|n| SumRequest { data: vec![0; n % 2000].into() });
    let bytes: usize = (0..3000).map(|n| n % 2000).sum();
    let mut replies = world
        .client
        .stream::<_, SumResponse>(SUM, stream::iter(requests.collect::<Vec<_>>()))
        .await
        .unwrap()
        .into_inner();
    let sum = replies.message().await.unwrap().unwrap();
    assert_eq!((sum.bytes, sum.messages), (bytes as u64, 3000));
}

#[tokio::test]
async fn both_sides_talk_in_turn() {
    let world = World::new().await;
    let (sender, requests) = mpsc::channel(1);
    let say = async |text: &str| {
        sender.send(ChatRequest { text: text.to_owned() }).await.unwrap();
    };
    say("0").await;
    let mut replies = world
        .client
        .stream::<_, ChatResponse>(CHAT, ReceiverStream::new(requests))
        .await
        .unwrap()
        .into_inner();
    for turn in 0..20 {
        let reply = replies.message().await.unwrap().unwrap();
        assert_eq!(reply.text, turn.to_string());
        say(&(turn + 1).to_string()).await;
    }
    drop(sender);
    assert_eq!(replies.message().await.unwrap().unwrap().text, "20");
    assert!(replies.message().await.unwrap().is_none());
}
