//! Which step is next for each rule, and what speaks against it. It takes none.

use super::{InForce, Position, Rollout, Ruled};
use crate::migration::Client;
use crate::migration::ledger::{Found, Rules};
use crate::proto::opdbus::v1::{ClientIdentity, Stage, Step};

impl Rollout {
    /// Why `ruled` should not be taken on to `to` now. `found`: what the ledger knows of its calls.
    #[must_use]
    pub fn blockers(&self, ruled: &Ruled, to: Position, found: &Found) -> Vec<String> {
        let mut blockers = ruled.blockers();
        if self.grpc_address().is_none() {
            blockers.push("gRPC is not served".to_owned());
        }
        let from = ruled.state.position;
        if from <= Position::Shadow && to > Position::Shadow && found.differed > 0 {
            let Found { differed, compared, .. } = found;
            blockers.push(format!("{differed} of {compared} answers over both ways differed"));
        }
        if to == Position::Final {
            for (calls, way) in
                [(found.dbus_calls, "D-Bus"), (found.legacy_calls, "the older interface")]
            {
                if calls > 0 {
                    blockers.push(format!("{calls} calls still came over {way}"));
                }
            }
        }
        blockers
    }

    /// The next safe step for each rule. `found`: what the ledger knows of the calls of each, in the order
    /// of the rules.
    #[must_use]
    pub fn plan(&self, in_force: &InForce, found: &[Found]) -> Vec<Step> {
        let none = Found::default();
        let rules = in_force.rules.iter().enumerate();
        rules.map(|(index, it)| self.step(it, found.get(index).unwrap_or(&none))).collect()
    }

    fn step(&self, ruled: &Ruled, found: &Found) -> Step {
        let now = ruled.state.position;
        let (next, reason) = match ruled.next() {
            None => (now, "it is at the last stage".to_owned()),
            Some(next) => {
                let blockers = self.blockers(ruled, next, found);
                match blockers.is_empty() {
                    true => (next, why(ruled, next, found)),
                    false => (now, blockers.join("; ")),
                }
            }
        };
        Step {
            rule: ruled.rule.name.clone(),
            stage: now.stage().into(),
            next: next.stage().into(),
            next_share_per_10000: next.share(),
            reason,
        }
    }
}

/// What speaks for a step.
fn why(ruled: &Ruled, next: Position, found: &Found) -> String {
    if let Some(verdict) = ruled.verdict() {
        return verdict.text().to_owned();
    }
    match next {
        Position::Shadow => "nothing changes for clients but that reads are compared".to_owned(),
        Position::Canary(_) | Position::Grpc | Position::Final | Position::Dbus => {
            match found.compared {
                0 => "nothing was compared, and nothing speaks against it".to_owned(),
                compared => format!("{compared} answers over both ways were the same"),
            }
        }
    }
}

impl Rules for InForce {
    fn count(&self) -> usize {
        self.rules.len()
    }

    fn name(&self, rule: usize) -> &str {
        self.rules.get(rule).map_or("", |ruled| &ruled.rule.name)
    }

    fn stage(&self, rule: usize) -> Stage {
        self.rules.get(rule).map_or(Stage::Unspecified, |ruled| ruled.state.position.stage())
    }

    fn holding(&self, client: &ClientIdentity, agent: &str, operation: &str) -> usize {
        self.place_of(&Client::described(client), agent, operation)
    }
}
