//! Files and folders that are missing, taken, damaged, newer or another program's.

use std::fs::{self, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::*;

/// A folder with a closed database of some pages, and its file.
async fn filled() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    for id in 0..100 {
        write(&store, id, 1000).await.unwrap();
    }
    drop(store);
    let file = folder.path().join("test.db");
    assert!(!folder.path().join("test.db-wal").exists(), "closing moves the log into the file");
    (folder, file)
}

fn set_aside(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut aside: Vec<_> =
        entries.filter(|path| path.to_string_lossy().contains(".db.damaged-")).collect();
    aside.sort();
    aside
}

fn overwrite(file: &Path, at: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(file).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

#[tokio::test]
async fn what_is_made_is_readable_by_its_owner_only_and_opens_again() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("state/op-dbus");
    for id in 0..3 {
        let store = open(&folder);
        assert_eq!(ids(&store), (0..id).collect::<Vec<_>>());
        write(&store, id, 1).await.unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        for name in ["test.db", "test.db-wal", "test.lock"] {
            assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
        }
    }
}

#[tokio::test]
async fn what_is_left_of_a_database_that_was_never_finished_is_cleared_away() {
    let folder = TempDir::new().unwrap();
    for name in ["test.db.new", "test.db.new-wal", "test.db.new-shm"] {
        fs::write(folder.path().join(name), "cut off").unwrap();
    }
    let status = Arc::default();
    let store = open_with(folder.path(), Durability::Full, &status).unwrap();
    write(&store, 1, 1).await.unwrap();
    drop(store);
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["test.db", "test.lock"]);
    assert_eq!(warnings(&status), Vec::<String>::new());
    assert_eq!(ids(&open(folder.path())), [1]);
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_reported() {
    for damage in ["header", "root page", "truncated", "no database", "emptied"] {
        let (folder, file) = filled().await;
        match damage {
            "header" => overwrite(&file, 0, b"not a database at all"),
            "root page" => overwrite(&file, 4096, &[0xff; 4096]),
            "truncated" => OpenOptions::new()
                .write(true)
                .open(&file)
                .and_then(|file| file.set_len(10_000))
                .unwrap(),
            "no database" => fs::write(&file, "just a text, and quite a short one").unwrap(),
            _ => {
                fs::write(&file, "").unwrap();
                fs::write(folder.path().join("test.db-wal"), "the last trace").unwrap();
            }
        }
        let bytes = fs::read(&file).unwrap();
        let status = Arc::default();
        let store = open_with(folder.path(), Durability::Normal, &status).unwrap();
        assert_eq!(ids(&store), Vec::<i64>::new(), "{damage}");
        write(&store, 7, 1).await.unwrap();
        let aside = set_aside(folder.path());
        assert_eq!(fs::read(&aside[0]).unwrap(), bytes, "{damage}: what was there is kept");
        let warnings = warnings(&status);
        let name = aside[0].display().to_string();
        assert!(warnings.len() == 1 && warnings[0].contains(&name), "{damage}: {warnings:?}");
        if damage == "emptied" {
            assert_eq!(fs::read(&aside[1]).unwrap(), b"the last trace");
        }
        drop(store);
        assert_eq!(ids(&open(folder.path())), [7], "{damage}");
    }
}

#[tokio::test]
async fn damage_that_opening_does_not_meet_is_found_and_said() {
    let (folder, file) = filled().await;
    // A leaf in the middle: neither the schema nor the first row leads there.
    overwrite(&file, 4096 * 15, &[0xff; 4096]);
    let status = Arc::default();
    let store = open_with(folder.path(), Durability::Normal, &status).unwrap();
    assert_eq!(set_aside(folder.path()), Vec::<PathBuf>::new());
    wait_for("the check warns", || {
        warnings(&status).iter().any(|warning| warning.contains("test.db is damaged"))
    });
    let sum = store.read(|database| {
        Ok(database.query_row("SELECT sum(length(value || id)) FROM item", [], |row| {
            row.get::<_, i64>(0)
        })?)
    });
    let error = sum.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BackendFailed);
    assert!(error.message().contains("test.db is damaged"), "{error}");
}

#[tokio::test]
async fn a_newer_file_and_another_programs_are_left_alone() {
    for (pragma, problem) in [
        ("PRAGMA user_version = 2", "newer op-dbus"),
        ("PRAGMA application_id = 1", "another program"),
    ] {
        let (folder, file) = filled().await;
        Connection::open(&file).unwrap().execute_batch(pragma).unwrap();
        let before = fs::read(&file).unwrap();
        let Err(error) = open_with(folder.path(), Durability::Full, &Arc::default()) else {
            panic!("{pragma}: the file was taken");
        };
        assert!(error.message().contains(problem), "{error}");
        assert!(error.message().contains(&file.display().to_string()), "{error}");
        assert_eq!(fs::read(&file).unwrap(), before, "{pragma}: the file changed");
        assert_eq!(set_aside(folder.path()), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_second_store_on_the_same_folder_is_refused() {
    let folder = TempDir::new().unwrap();
    let first = open(folder.path());
    let Err(error) = open_with(folder.path(), Durability::Full, &Arc::default()) else {
        panic!("both opened");
    };
    assert_eq!(error.kind(), ErrorKind::BackendUnavailable);
    assert!(error.message().contains("another op-dbus"), "{error}");
    drop(first);
    open(folder.path());
}

#[test]
fn a_folder_that_cannot_be_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let Err(error) = open_with(&file.join("below"), Durability::Full, &Arc::default()) else {
        panic!("a folder below a file");
    };
    assert_eq!(error.fact("field"), Some("storage.path"));
    assert!(error.message().contains(&file.display().to_string()), "{error}");
}
