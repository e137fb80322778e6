//! The rules of the policy, the bounds of approvals and how polkit is asked: from tables and keys to what
//! the executor takes.
//! Names of users, groups, tokens and certificates are looked up here, so that a wrong one is found before
//! it opens anything.

use nix::unistd::{Group, User};

use super::access::Known;
use super::checker::Checker;
use crate::call::{CertificateName, LoginSession};
use crate::config::keys::{Key, Keys, RuleTable, approvals};
use crate::executor::{
    ApprovalConfig, Approver, Decision, Named, Policy, Risks, Rule, Who, risk_named,
};
use crate::polkit;

/// How many rules there may be.
const MAX_RULES: usize = 1000;

/// The rules, in their order.
pub(super) fn rules(c: &mut Checker<'_>, tables: &[Key<RuleTable>], known: &Known) -> Policy {
    if let Some(first) = tables.get(MAX_RULES) {
        c.reject(first, format!("there are more than {MAX_RULES} rules"));
    }
    let mut rules = Vec::new();
    for table in tables.iter().take(MAX_RULES) {
        match rule(&table.value, known, c.origin(table)) {
            Ok(rule) => rules.push(rule),
            Err(problem) => c.reject(table, problem),
        }
    }
    Policy::new(rules)
}

/// The bounds of approvals.
pub(super) fn approvals(c: &mut Checker<'_>, keys: &approvals::Section) -> ApprovalConfig {
    let config = ApprovalConfig {
        max: c.size(&keys.max, 1..=65_536, "calls"),
        max_per_caller: c.size(&keys.max_per_caller, 1..=65_536, "calls"),
        expire: c.millis(&keys.expire_ms, 1000..=super::MAX_TIMEOUT_MS),
    };
    c.not_above(&keys.max_per_caller, &keys.max);
    config
}

/// How polkit is asked.
pub(super) fn polkit(c: &mut Checker<'_>, all: &Keys) -> Option<polkit::Config> {
    let keys = &all.polkit;
    let bus = match keys.bus.value.as_str() {
        "system" => polkit::Bus::System,
        address => {
            if !address.contains(':') {
                c.reject(&keys.bus, "it must be \"system\" or a D-Bus address, as \"unix:path=/run/dbus/system_bus_socket\"");
            }
            polkit::Bus::Address(address.to_owned())
        }
    };
    let config = polkit::Config {
        bus,
        timeout: c.millis(&keys.timeout_ms, 100..=60_000),
        max_questions: c.size(&keys.max_questions, 1..=4096, "questions"),
        max_questions_per_caller: c.size(&keys.max_questions_per_caller, 1..=4096, "questions"),
    };
    c.not_above(&keys.max_questions_per_caller, &keys.max_questions);
    keys.enabled.value.then_some(config)
}

fn rule(table: &RuleTable, known: &Known, origin: String) -> Result<Rule, String> {
    let rule = Rule {
        who: who(table, known)?,
        agents: list("agents", table.agents.as_ref())?,
        operations: list("operations", table.operations.as_ref())?,
        risks: risks(table)?,
        decision: word("decision", table.decision.as_deref(), Decision::ALL, Decision::name)?,
        may_approve: word(
            "may_approve",
            table.may_approve.as_deref(),
            Approver::ALL,
            Approver::name,
        )?,
        reason: table.reason.clone().unwrap_or_default(),
        origin,
    };
    if rule.decision.is_none() && rule.may_approve.is_none() {
        return Err("the rule says nothing; set decision, may_approve or both".to_owned());
    }
    Ok(rule)
}

fn who(table: &RuleTable, known: &Known) -> Result<Who, String> {
    let named = |key: &'static str, names: Option<&Vec<String>>, find: Find| {
        list(key, names)?.into_iter().map(|name| look_up(key, name, find)).collect()
    };
    let users: Result<Vec<Named>, String> = named("users", table.users.as_ref(), user);
    let groups: Result<Vec<Named>, String> = named("groups", table.groups.as_ref(), group);
    let tokens = list("tokens", table.tokens.as_ref())?;
    if let Some(name) = tokens.iter().find(|name| !known.tokens.contains(*name)) {
        return Err(format!("tokens: there is no [[grpc.token]] {name:?}"));
    }
    let certificates = list("certificates", table.certificates.as_ref())?;
    let certificates = certificates.iter().map(|text| certificate(text, known));
    let login_sessions = list("login_sessions", table.login_sessions.as_ref())?;
    let login_sessions = login_sessions
        .iter()
        .map(|name| one_of("login_sessions", name, LoginSession::ALL, LoginSession::name));
    Ok(Who {
        users: users?,
        groups: groups?,
        tokens,
        certificates: certificates.collect::<Result<_, _>>()?,
        login_sessions: login_sessions.collect::<Result<_, _>>()?,
    })
}

/// A name that some client may be known by.
fn certificate(text: &str, known: &Known) -> Result<CertificateName, String> {
    let name =
        CertificateName::either(text).map_err(|problem| format!("certificates: {problem}"))?;
    let may_be = |client: &CertificateName| client.covers(&name) || name.covers(client);
    match known.certificates.iter().any(may_be) {
        true => Ok(name),
        false => Err(format!("certificates: no client of [[tls.client]] is known as {text:?}")),
    }
}

/// Finds the id of a name.
type Find = fn(&str) -> nix::Result<Option<u32>>;

pub(super) fn user(name: &str) -> nix::Result<Option<u32>> {
    Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
}

fn group(name: &str) -> nix::Result<Option<u32>> {
    Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

/// A user or group, by name or id.
pub(super) fn look_up(key: &str, name: String, find: Find) -> Result<Named, String> {
    if let Ok(id) = name.parse() {
        return Ok(Named { name, id });
    }
    match find(&name) {
        Ok(Some(id)) => Ok(Named { name, id }),
        Ok(None) => Err(format!("{key}: this system knows no {name:?}")),
        Err(error) => Err(format!("{key}: the system does not say who {name:?} is: {error}")),
    }
}

/// A list that, if it is there, has something in it: an empty one would be about nothing.
fn list(key: &str, found: Option<&Vec<String>>) -> Result<Vec<String>, String> {
    match found {
        None => Ok(Vec::new()),
        Some(list) if list.is_empty() || list.iter().any(String::is_empty) => {
            Err(format!("{key}: names nothing; leave the key out to mean all"))
        }
        Some(list) => Ok(list.clone()),
    }
}

fn risks(table: &RuleTable) -> Result<Risks, String> {
    const KNOWN: &str = "\"read\", \"write\", \"execute\", \"deploy\", \"admin\"";
    let one = |key: &str, name: &String| {
        risk_named(name).ok_or_else(|| format!("{key}: {name:?} is none of {KNOWN}"))
    };
    match (&table.risk_at_least, &table.risk) {
        (None, None) => Ok(Risks::Any),
        (Some(least), None) => Ok(Risks::AtLeast(one("risk_at_least", least)?)),
        (None, Some(_)) => {
            let names = list("risk", table.risk.as_ref())?;
            let risks: Result<_, _> = names.iter().map(|name| one("risk", name)).collect();
            Ok(Risks::Exactly(risks?))
        }
        (Some(_), Some(_)) => Err("risk and risk_at_least exclude each other".to_owned()),
    }
}

fn word<T: Copy, const N: usize>(
    key: &str,
    found: Option<&str>,
    all: [T; N],
    name: fn(T) -> &'static str,
) -> Result<Option<T>, String> {
    found.map(|found| one_of(key, found, all, name)).transpose()
}

fn one_of<T: Copy, const N: usize>(
    key: &str,
    found: &str,
    all: [T; N],
    name: fn(T) -> &'static str,
) -> Result<T, String> {
    let word = all.into_iter().find(|word| name(*word) == found);
    word.ok_or_else(|| {
        let known = all.map(name).map(|word| format!("{word:?}")).join(", ");
        format!("{key}: {found:?} is none of {known}")
    })
}
