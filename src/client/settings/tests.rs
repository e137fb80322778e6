//! What the files and the environment say, which of them counts, and what is refused by name.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;

fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn refused(pairs: &[(&str, &str)]) -> SettingsError {
    Settings::default().read_variables(variables(pairs)).unwrap_err()
}

fn targets(settings: &Settings) -> Vec<String> {
    settings.targets().iter().map(ToString::to_string).collect()
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_environment_counts_before_the_files_and_those_before_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    let default = ["gRPC at unix:/run/op-dbus/grpc.sock", "org.opdbus.Agents1 on the system bus"];
    assert_eq!(targets(&settings), default);

    let published = "[client]\naddress = \"http://127.0.0.1:50051\"\nconnect_timeout_ms = 1000\n\
        request_timeout_ms = 2000\nmax_retries = 4\npool_connections = false\n\
        [grpc]\nunix = \"/a.sock\"\n[agents]\nrun_on_connection = [\"memory\"]\n";
    let file = write(folder.path(), "grpc.toml", published);
    write(
        folder.path(),
        "grpc.toml.d/10.toml",
        "[client]\nmax_retries = 5\n[dbus]\nbus = \"session\"\nname = \"org.example.X\"\n\
         [grpc]\nunix = \"/b.sock\"\n",
    );
    settings.read_file(&file).unwrap();
    assert_eq!(
        targets(&settings),
        [
            "gRPC at http://127.0.0.1:50051",
            "gRPC at unix:/b.sock",
            "org.example.X on the session bus"
        ]
    );
    assert_eq!(settings.connect_timeout, Duration::from_secs(1));
    assert_eq!(settings.request_timeout, Duration::from_secs(2));
    assert_eq!((settings.max_retries, settings.pool_connections), (5, false));

    let environment = variables(&[
        ("OP_DBUS_ADDRESS", "/c.sock"),
        ("OP_DBUS_VIA", "grpc"),
        ("OP_DBUS_TIMEOUT_MS", "3000"),
        ("OP_DBUS_CONNECT_TIMEOUT_MS", "4"),
        ("OP_DBUS_MAX_RETRIES", "0"),
        ("OP_DBUS_POOL_CONNECTIONS", "true"),
        ("OP_DBUS_CLIENT_NAME", "op-chat"),
        ("OP_DBUS_SESSION", "work"),
        ("OP_DBUS_BUS", ""),
        ("HOME", "/root"),
    ]);
    settings.read_variables(environment).unwrap();
    assert_eq!(targets(&settings), ["gRPC at unix:/c.sock"]);
    assert_eq!(settings.request_timeout, Duration::from_secs(3));
    assert_eq!(settings.connect_timeout, Duration::from_millis(4));
    assert_eq!((settings.max_retries, settings.pool_connections), (0, true));
    assert_eq!(settings.client_name.as_deref(), Some("op-chat"));
    assert_eq!(settings.session.as_deref(), Some("work"));
    assert_eq!(settings.bus, Bus::Session, "an empty variable says nothing");
}

#[test]
fn each_way_has_its_name() {
    for (via, expected) in [
        ("dbus", "org.opdbus.Agents1 on the system bus"),
        ("legacy", "the older names on the system bus"),
        ("grpc", "gRPC at unix:/run/op-dbus/grpc.sock"),
    ] {
        let mut settings = Settings::default();
        settings.read_variables(variables(&[("OP_DBUS_VIA", via)])).unwrap();
        assert_eq!(targets(&settings), [expected]);
    }
}

#[test]
fn a_variable_that_makes_no_sense_is_named() {
    for (name, value) in [
        ("OP_DBUS_VIA", "carrier-pigeon"),
        ("OP_DBUS_ADDRESS", "ftp://x"),
        ("OP_DBUS_BUS", "sytsem"),
        ("OP_DBUS_TIMEOUT_MS", "0"),
        ("OP_DBUS_TIMEOUT_MS", "soon"),
        ("OP_DBUS_CONNECT_TIMEOUT_MS", "600001"),
        ("OP_DBUS_MAX_RETRIES", "101"),
        ("OP_DBUS_POOL_CONNECTIONS", "yes"),
        ("OP_DBUS_CLIENT_NAME", "two words"),
        ("OP_DBUS_TOKEN_FILE", "/nonexistent/token"),
        ("OP_DBUS_CERT", "/nonexistent/cert"),
        ("OP_DBUS_ADRESS", "/run/x.sock"),
    ] {
        let error = refused(&[(name, value)]);
        assert_eq!(error.place, name, "{error}");
    }
    assert!(refused(&[("OP_DBUS_ADRESS", "x")]).problem.contains("OP_DBUS_ADDRESS"));
    let folder = tempfile::tempdir().unwrap();
    let certificate = write(folder.path(), "cert.pem", "x");
    let error = refused(&[("OP_DBUS_CERT", certificate.to_str().unwrap())]);
    assert_eq!(error.to_string(), "OP_DBUS_CERT: needs OP_DBUS_KEY");
}

#[test]
fn a_key_that_makes_no_sense_is_named_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    for (text, place) in [
        ("[client]\naddress = \"nowhere\"", "client.address"),
        ("[client]\nrequest_timeout_ms = 0", "client.request_timeout_ms"),
        ("[client]\nconnect_timeout_ms = \"5\"", "client.connect_timeout_ms"),
        ("[client]\nmax_retries = -1", "client.max_retries"),
        ("[client]\npool_connections = 1", "client.pool_connections"),
        ("[client]\nadress = \"x\"", "client.adress"),
        ("[dbus]\nbus = \"x\"", "dbus.bus"),
    ] {
        let file = write(folder.path(), "grpc.toml", text);
        let error = Settings::default().read_file(&file).unwrap_err();
        assert_eq!(error.place, format!("{}: {place}", file.display()), "{text}");
    }
    let file = write(folder.path(), "grpc.toml", "no toml");
    assert_eq!(Settings::default().read_file(&file).unwrap_err().place, file.display().to_string());
    let missing = folder.path().join("missing.toml");
    let error = Settings::default().read_file(&missing).unwrap_err();
    assert!(error.problem.contains("cannot be read"), "{error}");
}

#[test]
fn every_variable_is_in_the_table_and_taken() {
    let docs = include_str!("mod.rs");
    for name in VARIABLES {
        assert!(docs.contains(&format!("`{name}`")), "{name} is not explained");
        let outcome = Settings::default().read_variables(variables(&[(name, "\u{1}")]));
        if let Err(error) = outcome {
            assert!(!error.problem.contains("is not known"), "{error}");
        }
    }
}
