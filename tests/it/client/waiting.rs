//! The client for programs without a runtime.

use op_dbus::client::{CallOptions, Error, MemoryClient, ProbeClient, Via, blocking};
use op_dbus::error::ErrorKind;
use op_dbus::proto::opdbus::agent::memory::v1::RecallRequest;
use op_dbus::proto::opdbus::agent::probe::v1::GenerateRequest;

use super::{World, failure};

fn client(world: &World, via: Via) -> blocking::AgentClient {
    blocking::AgentClient::new(&world.settings(via)).unwrap()
}

#[test]
fn calls_and_streams_are_waited_for_on_any_thread() {
    let world = World::new();
    for via in [Via::Grpc, Via::Dbus] {
        let client = client(&world, via);
        client.ready().unwrap();
        let options = CallOptions::default();
        let remember = r#"{"key": "k", "value": "v"}"#;
        client.call_json("memory", "Remember", remember, &options).unwrap();
        let calls: Vec<_> = (0..4)
            .map(|_| {
                let client = client.clone();
                std::thread::spawn(move || {
                    let memory = MemoryClient::new(client.inner().clone());
                    let request = RecallRequest { key: "k".into(), ..RecallRequest::default() };
                    client.wait(async move { memory.recall(request).await })
                })
            })
            .collect();
        for call in calls {
            assert_eq!(call.join().unwrap().unwrap().value, Some("v".into()));
        }
        let probe = ProbeClient::new(client.inner().clone());
        let numbers = client
            .wait(async move { probe.generate(GenerateRequest { count: 10 }).await })
            .unwrap();
        let numbers: Result<Vec<u32>, Error> =
            client.iterate(numbers).map(|number| Ok(number?.number)).collect();
        assert_eq!(numbers.unwrap(), (1..=10).collect::<Vec<u32>>());
        let missing = client.call_json("memory", "Recall", r#"{"key": "missing"}"#, &options);
        assert_eq!(failure(missing).kind, ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn nothing_panics_within_a_runtime_or_on_a_panic() {
    let world = World::new();
    let client = client(&world, Via::Grpc);
    client.ready().unwrap();
    let panicked = client.wait::<()>(async { panic!("on purpose") });
    assert_eq!(failure(panicked).kind, ErrorKind::Internal);
    let within = client.clone();
    let nested = client.wait(async move { within.ready() });
    assert!(failure(nested).message.contains("within"), "it would wait for itself");
    client.ready().unwrap();
}
