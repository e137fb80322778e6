//! What other rules would do to calls that were made. Nothing is moved.

use std::collections::HashMap;

use super::{InForce, Ruled, WHOLE};
use crate::migration::Client;
use crate::migration::ledger::Seen;
use crate::proto::opdbus::v1::{SimulateResponse, SimulatedUse};

/// How many uses that change are told.
const TOLD: usize = 1000;

/// How many are kept while the ledger is read; those with the fewest calls go.
const KEPT: usize = 64 * TOLD;

/// A simulation while it is made.
pub(in crate::migration) struct Simulation {
    before: InForce,
    after: InForce,
    /// By client and operation.
    changes: HashMap<(String, String), Change>,
    /// Calls that would take gRPC, and D-Bus, times 10,000.
    grpc: u128,
    dbus: u128,
}

struct Change {
    told: SimulatedUse,
    /// How many of 10,000 calls take another way.
    moved: u32,
}

impl Simulation {
    pub(in crate::migration) fn new(before: InForce, after: InForce) -> Self {
        Self { before, after, changes: HashMap::new(), grpc: 0, dbus: 0 }
    }

    /// Adds one client's calls of one operation over one way.
    pub(in crate::migration) fn add(&mut self, seen: Seen) {
        let client = Client::described(&seen.client);
        let position = |rules: &InForce| {
            rules
                .rule(&client, &seen.agent, &seen.operation)
                .map(|ruled: &Ruled| ruled.state.position)
        };
        let (Some(before), Some(after)) = (position(&self.before), position(&self.after)) else {
            return;
        };
        let calls = seen.calls;
        self.grpc += u128::from(calls) * u128::from(after.on_grpc());
        self.dbus += u128::from(calls) * u128::from(WHOLE - after.on_grpc());
        if before == after {
            return;
        }
        let operation = seen.name();
        let change = self.changes.entry((format!("{:?}", seen.client), operation.clone()));
        let change = change.or_insert_with(|| Change {
            told: SimulatedUse {
                client: Some(seen.client),
                operation,
                calls: 0,
                stage_before: before.stage().into(),
                stage_after: after.stage().into(),
                moved: 0,
            },
            moved: before.on_grpc().abs_diff(after.on_grpc()),
        });
        change.told.calls += calls;
        if self.changes.len() >= 2 * KEPT {
            let mut calls: Vec<u64> = self.changes.values().map(|it| it.told.calls).collect();
            let (_, least, _) = calls.select_nth_unstable_by_key(KEPT, |it| std::cmp::Reverse(*it));
            let least = *least;
            self.changes.retain(|_, it| it.told.calls > least);
        }
    }

    /// What the rules would do.
    pub(in crate::migration) fn end(self) -> SimulateResponse {
        let mut changes: Vec<SimulatedUse> = self
            .changes
            .into_values()
            .map(|Change { mut told, moved }| {
                told.moved = whole(u128::from(told.calls) * u128::from(moved));
                told
            })
            .collect();
        changes.sort_by(|a, b| b.calls.cmp(&a.calls).then_with(|| a.operation.cmp(&b.operation)));
        changes.truncate(TOLD);
        SimulateResponse { changes, grpc_calls: whole(self.grpc), dbus_calls: whole(self.dbus) }
    }
}

/// The nearest whole of ten-thousandths.
fn whole(parts: u128) -> u64 {
    let whole = u128::from(WHOLE);
    u64::try_from((parts + whole / 2) / whole).unwrap_or(u64::MAX)
}
