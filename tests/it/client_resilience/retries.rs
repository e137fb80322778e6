//! Calls whose answer is lost, or that nobody takes.

use std::time::Instant;

use op_dbus::client::Failure;

use super::proxy::Answers;
use super::*;

#[tokio::test]
async fn a_call_with_a_request_id_whose_answer_is_lost_is_carried_out_once() {
    let world = World::new(Position::Grpc).await;
    let client = world.client(Via::Grpc);
    assert_eq!(count(&client, None).await.unwrap(), 1);
    // What the service is has been asked before, so that the next answer is that of the call.
    assert_eq!(count(&client, Some("first")).await.unwrap(), 2);
    world.proxy.answer(Answers::LoseNext);
    assert_eq!(count(&client, Some("second")).await.unwrap(), 3);
    assert_eq!(count(&client, None).await.unwrap(), 4);
    let snapshot = client.agent_metrics().unwrap().snapshot();
    assert_eq!(figure(&snapshot, "Count", Way::Grpc, |way| way.retries), 1);
}

#[tokio::test]
async fn a_call_without_one_is_not_made_again_and_says_so() {
    let world = World::new(Position::Grpc).await;
    let client = world.client(Via::Grpc);
    assert_eq!(count(&client, None).await.unwrap(), 1);
    world.proxy.answer(Answers::LoseNext);
    let Err(Error::Failed(failure)) = count(&client, None).await else { panic!() };
    let Failure { lost, message, .. } = failure;
    assert!(lost, "{message}");
    assert!(message.contains("not tried again"), "{message}");
    // It was carried out, once.
    assert_eq!(count(&client, None).await.unwrap(), 3);
    let snapshot = client.agent_metrics().unwrap().snapshot();
    assert_eq!(figure(&snapshot, "Count", Way::Grpc, |way| way.retries), 0);
}

#[tokio::test]
async fn the_library_gives_calls_request_ids_where_that_is_wished() {
    let world = World::new(Position::Grpc).await;
    let settings = Settings { mint_request_ids: true, ..world.settings(Via::Grpc) };
    let client = AgentClient::new(&settings);
    assert_eq!(count(&client, None).await.unwrap(), 1);
    world.proxy.answer(Answers::LoseNext);
    assert_eq!(count(&client, None).await.unwrap(), 2);
    assert_eq!(count(&client, None).await.unwrap(), 3);
}

#[tokio::test]
async fn a_call_without_side_effects_is_made_again() {
    let world = World::new(Position::Grpc).await;
    let client = world.client(Via::Grpc);
    echo(&client, "warm").await.unwrap();
    world.proxy.answer(Answers::LoseNext);
    assert_eq!(echo(&client, "again").await.unwrap(), "again");
    assert_eq!(world.served("Echo", "grpc"), 3);
}

#[tokio::test]
async fn a_lost_bus_is_found_again() {
    let mut world = World::new(Position::Dbus).await;
    let client = world.client(Via::Dbus);
    assert_eq!(echo(&client, "before").await.unwrap(), "before");
    world.bus.restart();
    // The service comes back to the bus by itself, in its own time.
    eventually("the bus is there again", async || echo(&client, "after").await.is_ok()).await;
}

#[tokio::test]
async fn all_tries_together_take_no_longer_than_the_call_may() {
    let mut world = World::new(Position::Grpc).await;
    let settings = Settings { max_retries: 100, ..world.settings(Via::Grpc) };
    let client = AgentClient::new(&settings);
    echo(&client, "warm").await.unwrap();
    let call = async |time: Duration| {
        let message = EchoRequest { text: "late".to_owned(), ..EchoRequest::default() };
        let started = Instant::now();
        let outcome: Result<EchoResponse, Error> =
            ProbeClient::new(client.clone()).echo(Request::new(message).timeout(time)).await;
        (outcome, started.elapsed())
    };
    world.proxy.answer(Answers::Late(Duration::from_secs(20)));
    let time = Duration::from_millis(500);
    let (outcome, took) = call(time).await;
    assert!(outcome.is_err());
    // The time itself, what the service's own word is waited for, and a machine that is busy.
    assert!(took < Duration::from_secs(15), "{took:?}");
    world.proxy.vanish();
    let (outcome, took) = call(time).await;
    assert!(matches!(outcome, Err(Error::Unreachable(_))), "{outcome:?}");
    assert!(took < Duration::from_secs(15), "{took:?}");
}
