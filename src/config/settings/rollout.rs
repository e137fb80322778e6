//! The rules of the rollout: from the section `[migration]` to what the rollout takes. Names of users are
//! looked up here, so that a wrong one is found before it moves anybody.

use std::collections::BTreeSet;
use std::path::PathBuf;

use toml::Spanned;

use super::checker::Checker;
use super::policy;
use crate::config::keys::{Key, Keys};
use crate::config::problem::Problems;
use crate::config::tables::MigrationRule;
use crate::executor::Named;
use crate::files::Source;
use crate::migration::rollout::{Config, DEFAULT, Margins, Position, Rule, WHOLE, Who};

/// How many rules there may be: each is a label of the metrics, too.
const MAX_RULES: usize = 256;

/// The longest name of a rule, in bytes.
const MAX_NAME: usize = 64;

/// How many names one list may have.
const MAX_LIST: usize = 256;

/// How many steps a canary may have.
const MAX_STEPS: usize = 100;

/// The rules, in their order, with the default at the end.
pub(super) fn rules(c: &mut Checker<'_>, all: &Keys) -> Config {
    let keys = &all.migration;
    let steps = steps(c, &keys.steps);
    let margins = Margins {
        error: error_margin(c, &keys.error_margin),
        latency: latency_margin(c, &keys.latency_margin),
        min_calls: min_calls(c, &keys.min_calls),
    };
    let position = position(c, &keys.stage, Some(&keys.percent), &steps);
    let origin = match c.origin(&keys.stage) {
        origin if origin.is_empty() => "built in".to_owned(),
        origin => origin,
    };
    let last = Rule {
        name: DEFAULT.to_owned(),
        who: Who::default(),
        agents: Vec::new(),
        operations: Vec::new(),
        position,
        steps,
        margins,
        origin,
    };
    if keys.rule.value.len() > MAX_RULES {
        c.reject(&keys.rule, format!("there are more than {MAX_RULES} rules"));
    }
    let mut names = BTreeSet::from([DEFAULT]);
    let mut rules = Vec::new();
    for table in keys.rule.value.iter().take(MAX_RULES) {
        let place = Place { source: keys.rule.at.map(|(source, _)| source) };
        rules.push(rule(c, place, table, &last));
        let name = place.key("migration.rule.name", &table.name);
        if !names.insert(table.name.as_ref()) {
            let what = if name.value == DEFAULT {
                "is the name of [migration] itself"
            } else {
                "is there twice"
            };
            c.reject(&name, format!("{:?} {what}; every rule has a name of its own", name.value));
        }
    }
    for (rule, key) in rules.iter().map(|it| (it, &keys.rule.at)).chain([(&last, &keys.stage.at)]) {
        if rule.position != Position::Dbus && !all.grpc.enabled.value {
            let key = Key { name: "migration.stage", value: (), at: *key };
            let text = "calls cannot move to gRPC while grpc.enabled is false; enable it, or leave them at \"dbus\"";
            c.reject(&key, format!("rule {}: {text}", rule.name));
        }
    }
    rules.push(last);
    Config { rules }
}

/// The rules in a text that holds the section alone, as [`rules`].
pub(in crate::config) fn from_text(text: &str) -> Result<Config, Problems> {
    let sources = [Source { path: PathBuf::from("rules"), text: text.to_owned() }];
    let keys = Keys::merged(&sources)?;
    let mut c = Checker::new(&sources);
    for entry in keys.entries(&sources) {
        if entry.origin.is_some() && !entry.name.starts_with("migration.") {
            let key = Key { name: entry.name, value: (), at: Some((0, 0)) };
            c.reject(&key, "only the section [migration] and its rules are looked at here");
        }
    }
    let config = rules(&mut c, &keys);
    c.finish(config)
}

/// The file that the rules stand in.
#[derive(Clone, Copy)]
struct Place {
    source: Option<usize>,
}

impl Place {
    /// One value of a rule as a key of its own.
    fn key<T: Clone>(self, name: &'static str, value: &Spanned<T>) -> Key<T> {
        let at = self.source.map(|source| (source, value.span().start));
        Key { name, value: value.get_ref().clone(), at }
    }
}

fn rule(c: &mut Checker<'_>, place: Place, table: &MigrationRule, default: &Rule) -> Rule {
    let name = place.key("migration.rule.name", &table.name);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if !(1..=MAX_NAME).contains(&name.value.len()) || !name.value.bytes().all(is_plain) {
        let text =
            "it must be 1 to 64 letters, digits, dots, dashes and underscores, as \"op-chat\"";
        c.reject(&name, text);
    }
    let steps = match &table.steps {
        Some(found) => steps(c, &place.key("migration.rule.steps", found)),
        None => default.steps.clone(),
    };
    let stage = place.key("migration.rule.stage", &table.stage);
    let percent = table.percent.as_ref().map(|it| place.key("migration.rule.percent", it));
    let mut list = |key, found, check: Check| list(c, place, key, found, check);
    let agents = list("migration.rule.agents", &table.agents, agent);
    let operations = list("migration.rule.operations", &table.operations, operation);
    let who = Who {
        executables: list("migration.rule.executables", &table.executables, executable),
        units: list("migration.rule.units", &table.units, unit),
        tokens: list("migration.rule.tokens", &table.tokens, anything),
        names: list("migration.rule.names", &table.names, client_name),
        users: users(c, place, table),
    };
    if let (Some(found), false) = (&table.operations, agents.is_empty()) {
        let stray = operations.iter().find(|text| {
            let agent = text.split_once('.').map_or("", |(agent, _)| agent);
            !agents.iter().any(|id| id == agent)
        });
        if let Some(stray) = stray {
            let key = place.key("migration.rule.operations", found);
            c.reject(&key, format!("{stray:?} is of no agent that the rule names in agents"));
        }
    }
    let margins = Margins {
        error: table.error_margin.as_ref().map_or(default.margins.error, |found| {
            error_margin(c, &place.key("migration.rule.error_margin", found))
        }),
        latency: table.latency_margin.as_ref().map_or(default.margins.latency, |found| {
            latency_margin(c, &place.key("migration.rule.latency_margin", found))
        }),
        min_calls: table.min_calls.as_ref().map_or(default.margins.min_calls, |found| {
            min_calls(c, &place.key("migration.rule.min_calls", found))
        }),
    };
    Rule {
        position: position(c, &stage, percent.as_ref(), &steps),
        origin: c.origin(&name),
        name: name.value,
        who,
        agents,
        operations,
        steps,
        margins,
    }
}

fn position(
    c: &mut Checker<'_>,
    stage: &Key<String>,
    percent: Option<&Key<f64>>,
    steps: &[u32],
) -> Position {
    let percent = percent.filter(|percent| percent.value != 0.0);
    let own = percent.map_or(0, |percent| share(c, percent, percent.value));
    let first = steps.first().copied().unwrap_or(WHOLE);
    let canary = Position::Canary(if own == 0 { first } else { own });
    let all = [Position::Dbus, Position::Shadow, canary, Position::Grpc, Position::Final];
    let position = c.one_of(stage, all.map(|position| (position.name(), position)));
    if let Some(percent) = percent
        && position != canary
    {
        let text = "it is for stage \"canary\" alone; remove it, or set the stage";
        c.reject(percent, text);
    }
    position
}

/// A share in per cent, of 10,000.
fn share<T>(c: &mut Checker<'_>, key: &Key<T>, percent: f64) -> u32 {
    let share = percent * f64::from(WHOLE) / 100.0;
    if !(1.0..=f64::from(WHOLE)).contains(&share) || (share - share.round()).abs() > 1e-6 {
        let text =
            "is no share; from 0.01 to 100 per cent, with at most two digits behind the point";
        c.reject(key, format!("{percent} {text}"));
        return WHOLE;
    }
    #[expect(clippy::cast_possible_truncation, reason = "between 1 and 10,000, and whole")]
    let share = share.round() as u32;
    share
}

fn steps(c: &mut Checker<'_>, key: &Key<Vec<f64>>) -> Vec<u32> {
    if key.value.is_empty() || key.value.len() > MAX_STEPS {
        c.reject(
            key,
            format!("it must have from 1 to {MAX_STEPS} shares in per cent, as [5, 25, 50]"),
        );
        return vec![WHOLE];
    }
    let steps: Vec<u32> = key.value.iter().map(|percent| share(c, key, *percent)).collect();
    if !steps.is_sorted_by(|a, b| a < b) {
        c.reject(key, "each step must be larger than the one before, as [5, 25, 50]");
    }
    steps
}

fn error_margin(c: &mut Checker<'_>, key: &Key<f64>) -> f64 {
    c.number(key, 0.0..=1.0)
}

fn latency_margin(c: &mut Checker<'_>, key: &Key<f64>) -> f64 {
    c.number(key, 1.0..=1000.0)
}

fn min_calls(c: &mut Checker<'_>, key: &Key<i64>) -> u64 {
    c.size(key, 1..=1_000_000, "calls") as u64
}

/// Says what is wrong with a text, if anything.
type Check = fn(&str) -> Option<&'static str>;

/// A list that, if it is there, has something in it: an empty one would be about nothing.
fn list(
    c: &mut Checker<'_>,
    place: Place,
    name: &'static str,
    found: &Option<Spanned<Vec<String>>>,
    check: Check,
) -> Vec<String> {
    let Some(found) = found else { return Vec::new() };
    let key = place.key(name, found);
    if key.value.is_empty() {
        c.reject(&key, "it names nothing; leave the key out to mean all");
    } else if key.value.len() > MAX_LIST {
        c.reject(&key, format!("it names more than {MAX_LIST}"));
    }
    for text in &key.value {
        let problem = if text.is_empty() { Some("names nothing") } else { check(text) };
        if let Some(problem) = problem {
            c.reject(&key, format!("{text:?} {problem}"));
        }
    }
    key.value
}

fn agent(text: &str) -> Option<&'static str> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (!text.bytes().all(is_plain))
        .then_some("is no agent id: lower-case letters, digits and _, as \"memory\"")
}

fn operation(text: &str) -> Option<&'static str> {
    let parts = text.split_once('.');
    let is_one = parts.is_some_and(|(id, name)| {
        agent(id).is_none() && !id.is_empty() && !name.is_empty() && !name.contains('.')
    });
    (!is_one).then_some("is no operation of an agent, as \"memory.Recall\"")
}

fn executable(text: &str) -> Option<&'static str> {
    (text.contains('/') && !text.starts_with('/')).then_some(
        "is neither an absolute path, as \"/usr/bin/op-chat\", nor the name of a command",
    )
}

fn unit(text: &str) -> Option<&'static str> {
    (!text.contains('.') || text.contains('/')).then_some("is no unit, as \"op-chat.service\"")
}

fn client_name(text: &str) -> Option<&'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (text.len() > MAX_NAME || !text.bytes().all(is_plain))
        .then_some("is no name of a client: up to 64 letters, digits, dots, dashes and underscores")
}

fn anything(_text: &str) -> Option<&'static str> {
    None
}

fn users(c: &mut Checker<'_>, place: Place, table: &MigrationRule) -> Vec<Named> {
    let names = list(c, place, "migration.rule.users", &table.users, anything);
    let found = names.into_iter().map(|name| policy::look_up("users", name, policy::user));
    let found: Result<Vec<Named>, String> = found.collect();
    match (found, &table.users) {
        (Ok(found), _) => found,
        (Err(problem), Some(users)) => {
            c.reject(&place.key("migration.rule.users", users), problem);
            Vec::new()
        }
        (Err(_), None) => Vec::new(),
    }
}
