//! The example programs, each against a daemon of its own.

use op_dbus::client::{AgentClient, GrpcAgentClient, Settings, Via};

use super::World;

#[expect(dead_code, reason = "a program, of which the work is run")]
#[path = "../../../examples/finalize.rs"]
mod finalize;
#[expect(dead_code, reason = "a program, of which the work is run")]
#[path = "../../../examples/implement.rs"]
mod implement;
#[expect(dead_code, reason = "a program, of which the work is run")]
#[path = "../../../examples/migrate.rs"]
mod migrate;
#[expect(dead_code, reason = "a program, of which the work is run")]
#[path = "../../../examples/prepare.rs"]
mod prepare;

#[tokio::test]
async fn what_is_recorded_before_the_move_is_the_same_on_every_way() {
    let mut records = Vec::new();
    for via in [Via::Legacy, Via::Dbus, Via::Grpc] {
        let world = World::new();
        let record = prepare::record(&world.client(via)).await;
        let kinds: Vec<bool> = record.iter().map(|(_, answer)| answer.starts_with('{')).collect();
        assert_eq!(kinds, [true, true, false], "{record:?}");
        assert_eq!(record[2].1, "NOT_FOUND");
        let recalled: serde_json::Value = serde_json::from_str(&record[1].1).unwrap();
        records.push(recalled["value"].clone());
    }
    assert_eq!(records, ["vi", "vi", "vi"]);
}

#[tokio::test]
async fn typed_calls_give_the_same_on_both_ways() {
    let world = World::new();
    let both = implement::compare(&world.settings(Via::Auto)).await.unwrap();
    assert_eq!(both[1], "0", "the repeated request was counted once");
}

#[tokio::test]
async fn a_program_in_a_session_streams_over_either_way() {
    let world = World::new();
    for via in [Via::Auto, Via::Dbus] {
        let pieces = migrate::work(&world.client(via), "example").await.unwrap();
        assert!(pieces >= 1, "{pieces}");
    }
}

#[tokio::test]
async fn a_program_that_has_moved_needs_grpc_alone() {
    let world = World::new();
    let settings: Settings = world.settings(Via::Grpc);
    let client = GrpcAgentClient::over(AgentClient::new(&settings));
    assert_eq!(finalize::work(&client, "example").await.unwrap(), 2);
    assert_eq!(finalize::moved(&settings).await, None, "nobody has moved it");
}
