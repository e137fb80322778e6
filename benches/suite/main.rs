//! The benchmark suite: each figure of op-dbus beside a peer's from the same run, as a table.
//!
//! `cargo bench` runs all of it; `cargo bench -- NAME` one part (`grpc`, `client`, `stream`,
//! `connections`, `sessions`, `watchers`, `dbus`, `descriptor`, `store`, `workers`, `programs`, `commands`,
//! `shadow`, `start`, `record`, `audit`, `ledger`); `--runs N` and `--millis N` change how often and how
//! long each cell is measured. The parties of a cell take turns, and the table gives medians. Nothing is
//! asserted.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a benchmark starts its parties, prints, and may panic"
)]

mod audit;
mod client;
mod commands;
mod connections;
mod dbus;
mod descriptor;
mod grpc;
mod ledger;
mod measure;
mod parties;
mod programs;
mod record;
mod sessions;
mod shadow;
mod start;
mod store;
mod stream;
mod watchers;
mod workers;

use measure::Plan;

/// A part of the suite: its name and what runs it.
type Part = (&'static str, fn(&Plan));

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(socket) = arguments.value_of("--peer-tonic") {
        return grpc::serve_peer(&socket);
    }
    if arguments.value_of("--peer-pipe").is_some() {
        return descriptor::serve_peer();
    }
    if let Some(left) = arguments.value_of("--peer-hop") {
        return workers::serve_hop(&left);
    }
    let number = |flag: &str| arguments.value_of(flag).and_then(|n| n.parse::<u32>().ok());
    let plan = Plan {
        runs: number("--runs").map_or(5, |runs| runs as usize),
        millis: number("--millis").map_or(400, u64::from),
    };
    let parts: [Part; 17] = [
        ("grpc", grpc::run),
        ("client", client::run),
        ("stream", stream::run),
        ("connections", connections::run),
        ("sessions", sessions::run),
        ("watchers", watchers::run),
        ("dbus", dbus::run),
        ("descriptor", descriptor::run),
        ("store", store::run),
        ("workers", workers::run),
        ("programs", programs::run),
        ("commands", commands::run),
        ("shadow", shadow::run),
        ("start", start::run),
        ("record", record::run),
        ("audit", audit::run),
        ("ledger", ledger::run),
    ];
    let chosen: Vec<&String> = arguments
        .iter()
        .filter(|argument| parts.iter().any(|(name, _)| name == argument))
        .collect();
    for (name, part) in parts {
        if chosen.is_empty() || chosen.iter().any(|chosen| *chosen == name) {
            part(&plan);
        }
    }
}

/// Reads `FLAG VALUE` from a list of arguments.
trait Flags {
    fn value_of(&self, flag: &str) -> Option<String>;
}

impl Flags for Vec<String> {
    fn value_of(&self, flag: &str) -> Option<String> {
        let position = self.iter().position(|argument| argument == flag)?;
        self.get(position + 1).cloned()
    }
}
