//! The library alone: what feature `client` pulls in, and that nothing of it is the daemon's.

use std::collections::BTreeSet;
use std::process::Command;

/// Every crate that the library alone may depend on.
const ALLOWED: [&str; 18] = [
    "bytes",
    "futures-util",
    "h2",
    "http",
    "http-body",
    "hyper-util",
    "prost",
    "prost-reflect",
    "prost-types",
    "ring",
    "serde",
    "serde_json",
    "tokio",
    "tokio-rustls",
    "toml",
    "tonic",
    "tonic-types",
    "zbus",
];

/// Crates of the daemon, which the library must not pull in by way of others either.
const DAEMONS: [&str; 12] = [
    "axum",
    "caps",
    "clap",
    "governor",
    "jsonschema",
    "landlock",
    "prometheus",
    "regex",
    "rusqlite",
    "seccompiler",
    "tracing-subscriber",
    "x509-cert",
];

fn tree(arguments: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--offline", "--locked", "-e", "normal", "--prefix", "none"])
        .args(["--no-default-features", "--features", "client", "-f", "{p}"])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    text.lines().map(name).filter(|name| !name.is_empty() && name != "op-dbus").collect()
}

#[test]
fn the_library_alone_has_few_dependencies_and_none_of_the_daemons() {
    let direct = tree(&["--depth", "1"]);
    let allowed: BTreeSet<String> = ALLOWED.map(str::to_owned).into();
    assert_eq!(direct, allowed, "the list says exactly what there is");
    let all = tree(&[]);
    assert!(all.len() > ALLOWED.len(), "{all:?}");
    for name in DAEMONS {
        assert!(!all.contains(name), "{name} is pulled in by another crate");
    }
}
