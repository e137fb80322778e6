//! The log without a service: every kind of damage is found, a torn end is survived, and a disk without
//! room is neither fatal nor silent.

#![expect(clippy::disallowed_methods, reason = "a small disk is mounted")]

use std::fs;
use std::io::{Write as _, stderr};
use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::call::{Attested, Caller, Identity, Interface, Transport};

fn event(kind: Kind, what: &str) -> Event {
    let identity = Identity::User { uid: 1000, gid: None };
    Event {
        kind,
        time: SystemTime::now(),
        caller: Arc::new(Caller {
            pid: Some(7),
            ..Caller::new(identity, Attested::Kernel, "unix:7")
        }),
        way: Some((Transport::Grpc, Interface::Own)),
        session: None,
        task: None,
        request_id: None,
        target: Target::Named(what.into()),
        digest: None,
        rule: "a rule".into(),
        outcome: "OK",
        duration: None,
    }
}

fn config(folder: &Path) -> Config {
    Config { file_bytes: 64 * 1024, files: 3, journal: false, ..Config::in_state(folder) }
}

fn open(config: &Config) -> Arc<Audit> {
    Audit::open(config, Arc::default()).unwrap()
}

async fn record(audit: &Audit, what: &str) {
    let place = audit.reserve().await.unwrap();
    audit.record(place, event(Kind::Call, what)).await;
}

/// A log with `count` records of calls.
async fn log(count: usize) -> (TempDir, Config) {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path());
    let audit = open(&config);
    for number in 0..count {
        record(&audit, &number.to_string()).await;
    }
    audit.close().await;
    (folder, config)
}

/// Takes the log up, records one call and ends it.
async fn go_on(config: &Config) {
    let audit = open(config);
    record(&audit, "after").await;
    audit.close().await;
}

fn whole(config: &Config) -> Report {
    verify(&config.folder).unwrap().unwrap_or_else(|broken| panic!("{broken:?}"))
}

fn broken(config: &Config) -> Broken {
    verify(&config.folder).unwrap().unwrap_err()
}

fn newest(config: &Config) -> PathBuf {
    files::list(&config.folder).unwrap().pop().unwrap()
}

/// Changes the lines of the newest file.
fn edit(config: &Config, change: impl FnOnce(&mut Vec<String>)) {
    let path = newest(config);
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    change(&mut lines);
    lines.push(String::new());
    fs::write(path, lines.join("\n")).unwrap();
}

#[tokio::test]
async fn what_is_recorded_is_found_and_the_chain_goes_on_over_starts() {
    let (_folder, config) = log(3).await;
    go_on(&config).await;
    let report = whole(&config);
    assert_eq!((report.first, report.files), (1, 1));
    assert!(report.notices.is_empty(), "{report:?}");
    let found = search(&config.folder, &Filter::default(), 100).unwrap();
    let kinds: Vec<_> = found.records.iter().map(|record| record.kind).collect();
    let calls = [Kind::Call; 3];
    let expected = [&[Kind::Open], &calls[..], &[Kind::Close, Kind::Open, Kind::Call, Kind::Close]];
    assert_eq!(kinds, expected.concat());
    let filter = Filter { operation: Some("after".into()), ..Filter::default() };
    assert_eq!(search(&config.folder, &filter, 100).unwrap().records.len(), 1);
    let filter = Filter { uid: Some(1), ..Filter::default() };
    assert!(search(&config.folder, &filter, 100).unwrap().records.is_empty());
    let now = Filter::moment(SystemTime::now());
    let filter = Filter { since: Some(now.clone()), ..Filter::default() };
    assert!(search(&config.folder, &filter, 100).unwrap().records.len() <= 1);
    let filter = Filter { until: Some(now), ..Filter::default() };
    assert!(search(&config.folder, &filter, 100).unwrap().records.len() >= 6);
}

#[tokio::test]
async fn each_kind_of_damage_is_told_with_its_place() {
    let (_kept, changed) = log(5).await;
    edit(&changed, |lines| lines[2] = lines[2].replace("1000", "1001"));
    let found = broken(&changed);
    assert_eq!((found.fault, found.line, found.seq), (Fault::Changed, 3, 3), "{found:?}");

    let (_kept, missing) = log(5).await;
    edit(&missing, |lines| drop(lines.drain(2..4)));
    let found = broken(&missing);
    assert_eq!((found.fault, found.line, found.seq), (Fault::Missing, 3, 3), "{found:?}");

    let (_kept, reordered) = log(5).await;
    edit(&reordered, |lines| lines.swap(2, 3));
    let found = broken(&reordered);
    assert_eq!((found.fault, found.line, found.seq), (Fault::Reordered, 3, 3), "{found:?}");

    let (_kept, repeated) = log(5).await;
    edit(&repeated, |lines| lines.insert(4, lines[1].clone()));
    let found = broken(&repeated);
    assert_eq!((found.fault, found.line), (Fault::Reordered, 5), "{found:?}");

    let (_kept, truncated) = log(5).await;
    edit(&truncated, |lines| lines.truncate(3));
    let found = broken(&truncated);
    assert_eq!((found.fault, found.seq), (Fault::Truncated, 4), "{found:?}");
    // The service goes on behind the gap, and says that there is one.
    go_on(&truncated).await;
    let report = whole(&truncated);
    assert!(report.notices.iter().any(|notice| notice.contains("records 4 to 7")), "{report:?}");

    let (_kept, forged) = log(5).await;
    edit(&forged, |lines| {
        let (mut record, _) = Record::read(lines[2].as_bytes()).unwrap();
        record.uid = Some(1001);
        let mut line = Vec::new();
        record.write(&mut line);
        lines[2] = String::from_utf8(line).unwrap().trim_end().to_owned();
    });
    let found = broken(&forged);
    assert_eq!((found.fault, found.line), (Fault::Changed, 4), "{found:?}");
}

#[tokio::test]
async fn files_are_turned_over_and_make_room_and_the_chain_stays_whole() {
    let (_folder, config) = log(1200).await;
    let files = files::list(&config.folder).unwrap();
    assert_eq!(files.len(), 3, "the oldest made room");
    for file in &files {
        assert!(fs::metadata(file).unwrap().len() <= config.file_bytes + 1024);
    }
    let report = whole(&config);
    assert!(report.first > 1 && report.last > 1200, "{report:?}");

    let second = fs::read(&files[1]).unwrap();
    fs::remove_file(&files[1]).unwrap();
    let found = broken(&config);
    assert_eq!((found.fault, found.line), (Fault::Missing, 1), "{found:?}");
    fs::write(&files[1], second).unwrap();
    whole(&config);
    fs::remove_file(&files[0]).unwrap();
    let found = broken(&config);
    assert_eq!(
        (found.fault, found.line),
        (Fault::Missing, 1),
        "no record tells of this: {found:?}"
    );
    fs::remove_file(&files[1]).unwrap();
    fs::remove_file(&files[2]).unwrap();
    assert_eq!(broken(&config).fault, Fault::Truncated);
}

#[tokio::test]
async fn a_torn_end_stays_and_is_told() {
    for torn in ["{\"seq\":5,\"ti", "\0\0\0\0\0", "{\"a\":1}\nno record\n", "\n"] {
        let (_folder, config) = log(3).await;
        let mut file = fs::OpenOptions::new().append(true).open(newest(&config)).unwrap();
        file.write_all(torn.as_bytes()).unwrap();
        go_on(&config).await;
        let report = whole(&config);
        assert_eq!(report.notices.len(), 1, "{torn:?}: {report:?}");
        assert!(report.notices[0].contains("cut off"), "{torn:?}: {report:?}");
        let text = fs::read_to_string(newest(&config)).unwrap();
        assert!(text.contains(torn), "what was there stays");
    }
    // A record that lacks nothing but the end of its line is one.
    let (_folder, config) = log(3).await;
    let path = newest(&config);
    let length = fs::metadata(&path).unwrap().len();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
    go_on(&config).await;
    assert!(whole(&config).notices.is_empty());
}

#[tokio::test]
async fn only_one_process_writes() {
    let (_folder, config) = log(1).await;
    let held = open(&config);
    let error = Audit::open(&config, Arc::default()).map(drop).unwrap_err();
    assert!(error.message().contains("another process"), "{error}");
    held.close().await;
}

#[tokio::test]
async fn a_flood_of_refusals_becomes_few_records_that_count_all() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path());
    let audit = open(&config);
    for number in 0..20_000_u32 {
        let what = if number % 2 == 0 { "same".to_owned() } else { number.to_string() };
        audit.refused(event(Kind::Refused, &what));
    }
    audit.close().await;
    let found = search(&config.folder, &Filter { refused: true, ..Filter::default() }, 100_000);
    let records = found.unwrap().records;
    let total: u64 = records.iter().map(|record| record.count.unwrap_or(1)).sum();
    assert_eq!(total, 20_000);
    assert!(records.len() < 2_000, "{} records", records.len());
    whole(&config);
}

/// A small file system in memory; `None` without the right to mount.
struct Small(TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "op-dbus-test"])
            .arg(folder.path())
            .output();
        let mounted = mount.is_ok_and(|mount| mount.status.success());
        if !mounted {
            writeln!(stderr(), "skipped: this user may not mount a small disk").unwrap();
        }
        mounted.then(|| Self(folder))
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut file = File::create(self.0.path().join("filler")).unwrap();
        while file.write_all(&[1; 512]).is_ok() {}
    }

    fn empty(&self) {
        fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

/// Records until the disk is full.
async fn until_full(audit: &Audit, status: &Status) {
    for _ in 0..200 {
        if status.report().warnings.iter().any(|warning| warning.starts_with(WARNING)) {
            return;
        }
        if let Ok(place) = audit.reserve().await {
            audit.record(place, event(Kind::Call, &"x".repeat(200))).await;
        }
    }
    panic!("the disk does not fill");
}

async fn until_written(status: &Status) {
    for _ in 0..200 {
        if status.report().warnings.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the log is not written again: {:?}", status.report().warnings);
}

#[tokio::test]
async fn on_a_full_disk_calls_are_refused_until_there_is_room() {
    let Some(disk) = Small::mount() else { return };
    let status = Arc::new(Status::default());
    let config = Config { file_bytes: 1 << 20, ..config(disk.0.path()) };
    let audit = Audit::open(&config, Arc::clone(&status)).unwrap();
    record(&audit, "before").await;
    disk.fill();
    until_full(&audit, &status).await;
    let error = audit.reserve().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BackendUnavailable, "{error}");
    disk.empty();
    until_written(&status).await;
    record(&audit, "after").await;
    audit.close().await;
    let report = whole(&config);
    assert!(report.notices.is_empty(), "nothing was lost and nothing is torn: {report:?}");
}

#[tokio::test]
async fn on_a_full_disk_calls_go_on_if_wanted_and_what_is_lost_is_counted() {
    let Some(disk) = Small::mount() else { return };
    let status = Arc::new(Status::default());
    let on_failure = OnFailure::Continue;
    let config = Config { file_bytes: 1 << 20, queue: 5, on_failure, ..config(disk.0.path()) };
    let audit = Audit::open(&config, Arc::clone(&status)).unwrap();
    disk.fill();
    until_full(&audit, &status).await;
    for _ in 0..20 {
        let place = audit.reserve().await.unwrap();
        audit.record_soon(place, event(Kind::Call, "while full"));
    }
    disk.empty();
    until_written(&status).await;
    record(&audit, "after").await;
    audit.close().await;
    whole(&config);
    let found = search(&config.folder, &Filter::default(), 10_000).unwrap().records;
    let kept = found.iter().filter(|record| record.operation == "while full").count() as u64;
    let lost: u64 = found
        .iter()
        .filter(|record| record.kind == Kind::Lost)
        .filter_map(|record| record.count)
        .sum();
    assert_eq!(kept + lost, 20, "{kept} kept, {lost} lost");
    assert!(lost >= 15, "the queue has 5 places");
}

proptest! {
    #[test]
    fn whatever_byte_is_changed_it_is_found(at in any::<proptest::sample::Index>(), with in any::<u8>()) {
        let mut lines = Vec::new();
        let mut prev = Hash::NONE;
        for seq in 1..6 {
            prev = Record { seq, prev, agent: "memory".into(), ..Record::default() }.write(&mut lines);
        }
        prop_assert!(Verifier::default().file("f", &lines, false).is_ok());
        let at = at.index(lines.len() - 1);
        prop_assume!(lines[at] != with);
        lines[at] = with;
        prop_assert!(Verifier::default().file("f", &lines, false).is_err());
    }
}
