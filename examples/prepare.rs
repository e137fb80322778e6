//! Prepare: before anything moves, a program makes its calls through the library, over the way that they
//! take already, and writes down what they give. Nothing about the calls changes but who makes them.
//!
//! `OP_DBUS_VIA=dbus cargo run --example prepare`; with `OP_DBUS_VIA=legacy` for a program that still uses
//! `org.dbusmcp.Agent`.

use std::error::Error;

use op_dbus::client::{AgentClient, CallOptions, Settings};

/// The calls that the program makes: agent, operation, arguments.
const CALLS: [(&str, &str, &str); 3] = [
    ("memory", "remember", r#"{"key": "editor", "value": "vi"}"#),
    ("memory", "recall", r#"{"key": "editor"}"#),
    ("memory", "recall", r#"{"key": "nothing is kept here"}"#),
];

/// What each call gives: the answer, or the kind of the error. This is what must not change.
pub async fn record(client: &AgentClient) -> Vec<(String, String)> {
    let mut record = Vec::new();
    for (agent, operation, arguments) in CALLS {
        let answer = client.call_json(agent, operation, arguments, &CallOptions::default()).await;
        let answer = match answer {
            Ok(json) => json,
            Err(op_dbus::client::Error::Failed(failure)) => failure.kind.reason().to_owned(),
            Err(error) => error.to_string(),
        };
        record.push((format!("{agent}.{operation} {arguments}"), answer));
    }
    record
}

#[expect(clippy::print_stdout, reason = "it is a program")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut settings = Settings::load()?;
    // The name by which `op-dbusctl migration status` shows this program.
    settings.client_name.get_or_insert("editor-plugin".to_owned());
    let client = AgentClient::new(&settings);
    for (call, answer) in record(&client).await {
        println!("{call}\n  {answer}");
    }
    println!("over {}", client.way().name());
    Ok(())
}
