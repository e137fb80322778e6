//! A disk without room. It takes the right to mount; without it the test says that it was skipped.

use std::fs;
use std::io::{Write as _, stderr};
use std::path::PathBuf;
use std::process::Command;

use super::*;

/// A small file system in memory.
struct Small(TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "op-dbus-test"])
            .arg(folder.path())
            .output();
        mount.is_ok_and(|mount| mount.status.success()).then(|| Self(folder))
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_room() {
    let Some(disk) = Small::mount() else {
        writeln!(stderr(), "skipped: this user may not mount a small disk").unwrap();
        return;
    };
    let store = open_with(disk.0.path(), Durability::Full, &Arc::default()).unwrap();
    fs::write(disk.filler(), vec![1; 2 << 20]).unwrap();
    let mut stored = Vec::new();
    let error = loop {
        let id = i64::try_from(stored.len()).unwrap();
        match write(&store, id, 100_000).await {
            Ok(()) => stored.push(id),
            Err(error) => break error,
        }
        assert!(stored.len() < 100, "4 MiB hold 10 MB");
    };
    assert_eq!(error.kind(), ErrorKind::BackendUnavailable, "{error}");
    assert!(error.message().starts_with("the disk is full"), "{error}");
    assert_eq!(ids(&store), stored, "reads go on, and nothing is half stored");

    // Together with one that cannot, those that could are refused too, or stored whole.
    let (large, small) = tokio::join!(write(&store, 900, 3 << 20), write(&store, 901, 10));
    assert_eq!(large.unwrap_err().kind(), ErrorKind::BackendUnavailable);
    if small.is_ok() {
        stored.push(901);
    }
    assert_eq!(ids(&store), stored);

    fs::remove_file(disk.filler()).unwrap();
    write(&store, 1000, 100_000).await.unwrap();
    stored.push(1000);
    assert_eq!(ids(&store), stored);
    drop(store);
    assert_eq!(ids(&open(disk.0.path())), stored);
}
