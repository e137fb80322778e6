//! A process that is killed while it writes: what it had answered is there.

use std::io::{BufRead as _, BufReader, Write as _, stdout};
use std::process::{Command, Stdio};

use super::*;

/// Set in the process that writes and is killed: the folder to write in.
const FOLDER: &str = "OP_DBUS_TEST_CRASH_FOLDER";

/// What the writing process says after each answered write; the number follows.
const ANSWERED: &str = "answered ";

/// How many answers the other process waits for before it kills.
const ENOUGH: usize = 3000;

#[test]
fn answered_writes_outlive_a_kill_in_mode_full() {
    check("answered_writes_outlive_a_kill_in_mode_full", Durability::Full);
}

#[test]
fn answered_writes_outlive_a_kill_in_mode_normal() {
    check("answered_writes_outlive_a_kill_in_mode_normal", Durability::Normal);
}

/// Runs the test `name` of this binary once more, as the process that is killed.
fn check(name: &str, durability: Durability) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        write_for_ever(folder.as_ref(), durability);
    }
    let folder = TempDir::new().unwrap();
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("storage::tests::crash::{name}"), "--nocapture"])
        .env(FOLDER, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answered: Vec<i64> = Vec::new();
    for line in BufReader::new(writer.stdout.take().unwrap()).lines() {
        // The last line may be cut off: then the answer never reached anybody.
        if let Some(Ok(id)) = line.unwrap().strip_prefix(ANSWERED).map(str::parse) {
            answered.push(id);
        }
        if answered.len() == ENOUGH {
            writer.kill().unwrap();
        }
    }
    writer.wait().unwrap();
    assert!(answered.len() >= ENOUGH, "only {} writes were answered", answered.len());

    let status = Arc::default();
    let store = open_with(folder.path(), durability, &status).unwrap();
    let stored = ids(&store);
    let lost: Vec<_> = answered.iter().filter(|id| stored.binary_search(id).is_err()).collect();
    assert!(lost.is_empty(), "{} of {} answered writes are lost", lost.len(), answered.len());
    assert_eq!(warnings(&status), Vec::<String>::new());
}

fn write_for_ever(folder: &Path, durability: Durability) -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = Arc::new(open_with(folder, durability, &Arc::default()).unwrap());
    runtime.block_on(async {
        let mut next = 0;
        loop {
            let tasks: Vec<_> = (next..next + 64)
                .map(|id| {
                    let store = Arc::clone(&store);
                    tokio::spawn(async move {
                        write(&store, id, 300).await.unwrap();
                        // A whole line by one system call, so that lines never mix.
                        stdout().write_all(format!("{ANSWERED}{id}\n").as_bytes()).unwrap();
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            next += 64;
        }
    })
}
