//! The daemon is killed and started again under a steady load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::signal::Signal;
use op_dbus::proto::opdbus::agent::memory::v1::{
    IncrementRequest, IncrementResponse, ListRequest, ListResponse,
};

use super::*;
use crate::process::Prepared;

const READERS: usize = 3;

#[derive(Default)]
struct Load {
    over: AtomicBool,
    read: AtomicU64,
    counted: AtomicU64,
    unknown: AtomicU64,
}

async fn read(client: AgentClient, load: Arc<Load>) {
    while !load.over.load(Ordering::Relaxed) {
        let list: Result<ListResponse, Error> =
            MemoryClient::new(client.clone()).list(ListRequest::default()).await;
        list.expect("a call that could be made again is lost");
        load.read.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn write(client: AgentClient, load: Arc<Load>) {
    let mut number = 0;
    while !load.over.load(Ordering::Relaxed) {
        number += 1;
        let request = IncrementRequest { key: "sum".into(), ..IncrementRequest::default() };
        let request = Request::new(request).request_id(format!("increment-{number}"));
        let sum: Result<IncrementResponse, Error> =
            MemoryClient::new(client.clone()).increment(request).await;
        match sum {
            Ok(_) => load.counted.fetch_add(1, Ordering::Relaxed),
            // Nobody can know whether it was carried out before the kill, so that it was not made again.
            Err(Error::Failed(failure)) if failure.lost => {
                load.unknown.fetch_add(1, Ordering::Relaxed)
            }
            Err(error) => panic!("{error}"),
        };
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn no_call_that_can_be_made_again_is_lost_and_none_counts_twice() {
    let folder = tempfile::tempdir().unwrap();
    let bus = fixture::Bus::start();
    let socket = folder.path().join("grpc.sock");
    let config = format!(
        "[dbus]\nbus = {:?}\n[grpc]\nunix = {socket:?}\n[storage]\npath = {:?}\n",
        bus.address,
        folder.path().join("state")
    );
    let mut daemon = Prepared::new(&config).start();
    let settings = Settings {
        via: Via::Grpc,
        addresses: vec![GrpcAddress::Unix(socket)],
        bus: Bus::Address(bus.address.clone()),
        max_retries: 50,
        request_timeout: Duration::from_secs(30),
        ..Settings::default()
    };
    let load = Arc::new(Load::default());
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..READERS {
        let client = AgentClient::new(&settings);
        clients.spawn(read(client, Arc::clone(&load)));
    }
    let writer = AgentClient::new(&settings);
    clients.spawn(write(writer, Arc::clone(&load)));
    let progress = async |from: u64| {
        eventually("the load goes on", async || load.read.load(Ordering::Relaxed) > from + 100)
            .await;
    };
    progress(0).await;
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    drop(daemon);
    let daemon = Prepared::new(&config).start();
    progress(load.read.load(Ordering::Relaxed)).await;
    load.over.store(true, Ordering::Relaxed);
    clients.join_all().await;

    let client = AgentClient::new(&settings);
    let request = IncrementRequest { key: "sum".into(), ..IncrementRequest::default() };
    let sum: IncrementResponse =
        MemoryClient::new(client.clone()).increment(request).await.unwrap();
    let (counted, unknown) =
        (load.counted.load(Ordering::Relaxed), load.unknown.load(Ordering::Relaxed));
    let carried_out = u64::try_from(sum.value).unwrap() - 1;
    assert!(
        (counted..=counted + unknown).contains(&carried_out),
        "{carried_out} were carried out; {counted} were answered, of {unknown} nobody knows"
    );
    drop(daemon);
}
