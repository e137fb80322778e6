//! Clients that nobody here wrote, against the transport in this process. They need their libraries,
//! so they run only when asked for: `tests/clients/` says how to install them.

use std::process::Command;

use super::{Running, start};

async fn check(running: Running, mut client: Command) {
    client.env("OPDBUS_GRPC", format!("unix:{}", running.path.display()));
    let output = tokio::task::spawn_blocking(move || client.output().unwrap()).await.unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(running.metric("opdbus_calls_total", "operation=\"Ping\"") > 0.0);
}

#[tokio::test]
#[ignore = "needs a Python with tests/clients/grpc_python/requirements.txt, named by OPDBUS_PYTHON"]
async fn python_grpcio_needs_no_options() {
    let python = std::env::var("OPDBUS_PYTHON").expect("OPDBUS_PYTHON names the Python to run");
    let mut client = Command::new(python);
    client.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/grpc_python/check.py"));
    check(start().await, client).await;
}

#[tokio::test]
#[ignore = "needs `npm ci` in tests/clients/grpc_js"]
async fn grpc_js_needs_no_options() {
    let mut client = Command::new("node");
    client.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/grpc_js/check.js"));
    check(start().await, client).await;
}
