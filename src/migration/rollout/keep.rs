//! What is done about rules while nobody asks: a changed configuration is taken up, what the canary shows
//! to be worse is taken back, and everything is written down. What it shows is not found out here.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::canary::Verdict;
use super::record::Record;
use super::step::{By, Told};
use super::{CANARY, CONFIGURATION, Config, InForce, Position, Rollout, State};

/// How often what the canary has shown is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How warnings about rules begin that the canary has taken back.
const TAKEN_BACK: &str = "[migration] taken back: ";

/// How warnings about rules begin that name what this build lacks.
const IDLE_RULE: &str = "[[migration.rule]] ";

/// Looks after the rules until they are gone.
pub(super) async fn watch(rollout: Weak<Rollout>) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(rollout) = rollout.upgrade() else { return };
        rollout.take_back().await;
        if rollout.unsaved.load(Ordering::Acquire) {
            let _moving = rollout.moving.lock().await;
            rollout.save().await;
        }
    }
}

/// What a configuration has moved, of the rules that were there before.
pub(super) fn moved(before: &[Record], after: &InForce) -> Vec<Told> {
    let moved = after.rules.iter().filter_map(|ruled| {
        let (name, to) = (&ruled.rule.name, ruled.state.position);
        let from = before.iter().find(|record| record.name == *name)?.state.position;
        (from != to).then(|| Told::new(name, from, to, ""))
    });
    moved.collect()
}

impl Rollout {
    /// Puts the rules of `config` in force. Those that it has where the last one had them stay where they
    /// have been moved to.
    ///
    /// # Cancel safety
    /// All of it is in force, or nothing.
    pub async fn reconfigure(&self, config: &Config) {
        let _moving = self.moving.lock().await;
        let before = self.in_force.load_full();
        let after = InForce::configured(config, &self.services, &before.records(), Some(&before));
        let moved = moved(&before.records(), &after);
        self.publish(after);
        for told in &moved {
            self.tell(told, &By::itself(CONFIGURATION), None);
        }
        self.save().await;
    }

    /// Takes back what is worse over gRPC, and holds it.
    async fn take_back(&self) {
        let worse = |in_force: &InForce| -> Vec<(String, Position, String)> {
            let may = in_force.rules.iter().filter(|ruled| ruled.may_step_back());
            may.filter_map(|ruled| match ruled.verdict()? {
                Verdict::Worse(why) => Some((ruled.rule.name.clone(), ruled.state.position, why)),
                Verdict::TooFew(_) | Verdict::NoSign(_) | Verdict::NoWorse(_) => None,
            })
            .collect()
        };
        if worse(&self.in_force()).is_empty() {
            return;
        }
        let _moving = self.moving.lock().await;
        // Anew: somebody may have been faster.
        for (name, from, why) in worse(&self.in_force()) {
            let held_by = CANARY.to_owned();
            let state = State { held_by, ..State::moved(Position::Dbus, CANARY, &why) };
            let after = self.in_force().with(&name, &state);
            // At once; what can fail comes after.
            self.publish(after);
            self.metrics.migration_taken_back(&name);
            self.tell(&Told::new(&name, from, Position::Dbus, &why), &By::itself(CANARY), None);
        }
        self.save().await;
    }

    /// Puts rules in force and tells who watches.
    pub(super) fn publish(&self, in_force: InForce) {
        self.in_force.store(in_force.into());
        self.unsaved.store(true, Ordering::Release);
        self.show();
        self.changed.send_replace(());
    }

    /// Shows the rules in the metrics and in the status.
    pub(super) fn show(&self) {
        let in_force = self.in_force();
        let rules = in_force.rules.iter();
        self.metrics.migration_rules(rules.map(|ruled| {
            let position = ruled.state.position;
            (ruled.rule.name.as_str(), position.stage() as i64, position.on_grpc())
        }));
        let held = in_force.rules.iter().filter(|ruled| ruled.state.held_by == CANARY);
        let warnings = held.map(|ruled| {
            format!(
                "{TAKEN_BACK}rule {} to {}: {}",
                ruled.rule.name, ruled.state.position, ruled.state.reason
            )
        });
        self.status.replace_warnings(TAKEN_BACK, warnings.collect());
        let idle = in_force.rules.iter().filter_map(|ruled| {
            let missing = ruled.rule.missing(&self.services);
            let (origin, name) = (&ruled.rule.origin, &ruled.rule.name);
            let text = missing.join(", ");
            (!missing.is_empty())
                .then(|| format!("{IDLE_RULE}{origin}: rule {name} names {text}, which this build of op-dbus lacks"))
        });
        self.status.replace_warnings(IDLE_RULE, idle.collect());
    }

    /// Writes down where the rules are. What cannot be written is tried again at the next look.
    async fn save(&self) {
        // First, so that what is moved meanwhile is written next time.
        self.unsaved.store(false, Ordering::Release);
        let records = self.in_force().records();
        if let Err(error) = self.records.replace(records).await {
            self.unsaved.store(true, Ordering::Release);
            tracing::warn!(%error, "where the rules of the rollout are could not be written down");
        }
    }
}
