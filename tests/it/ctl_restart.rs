//! `op-dbusctl` while the service is started anew: it waits for it, and says so.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStderr, Stdio};
use std::time::Duration;

use op_dbus::executor::Config;
use tokio::task::spawn_blocking;

use crate::ctl::command;
use crate::fixture::Service;
use crate::grpc::{config, serve};

/// Waits until the command says that it tries again, and gives what it says after that.
fn after_notice(child: &mut Child) -> BufReader<ChildStderr> {
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("the service is stopping; trying again for up to "), "{line:?}");
    said
}

#[tokio::test]
async fn a_call_that_meets_a_service_stopping_reaches_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let [path, other] = ["grpc.sock", "next.sock"].map(|name| folder.path().join(name));
    let [old, new] = [Service::new(Config::default()), Service::new(Config::default())];
    let stopping = serve(config(&path), &old).await.unwrap();
    let started = serve(config(&other), &new).await.unwrap();
    old.executor.drain();

    let mut child = command()
        .arg("--address")
        .arg(&path)
        .args(["call", "memory", "Remember", "key=k", "value=1"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let told = spawn_blocking(move || (after_notice(&mut child), child));
    let (mut said, mut child) = told.await.unwrap();
    // The next one is there before the command's connection is closed.
    fs::rename(&other, &path).unwrap();
    stopping.stop(Duration::from_secs(60)).await;

    let ended = spawn_blocking(move || {
        let mut rest = String::new();
        said.read_to_string(&mut rest).unwrap();
        (child.wait().unwrap().code(), rest)
    });
    assert_eq!(ended.await.unwrap(), (Some(0), String::new()));
    let metrics = new.executor.metrics().render().unwrap();
    let stored = metrics.lines().find(|line| {
        line.starts_with("opdbus_calls_total{agent=\"memory\"")
            && line.contains("operation=\"Remember\",outcome=\"ok\"")
            && line.ends_with(" 1")
    });
    assert!(stored.is_some(), "{metrics}");
    started.stop(Duration::from_secs(60)).await;
}
