//! Migrate: each call of the program takes the way of its stage, which the administrator moves on, and back.
//! It has a session in which its agents are warm, and streams what it used to wait for.
//!
//! `cargo run --example migrate`

use std::error::Error;

use op_dbus::client::{AgentClient, ContextManagerClient, SessionsClient, Settings, Via};
use op_dbus::proto::opdbus::agent::context_manager::v1::{ExportRequest, SaveRequest};
use op_dbus::proto::opdbus::v1::{EndSessionRequest, StartSessionRequest};

/// Works in a session of its own; gives how many pieces the export had.
///
/// # Errors
/// That of the first call that fails.
pub async fn work(client: &AgentClient, session: &str) -> Result<usize, op_dbus::client::Error> {
    let sessions = SessionsClient::new(client.clone());
    let start = StartSessionRequest {
        client_name: "editor-plugin".into(),
        session_id: session.into(),
        ..Default::default()
    };
    sessions.start_session(start).await?;

    let contexts = ContextManagerClient::new(client.in_session(session));
    let content = Some("It is about ways.".to_owned());
    contexts.save(SaveRequest { name: "notes".into(), content, ..Default::default() }).await?;
    // Each piece is here as soon as it is made, and is made no faster than it is read. Dropping the stream
    // before its end would end the work as well.
    let mut pieces = contexts.export(ExportRequest::default()).await?;
    let mut count = 0;
    while pieces.message().await?.is_some() {
        count += 1;
    }
    sessions.end_session(EndSessionRequest { session_id: session.into() }).await?;
    Ok(count)
}

#[expect(clippy::print_stdout, reason = "it is a program")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = AgentClient::new(&Settings { via: Via::Auto, ..Settings::load()? });
    let session = format!("example-{}", std::process::id());
    println!("{} pieces over {}", work(&client, &session).await?, client.way().name());
    if let Some(metrics) = client.agent_metrics() {
        print!("{}", metrics.render());
    }
    client.close().await;
    Ok(())
}
