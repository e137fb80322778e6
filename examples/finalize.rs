//! Finalize: gRPC alone. What D-Bus was for is gone from the program, and a call that D-Bus refuses tells
//! where it went.
//!
//! `cargo run --example finalize`

use std::error::Error;

use op_dbus::client::{AgentClient, CallOptions, GrpcAgentClient, Settings, Via};
use op_dbus::error::ErrorKind;
use serde_json::json;

/// What the program does now: several calls in one round trip, each with its own outcome.
///
/// # Errors
/// That the service cannot be reached, or refuses the session.
pub async fn work(
    client: &GrpcAgentClient,
    session: &str,
) -> Result<usize, op_dbus::client::Error> {
    client.start_session(session, "editor-plugin").await?;
    let calls = vec![
        ("memory", "remember", json!({"key": "project", "value": "op-dbus"})),
        ("memory", "recall", json!({"key": "project"})),
        ("memory", "recall", json!({"key": "nothing is kept here"})),
    ];
    let results = client.batch_execute(session, calls, false).await?;
    client.end_session(session).await?;
    Ok(results.iter().filter(|result| result.is_ok()).count())
}

/// What D-Bus says to a program that still calls it: nothing special, or where its calls went.
pub async fn moved(settings: &Settings) -> Option<String> {
    let client = AgentClient::new(&Settings { via: Via::Dbus, ..settings.clone() });
    match client.call_json("memory", "list", "{}", &CallOptions::default()).await {
        Err(op_dbus::client::Error::Failed(failure)) if failure.kind == ErrorKind::Migrated => {
            Some(failure.message)
        }
        _ => None,
    }
}

#[expect(clippy::print_stdout, reason = "it is a program")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let settings = Settings::load()?;
    let client = GrpcAgentClient::new(&settings);
    let session = format!("example-{}", std::process::id());
    println!("{} of 3 calls had a result", work(&client, &session).await?);
    match moved(&settings).await {
        Some(text) => println!("D-Bus says: {text}"),
        None => println!("D-Bus still serves this program; op-dbusctl migration status"),
    }
    Ok(())
}
