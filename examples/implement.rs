//! Implement: the program's calls become typed ones, which do not know the way that they take. Made over
//! D-Bus and over gRPC, they must give the same.
//!
//! `cargo run --example implement`

use std::error::Error;

use op_dbus::client::{AgentClient, MemoryClient, Request, Settings, Via};
use op_dbus::proto::opdbus::agent::memory::v1::{IncrementRequest, RecallRequest, RememberRequest};

/// What the program does, over whatever way `client` takes.
///
/// # Errors
/// That of the first call that fails.
pub async fn work(client: &AgentClient) -> Result<Vec<String>, op_dbus::client::Error> {
    let memory = MemoryClient::new(client.clone());
    let value = Some("vi".into());
    memory.remember(RememberRequest { key: "editor".into(), value, ..Default::default() }).await?;
    let recall = RecallRequest { key: "editor".into(), ..Default::default() };
    let recalled = memory.recall(recall).await?;

    // A second call would count twice. With its name for the request, it is safe to make it again: whatever
    // way it takes, the first one's result comes back.
    let id = format!("opened-{}", std::process::id());
    let count = IncrementRequest { key: "opened".into(), by: Some(1), ..Default::default() };
    let first = memory.increment(Request::new(count.clone()).request_id(&id)).await?;
    let again = memory.increment(Request::new(count).request_id(&id)).await?;
    Ok(vec![format!("{:?}", recalled.value), format!("{}", again.value - first.value)])
}

/// Does the work over both ways.
///
/// # Errors
/// That the results differ, or that of the first call that fails.
pub async fn compare(settings: &Settings) -> Result<Vec<String>, Box<dyn Error>> {
    let over = |via| AgentClient::new(&Settings { via, ..settings.clone() });
    let (dbus, grpc) = (work(&over(Via::Dbus)).await?, work(&over(Via::Grpc)).await?);
    match dbus == grpc {
        true => Ok(grpc),
        false => Err(format!("D-Bus gives {dbus:?}, gRPC gives {grpc:?}").into()),
    }
}

#[expect(clippy::print_stdout, reason = "it is a program")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("both ways give {:?}", compare(&Settings::load()?).await?);
    Ok(())
}
