//! Tokens and TLS of the real daemon, by op-dbusctl: from the configuration to a call, and what a
//! reload takes up or refuses.

use std::fs;
use std::path::Path;
use std::process::Output;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::ctl::{command, stderr, stdout};
use crate::grpc::callers::free_port;
use crate::grpc::certificates::{Authority, write};
use crate::process::{Daemon, Prepared};

/// A token with its lines for the configuration.
pub fn new_token(name: &str, more: &[&str]) -> (String, String) {
    let output = command().args(["token", "new", name, "--user", "4711"]).args(more).output();
    let text = stdout(&output.unwrap());
    let token = text.lines().find(|line| line.starts_with("opdbus_")).unwrap().to_owned();
    let lines = &text[text.find("[[grpc.token]]").unwrap()..];
    (token, lines.to_owned())
}

/// A call over gRPC at `address`.
pub fn call(address: &str, options: &[&str], words: &[&str]) -> Output {
    command().args(["--address", address]).args(options).args(words).output().unwrap()
}

pub fn reload(daemon: &Daemon, config: &str) -> String {
    daemon.write_config(config);
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("RELOADING=1");
    daemon.wait_for("READY=1")
}

pub const REMEMBER: [&str; 5] = ["call", "memory", "remember", "key=k", "value=one"];
pub const RECALL: [&str; 4] = ["call", "memory", "recall", "key=k"];

#[test]
fn a_token_works_from_the_configuration_until_it_is_taken_out() {
    let folder = tempfile::tempdir().unwrap();
    let (token, lines) = new_token("ci", &["--expires", "90d"]);
    let (reader, reader_lines) = new_token("reader", &["--risk", "read"]);
    let both = format!("{lines}\n{reader_lines}");
    let daemon = Daemon::start(&both);
    let address = format!("unix:{}", daemon.grpc_socket().display());
    let path = write(folder.path(), "token", &format!("{token}\n")).display().to_string();
    let with = ["--token-file", path.as_str()];
    assert!(call(&address, &with, &REMEMBER).status.success());
    let found = call(&address, &["--token-file", &path, "--json"], &RECALL);
    let found: Value = serde_json::from_str(&stdout(&found)).unwrap();
    assert_eq!(found["value"], "one");
    let own = call(&address, &[], &RECALL);
    assert!(stderr(&own).contains("NOT_FOUND"), "the user himself has no such key: {own:?}");

    let reader = write(folder.path(), "reader", &reader).display().to_string();
    assert!(call(&address, &["--token-file", &reader], &RECALL).status.success());
    let refused = call(&address, &["--token-file", &reader], &REMEMBER);
    assert!(stderr(&refused).contains("token reader is not for memory.Remember"), "{refused:?}");

    let ready = reload(&daemon, &reader_lines);
    assert!(!ready.contains("warnings"), "no restart is needed: {ready}");
    let refused = call(&address, &with, &RECALL);
    assert!(stderr(&refused).contains("UNAUTHENTICATED"), "{refused:?}");
    assert!(call(&address, &["--token-file", &reader], &RECALL).status.success());
    let log = daemon.stop();
    for secret in [&token, &fs::read_to_string(&reader).unwrap()] {
        let secret = secret.splitn(3, '_').nth(2).unwrap().trim();
        assert!(secret.len() == 43 && !log.contains(secret), "{log}");
    }
}

#[test]
fn tokens_in_a_file_of_their_own_or_a_credential_count_too() {
    let folder = tempfile::tempdir().unwrap();
    let (token, lines) = new_token("ci", &[]);
    write(folder.path(), "tokens", &lines.replace("[[grpc.token]]", "[[token]]"));
    let config = "[grpc]\ntoken_file = \"credential:tokens\"\n";
    let prepared = Prepared::new(config)
        .environment("CREDENTIALS_DIRECTORY", folder.path().display().to_string());
    let daemon = prepared.start();
    let address = format!("unix:{}", daemon.grpc_socket().display());
    let path = write(folder.path(), "token", &token).display().to_string();
    let with = ["--token-file", path.as_str()];
    assert!(call(&address, &with, &REMEMBER).status.success());
    let refused = reload(&daemon, &format!("{config}\n{lines}"));
    assert!(refused.contains("the last reload was refused"), "named twice: {refused}");
    daemon.wait_for_log("token \"ci\" is there twice");
    assert!(call(&address, &with, &REMEMBER).status.success(), "the old ones stay in force");
    daemon.stop();
}

#[test]
fn tls_is_served_and_a_reload_with_a_broken_key_leaves_it_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let authority = Authority::new();
    let [certificate, key] = authority.server().write(folder, "server");
    let ca = write(folder, "ca.pem", &authority.pem()).display().to_string();
    let own = authority.issue(&["spiffe://example.org/chat"], |_| {}).write(folder, "own");
    let [own, own_key] = own.map(|path| path.display().to_string());
    let port = free_port("127.0.0.1");
    let config = |key: &Path| {
        format!(
            "[tls]\nlisten = \"127.0.0.1:{port}\"\ncertificate = {certificate:?}\nkey = {key:?}\n\
             client_ca = {ca:?}\n[[tls.client]]\nuri = \"spiffe://example.org/*\"\nuser = \"4711\"\n"
        )
    };
    let daemon = Daemon::start(&config(&key));
    let address = format!("https://127.0.0.1:{port}");
    let with = ["--ca", &ca, "--cert", &own, "--key", &own_key];
    let done = call(&address, &with, &REMEMBER);
    assert!(done.status.success(), "{done:?}");
    let unknown = call(&address, &["--ca", &ca], &RECALL);
    let told = ["CertificateRequired", "the client's certificate"];
    assert!(told.iter().any(|text| stderr(&unknown).contains(text)), "{unknown:?}");
    let unrooted = call(&address, &[], &RECALL);
    assert!(stderr(&unrooted).contains("--ca"), "{unrooted:?}");

    let [_, other] = authority.server().write(folder, "other");
    let ready = reload(&daemon, &config(&other));
    assert!(ready.contains("the last reload was refused"), "{ready}");
    daemon.wait_for_log("does not belong to tls.certificate");
    let status = call(&address, &with, &["status"]);
    assert!(stdout(&status).contains("does not belong to tls.certificate"), "{status:?}");
    assert!(call(&address, &with, &RECALL).status.success(), "the old key serves on");

    // A renewed certificate in the same files.
    authority.server().write(folder, "server");
    let ready = reload(&daemon, &config(&key));
    assert!(!ready.contains("refused") && !ready.contains("warnings"), "{ready}");
    assert!(call(&address, &with, &RECALL).status.success());
    daemon.stop();
}

#[test]
fn revoked_certificates_are_taken_up_by_a_reload_unless_a_list_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let authority = Authority::new();
    let [certificate, key] = authority.server().write(folder, "server");
    let ca = write(folder, "ca.pem", &authority.pem()).display().to_string();
    let own = authority.issue(&["spiffe://example.org/chat"], |params| {
        params.serial_number = Some(7_u64.into());
    });
    let [own, own_key] = own.write(folder, "own").map(|path| path.display().to_string());
    let port = free_port("127.0.0.1");
    let list = write(folder, "revoked.pem", &authority.revoke(&[], 2040));
    let config = format!(
        "[tls]\nlisten = \"127.0.0.1:{port}\"\ncertificate = {certificate:?}\nkey = {key:?}\n\
         client_ca = {ca:?}\nclient_crls = [{list:?}]\n\
         [[tls.client]]\nuri = \"spiffe://example.org/*\"\nuser = \"4711\"\n"
    );
    let daemon = Daemon::start(&config);
    let address = format!("https://127.0.0.1:{port}");
    let with = ["--ca", &ca, "--cert", &own, "--key", &own_key];
    assert!(call(&address, &with, &REMEMBER).status.success());

    write(folder, "revoked.pem", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
    let ready = reload(&daemon, &config);
    assert!(ready.contains("the last reload was refused"), "{ready}");
    daemon.wait_for_log("tls.client_crls");
    assert!(call(&address, &with, &RECALL).status.success(), "the old list stays in force");

    write(folder, "revoked.pem", &authority.revoke(&[7], 2040));
    let ready = reload(&daemon, &config);
    assert!(!ready.contains("refused") && !ready.contains("warnings"), "{ready}");
    let refused = call(&address, &with, &RECALL);
    assert!(!refused.status.success(), "{refused:?}");
    daemon.stop();
}

#[test]
fn the_check_of_a_configuration_looks_into_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let [certificate, _] = authority.server().write(folder.path(), "server");
    let [_, key] = authority.server().write(folder.path(), "other");
    let config = format!(
        "[tls]\nlisten = \"127.0.0.1:1\"\ncertificate = {certificate:?}\nkey = {key:?}\n\
         client_certificates = \"optional\"\n"
    );
    let prepared = Prepared::new(&config);
    let file = prepared.folder.path().join("grpc.toml").display().to_string();
    let (code, _, errors) = prepared.arguments(&["--check-config", "--config", &file]).run();
    assert_eq!(code, 78, "{errors}");
    assert!(errors.contains("does not belong to tls.certificate"), "{errors}");
    let (code, _, errors) = Prepared::new(&config).run();
    assert_eq!(code, 78, "{errors}");
}
