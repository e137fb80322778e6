//! Rules of the real daemon about tokens, certificates and login sessions: what they refuse and record,
//! what op-dbusctl says of them, and that none of them names what is not configured.

use std::path::Path;

use nix::unistd::getuid;
use serde_json::{Value, json};

use crate::audit::{done, records};
use crate::ctl::stderr;
use crate::daemon_access::{RECALL, REMEMBER, call, new_token, reload};
use crate::grpc::callers::free_port;
use crate::grpc::certificates::{Authority, write};
use crate::process::{Daemon, Prepared};

/// Rules that refuse to remember, each to one kind of caller.
fn rules() -> String {
    let rule = |who: &str| {
        format!(
            "[[policy]]\n{who}\nagents = [\"memory\"]\noperations = [\"remember\"]\n\
             decision = \"deny\"\nreason = {who:?}\n"
        )
    };
    let own = format!("users = [\"{}\"]", getuid());
    rule("tokens = [\"ci\"]")
        + &rule("certificates = [\"spiffe://example.org/ci/*\"]")
        + &rule("users = [\"4711\"]\nlogin_sessions = [\"remote\", \"background\"]")
        + &format!("[[policy]]\n{own}\ndecision = \"allow\"\n")
}

/// What refused the last call that the audit log has.
fn last_refusal(config: &Path) -> Value {
    let refused = records(config, &["--refused"]);
    refused.into_iter().max_by_key(|record| record["seq"].as_u64()).unwrap()
}

#[test]
fn rules_about_tokens_and_certificates_hold_for_those_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let authority = Authority::new();
    let [certificate, key] = authority.server().write(folder, "server");
    let ca = write(folder, "ca.pem", &authority.pem()).display().to_string();
    let (ci, ci_lines) = new_token("ci", &[]);
    let (other, other_lines) = new_token("other", &[]);
    let [ci, other] = [("ci", ci), ("other", other)]
        .map(|(name, token)| write(folder, name, &token).display().to_string());
    let port = free_port("127.0.0.1");
    let tls = format!(
        "[tls]\nlisten = \"127.0.0.1:{port}\"\ncertificate = {certificate:?}\nkey = {key:?}\n\
         client_ca = {ca:?}\n[[tls.client]]\nuri = \"spiffe://example.org/*\"\nuser = \"4711\"\n"
    );
    let daemon = Daemon::start(&format!("{}{ci_lines}{other_lines}{tls}", rules()));
    let socket = format!("unix:{}", daemon.grpc_socket().display());
    let address = format!("https://127.0.0.1:{port}");
    let config = daemon.folder.path().join("grpc.toml");

    let refused = call(&socket, &["--token-file", &ci], &REMEMBER);
    assert!(stderr(&refused).contains("memory.Remember is not allowed"), "{refused:?}");
    let record = last_refusal(&config);
    let rule = record["rule"].as_str().unwrap();
    assert!(rule.contains("token ci: agent memory, operation remember: deny"), "{record}");
    // The same user by another way, also where a rule asks for a login session, which a token has not.
    assert!(call(&socket, &["--token-file", &other], &REMEMBER).status.success());
    assert!(call(&socket, &["--token-file", &ci], &RECALL).status.success());

    for (name, is_refused) in [("ci/nightly", true), ("chat", false)] {
        let own = authority.issue(&[&format!("spiffe://example.org/{name}")], |_| {});
        let [own, own_key] = own.write(folder, "own").map(|path| path.display().to_string());
        let with = ["--ca", &ca, "--cert", &own, "--key", &own_key];
        let output = call(&address, &with, &REMEMBER);
        assert_eq!(output.status.success(), !is_refused, "{name}: {output:?}");
    }
    let record = last_refusal(&config);
    let rule = record["rule"].as_str().unwrap();
    assert!(rule.contains("certificate spiffe://example.org/ci/*"), "{record}");
    for via in ["grpc", "dbus"] {
        // Who has neither.
        done(&config, &[&["--via", via], &REMEMBER[..]].concat(), "");
    }
    told(&config);
    daemon.stop();
}

/// What op-dbusctl says of the rules.
fn told(config: &Path) {
    for via in ["grpc", "dbus"] {
        let run = |words: &[&str]| done(config, &[&["--via", via], words].concat(), "");
        let shown = run(&["policy", "show"]);
        for who in [
            "token ci",
            "certificate spiffe://example.org/ci/*",
            "user 4711 (4711) in login session remote or background",
        ] {
            assert!(shown.contains(who), "{who} over {via}: {shown}");
        }
        let explain = ["policy", "explain", "4711", "memory", "remember"];
        for (by, decision) in [
            (["--by-token", "ci"], "deny"),
            (["--by-token", "other"], "allow"),
            (["--by-certificate", "spiffe://example.org/ci/x"], "deny"),
            (["--login-session", "remote"], "deny"),
            (["--login-session", "graphical"], "allow"),
        ] {
            let text = run(&[&explain[..], &by].concat());
            let first = format!("memory.Remember for uid 4711: {decision}\n");
            assert!(text.starts_with(&first), "{by:?} over {via}: {text}");
        }
        let text = run(&[&explain[..], &["--login-session", "remote"]].concat());
        assert!(
            text.lines().any(|line| line.starts_with("login session") && line.ends_with(" remote")),
            "{text}"
        );
        let json = run(&[&["--json"], &explain[..], &["--login-session", "remote"]].concat());
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["explanation"]["login_session"], json!("LOGIN_SESSION_REMOTE"));
    }
}

#[test]
fn a_rule_that_names_what_there_is_not_is_refused_also_after_a_reload() {
    let (_, lines) = new_token("ci", &[]);
    let rule = |who: &str| format!("[[policy]]\n{who}\ndecision = \"deny\"\n");
    for (who, problem) in [
        ("tokens = [\"co\"]", "tokens: there is no [[grpc.token]] \"co\""),
        ("tokens = []", "tokens: names nothing"),
        (
            "certificates = [\"spiffe://example.org/x\"]",
            "no client of [[tls.client]] is known as \"spiffe://example.org/x\"",
        ),
        ("certificates = [\"*.example.org\"]", "\"*.example.org\" must be one name"),
        (
            "login_sessions = [\"ssh\"]",
            "login_sessions: \"ssh\" is none of \"graphical\", \"terminal\", \"remote\", \
             \"user-manager\", \"background\", \"unknown\"",
        ),
    ] {
        let (code, _, errors) = Prepared::new(&format!("{}{lines}", rule(who))).run();
        assert_eq!(code, 78, "{errors}");
        assert!(errors.contains(problem), "{who}: {errors}");
        assert!(errors.contains("test.toml:1:") || errors.contains(".toml:1"), "{errors}");
    }

    let daemon = Daemon::start(&format!("{}{lines}", rule("tokens = [\"ci\"]")));
    let ready = reload(&daemon, &rule("tokens = [\"ci\"]"));
    assert!(ready.contains("the last reload was refused"), "{ready}");
    daemon.wait_for_log("tokens: there is no [[grpc.token]] \"ci\"");
    let ready = reload(&daemon, &lines);
    assert!(!ready.contains("refused"), "without the rule neither: {ready}");
    daemon.stop();
}
