//! The settings of the commands agent, which the workers are told.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::checker::Checker;
use super::{MAX_IDLE_MS, MAX_RUNTIME_MS};
use crate::agents::commands::{self, Bound, Config, Confinement, Limits, functions};
use crate::config::keys::Key;
use crate::config::keys::commands::Section;

/// How many rules there may be. Each is looked at for every program.
const RULES_MAX: usize = 1000;

pub(super) fn commands(c: &mut Checker<'_>, keys: &Section) -> Config {
    profiles(c, &keys.profiles);
    rules(c, keys);
    Config {
        max_running: c.size(&keys.max_running, 1..=10_000, "commands"),
        max_kept: c.size(&keys.max_kept, 0..=10_000, "commands"),
        keep: c.millis(&keys.keep_ms, 0..=MAX_IDLE_MS),
        ring_bytes: c.size(&keys.ring_bytes, 1024..=1 << 26, "bytes"),
        keep_bytes_max: c.size(&keys.keep_bytes_max, 1024..=1 << 26, "bytes"),
        artifact_bytes: c.size(&keys.artifact_bytes, 0..=1 << 40, "bytes") as u64,
        artifact_total_bytes: c.size(&keys.artifact_total_bytes, 0..=1 << 40, "bytes") as u64,
        max_shells: c.size(&keys.max_shells, 0..=1000, "shells"),
        shell_idle: c.millis(&keys.shell_idle_ms, 1000..=MAX_IDLE_MS),
        profiles: keys.profiles.value.clone(),
        confinement: c.one_of(
            &keys.confinement,
            [
                ("prefer", Confinement::Prefer),
                ("require", Confinement::Require),
                ("off", Confinement::Off),
            ],
        ),
        limits: limits(c, keys),
        rules: keys.rule.value.clone(),
    }
}

/// The bounds of what the daemon keeps of functions.
pub(super) fn functions(c: &mut Checker<'_>, keys: &Section) -> functions::Config {
    functions::Config {
        max_functions: c.size(&keys.max_functions, 0..=10_000, "functions"),
        max_function_bytes: c.size(&keys.max_function_bytes, 1024..=1 << 20, "bytes"),
    }
}

fn limits(c: &mut Checker<'_>, keys: &Section) -> Limits {
    let times = || 0..=MAX_RUNTIME_MS;
    let bytes = || 0..=1 << 50;
    let ms = "milliseconds";
    Limits {
        wall_ms: bound(c, [&keys.wall_ms, &keys.max_wall_ms], times(), ms),
        cpu_ms: bound(c, [&keys.cpu_ms, &keys.max_cpu_ms], times(), ms),
        memory_bytes: bound(c, [&keys.memory_bytes, &keys.max_memory_bytes], bytes(), "bytes"),
        processes: bound(
            c,
            [&keys.processes, &keys.max_processes],
            0..=i64::from(u32::MAX),
            "processes",
        ),
        output_bytes: bound(c, [&keys.output_bytes, &keys.max_output_bytes], bytes(), "bytes"),
        file_size_bytes: bound(
            c,
            [&keys.file_size_bytes, &keys.max_file_size_bytes],
            bytes(),
            "bytes",
        ),
        grace_ms: bound(c, [&keys.grace_ms, &keys.max_grace_ms], 0..=600_000, ms),
    }
}

/// A limit as it usually is, and the most; 0 is none.
fn bound(
    c: &mut Checker<'_>,
    [usual, most]: [&Key<i64>; 2],
    range: RangeInclusive<i64>,
    unit: &str,
) -> Bound {
    let bound = Bound {
        usual: c.size(usual, range.clone(), unit) as u64,
        most: c.size(most, range, unit) as u64,
    };
    if most.value != 0 {
        c.not_above(usual, most);
    }
    bound
}

fn profiles(c: &mut Checker<'_>, key: &Key<Vec<String>>) {
    let known = commands::profiles();
    let mut seen = BTreeSet::new();
    for name in &key.value {
        if !known.contains(&name.as_str()) {
            let known = known.join(", ");
            c.reject(key, format!("{name:?} is no profile; there are {known}"));
        } else if !seen.insert(name) {
            c.reject(key, format!("{name:?} is named twice"));
        }
    }
    if key.value.is_empty() {
        c.reject(key, "it must name a profile, as \"exec\"");
    }
}

fn rules(c: &mut Checker<'_>, keys: &Section) {
    let key = &keys.rule;
    if key.value.len() > RULES_MAX {
        c.reject(key, format!("there are {} rules; the most is {RULES_MAX}", key.value.len()));
    }
    for (index, rule) in key.value.iter().enumerate() {
        if rule.program.as_ref().is_some_and(|program| !program.is_absolute()) {
            let text = format!("the program of rule {} is no absolute path", index + 1);
            c.reject(key, text);
        }
    }
}
