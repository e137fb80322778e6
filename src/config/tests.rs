//! Every file below `tests/data/config` does what it says, and `etc/grpc.toml` is the truth.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::keys::SECTIONS;
use super::{Loaded, Missing, Problems, load};
use crate::agents::commands::Decision;
use crate::transport::dbus::LegacyName;

fn data(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config").join(folder);
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn load_text(text: &str) -> Result<Loaded, Problems> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grpc.toml");
    fs::write(&path, text).unwrap();
    load(&path, Missing::Refuse)
}

#[test]
fn valid_files_load() {
    for file in data("valid") {
        load(&file, Missing::Refuse).unwrap_or_else(|problems| panic!("{problems}"));
    }
}

#[test]
fn invalid_files_are_refused_with_the_place_and_the_reason() {
    for file in data("invalid") {
        let text = fs::read_to_string(&file).unwrap();
        let expected = text.lines().next().unwrap().trim_start_matches("# ");
        let problems = load(&file, Missing::Refuse).unwrap_err();
        let found = problems.0.iter().any(|problem| {
            problem.to_string().starts_with(&format!("{}:{expected}", file.display()))
        });
        assert!(found, "{}: expected\n{expected}\nin\n{problems}", file.display());
    }
}

#[test]
fn all_wrong_values_are_reported_at_once() {
    let text = "[executor]\nqueue = -1\n[log]\nlevel = \"loud\"\n[grpc]\nunix_mode = \"9\"\n";
    assert_eq!(load_text(text).unwrap_err().0.len(), 3);
}

#[test]
fn older_names_are_served_unless_that_is_switched_off() {
    let legacy = |text: &str| load_text(text).unwrap().settings.dbus.unwrap().legacy;
    assert_eq!(legacy(""), LegacyName::all().collect::<Vec<_>>());
    let some = legacy("[dbus]\nlegacy_names = [\"memory\", \"Memory.main\"]\n");
    let some: Vec<String> = some.iter().map(ToString::to_string).collect();
    assert_eq!(some, ["Memory", "Memory.main"]);
    assert!(legacy("[dbus]\nlegacy = false\n").is_empty());
}

#[test]
fn drop_ins_replace_keys_in_the_order_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grpc.toml");
    let drop_ins = folder.path().join("grpc.toml.d");
    fs::create_dir(&drop_ins).unwrap();
    fs::write(&path, "[executor]\nqueue = 1\nmax_in_flight = 200\n").unwrap();
    fs::write(drop_ins.join("20-b.toml"), "[executor]\nqueue = 3\n").unwrap();
    fs::write(drop_ins.join("10-a.toml"), "[executor]\nqueue = 2\n").unwrap();
    fs::write(drop_ins.join("30-c.toml.bak"), "no toml").unwrap();
    fs::write(drop_ins.join(".#40.toml"), "no toml").unwrap();

    let loaded = load(&path, Missing::Refuse).unwrap();
    assert_eq!(loaded.settings.executor.queue, 3);
    assert_eq!(loaded.settings.executor.max_in_flight, 200);
    let names: Vec<_> =
        loaded.files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["grpc.toml", "10-a.toml", "20-b.toml"]);

    fs::write(drop_ins.join("20-b.toml"), "[executor]\nqueue = -3\n").unwrap();
    let problem = load(&path, Missing::Refuse).unwrap_err().to_string();
    assert!(problem.contains("20-b.toml:2:9: executor.queue: -3"), "{problem}");
}

#[test]
fn a_missing_file_is_refused_only_if_somebody_named_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grpc.toml");
    assert!(load(&path, Missing::UseDefaults).unwrap().files.is_empty());
    let problem = load(&path, Missing::Refuse).unwrap_err().to_string();
    assert!(problem.contains("grpc.toml: the file cannot be read"), "{problem}");
}

#[test]
fn a_file_that_is_no_text_or_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grpc.toml");
    fs::write(&path, [0xff, 0xfe, 0]).unwrap();
    load(&path, Missing::UseDefaults).unwrap_err();
    fs::write(&path, "#".repeat(2 * 1024 * 1024)).unwrap();
    let problem = load(&path, Missing::UseDefaults).unwrap_err().to_string();
    assert!(problem.contains("1048576 bytes"), "{problem}");
}

#[test]
fn a_change_is_a_changed_value_however_it_was_written() {
    let old = load_text("").unwrap();
    let same = load_text("[executor]\nqueue = 1024\n").unwrap();
    assert!(old.changed(&same).is_empty());
    let new = load_text("[executor]\nqueue = 7\n[storage]\npath = \"/srv\"\n").unwrap();
    let names: Vec<_> = old.changed(&new).into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["executor.queue", "storage.path"]);
}

#[test]
fn the_defaults_are_those_of_the_modules() {
    let settings = load_text("").unwrap().settings;
    let expected = crate::executor::Config::default();
    assert_eq!(format!("{:?}", settings.executor), format!("{expected:?}"));
    assert_eq!(settings.log, super::Log::default());
    let expected = crate::agents::Settings::default();
    assert_eq!(format!("{:?}", settings.agent_settings), format!("{expected:?}"));
    assert_eq!(settings.worker_settings, crate::agents::WorkerSettings::default());
}

#[test]
fn rules_for_commands_are_read_in_order() {
    let text = "[[commands.rule]]\ndecision = \"ask\"\nprogram = \"/usr/bin/git\"\n\
                arguments = [\"push\", \"**\"]\n[[commands.rule]]\ndecision = \"deny\"\n";
    let (old, new) = (load_text("").unwrap(), load_text(text).unwrap());
    let rules = &new.settings.worker_settings.commands.rules;
    let decisions: Vec<_> = rules.iter().map(|rule| rule.decision).collect();
    assert_eq!(decisions, [Decision::Ask, Decision::Deny]);
    let changed = old.changed(&new);
    assert_eq!(changed.iter().map(|entry| entry.name).collect::<Vec<_>>(), ["commands.rule"]);
    assert!(changed[0].value.contains("git"), "{changed:?}");
    for (text, problem) in [
        ("[[commands.rule]]\ndecision = \"perhaps\"\n", "perhaps"),
        (
            "[[commands.rule]]\ndecision = \"deny\"\nprogramm = \"/bin/ls\"\n",
            "3:1: commands.rule.programm: there is no such key",
        ),
        ("[[commands.rule]]\ndecision = \"deny\"\nprogram = \"ls\"\n", "no absolute path"),
        ("[commands]\nprofiles = [\"exec\", \"all\"]\n", "no profile"),
        ("[commands]\nwall_ms = 5\nmax_wall_ms = 4\n", "more than"),
    ] {
        let told = load_text(text).unwrap_err().to_string();
        assert!(told.contains(problem), "{told}");
    }
}

/// `etc/grpc.toml` with its `#key = value` lines turned into values.
fn shipped_with_values() -> String {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/grpc.toml")).unwrap();
    text.lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest.to_owned(),
            _ => line.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_shipped_file_shows_every_key_with_its_default() {
    let shipped = load_text(&shipped_with_values()).unwrap_or_else(|problems| panic!("{problems}"));
    let defaults = load_text("").unwrap();
    let changed: Vec<_> = defaults.changed(&shipped).into_iter().map(|entry| entry.name).collect();
    assert!(changed.is_empty(), "etc/grpc.toml shows another default for {changed:?}");

    let shown: BTreeSet<_> = shipped
        .entries
        .iter()
        .filter(|entry| entry.origin.is_some())
        .map(|entry| entry.name.to_owned())
        .collect();
    let known: BTreeSet<_> = SECTIONS
        .iter()
        .flat_map(|(section, keys)| keys.iter().map(move |key| format!("{section}.{key}")))
        .collect();
    assert_eq!(shown, known);
}

#[test]
fn the_shipped_file_changes_nothing_as_it_is() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/grpc.toml"));
    let loaded = load_text(&text.unwrap()).unwrap();
    assert!(loaded.entries.iter().all(|entry| entry.origin.is_none()));
}
