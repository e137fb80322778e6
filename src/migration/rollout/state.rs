//! Rules with how far each is now, as they are in force together. What moves them is elsewhere.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::canary::{Comparison, Verdict};
use super::record::Record;
use super::rule::{Config, Rule};
use super::{CONFIGURATION, Position, routes};
use crate::contract::{Operation, Service};
use crate::migration::Client;
use crate::proto::opdbus::v1::{CanaryState, RuleState};
use crate::storage::time;

/// How far a rule is, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Where it is.
    pub position: Position,
    /// Who holds it there, as `uid 0`; empty: nobody.
    pub held_by: String,
    /// When it was last moved, in microseconds since the epoch.
    pub changed: i64,
    /// Who moved it, as `uid 0`, `the configuration` or `the canary`.
    pub changed_by: String,
    /// Why.
    pub reason: String,
}

impl State {
    /// Moved there now.
    pub(super) fn moved(position: Position, by: &str, reason: &str) -> Self {
        Self {
            position,
            held_by: String::new(),
            changed: time::now(),
            changed_by: by.to_owned(),
            reason: reason.to_owned(),
        }
    }
}

/// A rule in force.
#[derive(Clone, Debug)]
pub struct Ruled {
    /// The rule.
    pub rule: Arc<Rule>,
    /// How far it is.
    pub state: State,
    /// What both ways have shown, while there is something to compare.
    comparison: Option<Arc<Mutex<Comparison>>>,
}

impl Ruled {
    /// The rule in this state; `before`: how it was, if it was.
    pub(super) fn new(rule: Arc<Rule>, state: State, before: Option<&Self>) -> Self {
        let comparison = match (state.position, before.map(|before| before.state.position)) {
            (Position::Dbus | Position::Shadow | Position::Final, _) => None,
            (to @ (Position::Canary(_) | Position::Grpc), from) => {
                // What other clients or operations have shown says nothing about these.
                let same = before.filter(|before| before.rule.is_about_the_same_as(&rule));
                let seen = same.and_then(|before| before.comparison.as_ref());
                Some(match seen {
                    Some(seen) if from == Some(to) => {
                        lock(seen).set_margins(rule.margins);
                        Arc::clone(seen)
                    }
                    Some(seen) if to == Position::Grpc => {
                        let mut seen = lock(seen).clone().with_dbus_of();
                        seen.set_margins(rule.margins);
                        Arc::new(Mutex::new(seen))
                    }
                    Some(_) | None => Arc::new(Mutex::new(Comparison::new(rule.margins))),
                })
            }
        };
        Self { rule, state, comparison }
    }

    /// The comparison, if there is something to compare.
    pub(super) fn comparison(&self) -> Option<MutexGuard<'_, Comparison>> {
        self.comparison.as_ref().map(|comparison| lock(comparison))
    }

    /// What the comparison says, if there is one.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        self.comparison().map(|comparison| comparison.verdict())
    }

    /// True if the canary may take it back.
    pub(super) fn may_step_back(&self) -> bool {
        self.comparison.is_some() && self.state.held_by.is_empty()
    }

    /// The next position; `None` if there is none.
    #[must_use]
    pub fn next(&self) -> Option<Position> {
        self.state.position.next(&self.rule.steps)
    }

    /// Why it should not be taken further now.
    #[must_use]
    pub fn blockers(&self) -> Vec<String> {
        let mut blockers = Vec::new();
        if !self.state.held_by.is_empty() {
            let (by, why) = (&self.state.held_by, &self.state.reason);
            let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
            blockers.push(format!("it is held by {by}{why}; release it first"));
        }
        if let Some(text) = self.verdict().as_ref().and_then(Verdict::blocks) {
            blockers.push(text.to_owned());
        }
        blockers
    }

    /// It as administrators are told it.
    #[must_use]
    pub fn describe(&self) -> RuleState {
        RuleState {
            name: self.rule.name.clone(),
            origin: self.rule.origin.clone(),
            who: self.rule.who.to_string(),
            what: self.rule.what(),
            route: Some(routes::route(self)),
            held: !self.state.held_by.is_empty(),
            canary: Some(self.comparison().map_or_else(CanaryState::default, |it| it.describe())),
        }
    }

    pub(super) fn record(&self) -> Record {
        let state = self.state.clone();
        Record { name: self.rule.name.clone(), own: self.rule.position, state }
    }
}

/// All rules, in the order in which they are asked.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The rules; the last one is about everything.
    pub rules: Vec<Ruled>,
    /// True if D-Bus answers some call with where it went.
    pub(super) ends: bool,
    /// True if calls of some rule are compared.
    pub(super) compares: bool,
}

impl InForce {
    pub(super) fn new(rules: Vec<Ruled>) -> Self {
        let ends = rules.iter().any(|ruled| ruled.state.position == Position::Final);
        let compares = rules.iter().any(|ruled| ruled.comparison.is_some());
        Self { rules, ends, compares }
    }

    /// The rules of a configuration: where `records` have them, unless the configuration says something
    /// else than it did then.
    pub(super) fn configured(
        config: &Config,
        services: &[Arc<Service>],
        records: &[Record],
        before: Option<&Self>,
    ) -> Self {
        let rules = config.rules.iter().map(|rule| {
            let rule = Arc::new(rule.clone().written_as(services));
            let record = records.iter().find(|it| it.name == rule.name && it.own == rule.position);
            let state = match record {
                Some(record) => record.state.clone(),
                None => State::moved(rule.position, CONFIGURATION, ""),
            };
            let before = before.and_then(|before| before.named(&rule.name));
            Ruled::new(rule, state, before)
        });
        Self::new(rules.collect())
    }

    /// The rule called `name`.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Ruled> {
        self.rules.iter().find(|ruled| ruled.rule.name == name)
    }

    /// The rule that holds for a client's calls of an operation.
    #[must_use]
    pub fn rule(&self, client: &Client<'_>, agent: &str, operation: &str) -> Option<&Ruled> {
        self.rules.get(self.place_of(client, agent, operation))
    }

    /// Where in their order that rule stands.
    pub(super) fn place_of(&self, client: &Client<'_>, agent: &str, operation: &str) -> usize {
        let holds = |it: &Ruled| it.rule.names(agent, operation) && it.rule.who.covers(client);
        self.rules.iter().position(holds).unwrap_or(self.rules.len())
    }

    /// The rule that holds for everybody's calls of an operation, but for clients that rules before it
    /// are about.
    pub(super) fn rule_for_all(&self, operation: &Operation) -> Option<&Ruled> {
        let holds = |it: &&Ruled| it.rule.who.is_everybody() && it.rule.is_about(operation);
        self.rules.iter().find(holds)
    }

    /// The same with one rule in another state.
    pub(super) fn with(&self, name: &str, state: &State) -> Self {
        let rules = self.rules.iter().map(|ruled| match ruled.rule.name == name {
            true => Ruled::new(Arc::clone(&ruled.rule), state.clone(), Some(ruled)),
            false => ruled.clone(),
        });
        Self::new(rules.collect())
    }

    pub(super) fn records(&self) -> Vec<Record> {
        self.rules.iter().map(Ruled::record).collect()
    }
}

fn lock(comparison: &Mutex<Comparison>) -> MutexGuard<'_, Comparison> {
    // Counts that a panic left half-added are still counts.
    comparison.lock().unwrap_or_else(PoisonError::into_inner)
}
