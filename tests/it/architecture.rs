//! Reads the source tree and fails on an import that runs the wrong way, a file that is too long or
//! does not say what it is for, and a module that is named for nothing. It builds and runs nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Fewer files than this mean that the test looks at the wrong place.
const FILES_MIN: usize = 35;
const LINES_MAX: usize = 500;
const NAMES_FOR_NOTHING: [&str; 8] =
    ["common", "helper", "helpers", "manager", "misc", "shared", "util", "utils"];

/// Each module, and the modules of this crate that it may import. A file belongs to the module with
/// the longest name that its path begins with.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("bin", &["ctl", "daemon"]),
    ("daemon", EVERYTHING_BELOW_DAEMON),
    (
        "config",
        &[
            "agents",
            "call",
            "audit",
            "client",
            "error",
            "exec",
            "executor",
            "files",
            "host",
            "migration",
            "polkit",
            "session",
            "storage",
            "task",
            "transport::dbus",
            "transport::grpc",
        ],
    ),
    ("transport", &[]),
    ("transport::dbus", BELOW_DBUS),
    ("transport::grpc", BELOW_TRANSPORT),
    (
        "executor",
        &[
            "audit", "call", "contract", "error", "events", "host", "metrics", "proto", "registry",
            "session", "task",
        ],
    ),
    (
        "migration",
        &[
            "audit", "call", "contract", "error", "events", "executor", "metrics", "proto",
            "status", "storage",
        ],
    ),
    ("polkit", &["contract", "error", "executor", "proto"]),
    ("audit", &["call", "contract", "error", "events", "proto", "status"]),
    ("compat", &["call", "contract", "error", "executor", "metrics", "proto", "session", "task"]),
    ("session", BELOW_SESSION),
    ("task", BELOW_TASK),
    ("registry", &["call", "contract", "error", "events", "host", "metrics", "proto", "status"]),
    (
        "host",
        &[
            "agents", "call", "contract", "error", "events", "exec", "metrics", "process", "proto",
            "wire",
        ],
    ),
    // The process at the other end of a worker's socket.
    ("worker", &["agents", "call", "contract", "error", "proto", "wire"]),
    ("exec", &["error", "events"]),
    // For each agent further down: itself, and what is listed here.
    ("agents", BELOW_AGENTS),
    ("testing", BELOW_AGENTS),
    ("process", &["call", "error", "events"]),
    ("storage", &["error", "events", "metrics", "status"]),
    ("contract", &["call", "error", "proto"]),
    ("metrics", &["call", "error"]),
    ("status", &["call", "proto"]),
    ("wire", &["call", "contract", "error"]),
    ("events", &["call", "error"]),
    ("call", &["error", "proto"]),
    ("error", &[]),
    ("files", &[]),
    ("proto", &[]),
    // The side of the client, which uses neither the daemon nor what stands behind it.
    ("client", &["contract", "error", "files", "proto", "wire"]),
    ("ctl", &["audit", "call", "client", "config", "contract", "error", "files", "proto", "wire"]),
];

const EVERYTHING_BELOW_DAEMON: &[&str] = &[
    "agents",
    "audit",
    "call",
    "compat",
    "config",
    "contract",
    "error",
    "events",
    "exec",
    "executor",
    "host",
    "metrics",
    "migration",
    "polkit",
    "process",
    "proto",
    "registry",
    "session",
    "status",
    "storage",
    "task",
    "transport::dbus",
    "transport::grpc",
    "worker",
];
const BELOW_TRANSPORT: &[&str] = &[
    "call", "contract", "error", "events", "executor", "metrics", "proto", "registry", "session",
    "status", "task", "wire",
];
/// The older D-Bus agents have no service of their own by which they could be reached.
const BELOW_DBUS: &[&str] = &[
    "call", "compat", "contract", "error", "events", "executor", "metrics", "proto", "registry",
    "session", "status", "task", "wire",
];
const BELOW_SESSION: &[&str] = &[
    "call", "contract", "error", "events", "host", "metrics", "proto", "registry", "status",
    "storage",
];
const BELOW_TASK: &[&str] =
    &["call", "contract", "error", "events", "metrics", "proto", "status", "storage"];
const BELOW_AGENTS: &[&str] = &[
    "call", "contract", "error", "events", "metrics", "process", "proto", "status", "storage",
    "testing",
];

struct Source {
    path: PathBuf,
    /// As `transport::dbus::writer`; the same for a module and the `mod.rs` of its folder.
    module: String,
    text: String,
}

#[test]
fn every_import_runs_downwards() {
    let mut wrong = Vec::new();
    let mut imports = 0;
    for source in sources() {
        // What tests build, they may take from anywhere.
        if source.module.split("::").any(|part| part == "tests") {
            continue;
        }
        for import in imports_of(&source) {
            imports += 1;
            if !may_import(&source.module, &import) {
                wrong.push(format!(
                    "{}: {} imports {import}",
                    source.path.display(),
                    source.module
                ));
            }
        }
    }
    assert!(imports > 100, "only {imports} imports were found");
    assert!(wrong.is_empty(), "imports that run the wrong way:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_is_in_the_table() {
    let modules: BTreeSet<_> =
        sources().iter().map(|source| room(&source.module).map(str::to_owned)).collect();
    assert!(!modules.contains(&None), "a module of src/ is missing in MAY_IMPORT");
}

#[test]
fn the_direction_test_sees_what_it_must_see() {
    for (module, import, allowed) in [
        ("transport::dbus::call", "executor::Executor", true),
        ("transport::dbus::call", "transport::grpc::Config", false),
        ("transport::grpc", "agents::memory", false),
        ("transport::grpc", "config::Settings", false),
        ("agents::memory::store", "agents::memory::quota", true),
        ("agents::memory::store", "agents::Setup", true),
        ("agents::memory::store", "agents::files::Root", false),
        ("agents::memory", "executor::Executor", false),
        ("executor", "transport::dbus", false),
        ("error", "call::Caller", false),
        ("client::grpc", "daemon::run", false),
    ] {
        assert_eq!(may_import(module, import), allowed, "{module} imports {import}");
    }
    let source = Source {
        path: PathBuf::new(),
        module: "host::local".to_owned(),
        text: "use super::super::agents::memory; use super::Host;\n\
               use crate::{call::Context, metrics::{Metrics, Stage}};\n    crate::executor::run();\n\
               // crate::daemon in a comment\npub(in crate::config) struct X;"
            .to_owned(),
    };
    let expected = [
        "agents::memory",
        "call::Context",
        "executor::run",
        "host::Host",
        "metrics::Metrics",
        "metrics::Stage",
    ];
    assert_eq!(imports_of(&source).iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn every_file_says_what_it_is_for_and_is_short() {
    let mut wrong = Vec::new();
    for source in sources() {
        let path = source.path.display();
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{path} has {lines} lines, more than {LINES_MAX}"));
        }
        if !source.text.starts_with("//! ") {
            wrong.push(format!("{path} does not open with //! and its role"));
        }
        for part in source.module.split("::") {
            if NAMES_FOR_NOTHING.contains(&part) {
                wrong.push(format!("{path} is named {part}, which says nothing"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The files of `src/`, sorted.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    collect(&root, &root, &mut sources);
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() >= FILES_MIN, "only {} files were found", sources.len());
    sources
}

fn collect(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let inside = path.strip_prefix(root).unwrap().with_extension("");
            let module = inside.to_str().unwrap().replace('/', "::");
            sources.push(Source {
                module: module.strip_suffix("::mod").unwrap_or(&module).to_owned(),
                text: fs::read_to_string(&path).unwrap(),
                path: path.strip_prefix(root.parent().unwrap()).unwrap().to_owned(),
            });
        }
    }
}

/// Everything of this crate that a file names by a path from the crate or from a module above, sorted:
/// as `call::Context`.
fn imports_of(source: &Source) -> BTreeSet<String> {
    // What tests build, they may take from anywhere.
    let text = source.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let code: String = text
        .lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code))
        .collect::<Vec<_>>()
        .join("\n");
    let own = if source.module.starts_with("bin") { "op_dbus::" } else { "crate::" };
    let mut found = BTreeSet::new();
    for (start, _) in code.match_indices(own) {
        // `pub(in crate::config)` widens nothing.
        if !code[..start].ends_with("in ") {
            expand("", &code[start + own.len()..], &mut found);
        }
    }
    for (start, _) in code.match_indices("super::") {
        let before = code[..start].trim_end_matches("super::");
        if before.len() == start && !before.ends_with("in ") {
            let rest = code[start..].trim_start_matches("super::");
            let levels = (code.len() - start - rest.len()) / "super::".len();
            let parts: Vec<_> = source.module.split("::").collect();
            expand(&parts[..parts.len().saturating_sub(levels)].join("::"), rest, &mut found);
        }
    }
    found
}

/// Follows one path, and each path of a group in braces; gives what follows it.
fn expand<'a>(prefix: &str, text: &'a str, found: &mut BTreeSet<String>) -> &'a str {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    if let Some(rest) = rest.strip_prefix("::") {
        return expand(&path, rest, found);
    }
    let Some(mut rest) = text.strip_prefix('{') else {
        // `self` in a group is the module itself, `*` all of it.
        let path = if matches!(name, "self" | "") { prefix.to_owned() } else { path };
        // The top of the crate: only what the macros of the crate could name.
        if path.contains("::") || room(&path).is_some() {
            found.insert(path);
        }
        return rest.strip_prefix('*').unwrap_or(rest);
    };
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return after;
        }
        let after = expand(prefix, rest, found).trim_start();
        let after = after.strip_prefix(',').unwrap_or(after);
        assert!(after.len() < rest.len(), "a group of imports cannot be read: {rest:.80}");
        rest = after;
    }
}

/// The entry of the table that a module or path belongs to.
fn room(path: &str) -> Option<&'static str> {
    if matches!(path, "lib" | "main") {
        return Some("lib");
    }
    MAY_IMPORT
        .iter()
        .map(|(module, _)| *module)
        .filter(|module| is_within(path, module))
        .max_by_key(|module| module.len())
}

fn may_import(module: &str, import: &str) -> bool {
    let (Some(from), Some(to)) = (room(module), room(import)) else { return false };
    if from == "lib" {
        return true;
    }
    if from == "agents" && to == "agents" {
        // Agents know their own folder and what `agents/mod.rs` itself defines, no other agent.
        let folder = |path: &str| path.split("::").nth(1).map(str::to_owned);
        let names_an_agent = folder(import)
            .is_some_and(|name| name.starts_with(|first: char| first.is_ascii_lowercase()));
        return !names_an_agent || module == "agents" || folder(module) == folder(import);
    }
    from == to || MAY_IMPORT.iter().any(|(name, allowed)| *name == from && allowed.contains(&to))
}

fn is_within(path: &str, module: &str) -> bool {
    path == module || path.strip_prefix(module).is_some_and(|rest| rest.starts_with("::"))
}

/// By this number in its header a file is known to be the database that it is named as.
#[test]
fn every_database_has_an_id_of_its_own() {
    let mut ids = BTreeSet::new();
    for source in sources() {
        if source.module.split("::").any(|part| part == "tests") {
            continue;
        }
        for rest in source.text.split("application_id: 0x").skip(1) {
            let digits = rest.split(|it: char| !it.is_ascii_hexdigit() && it != '_').next();
            let id = digits.unwrap_or_default().replace('_', "");
            let id = u32::from_str_radix(&id, 16).unwrap_or_else(|error| panic!("{id}: {error}"));
            assert!(ids.insert(id), "{} has the id {id:#x} of another", source.path.display());
        }
    }
    assert!(ids.len() >= 8, "only {} databases were found", ids.len());
}
