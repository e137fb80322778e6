//! What the executor asks and tells: whether a call over D-Bus has been moved away, and how calls over
//! either way ended. It moves nothing.

use std::time::Duration;

use super::canary::Shown;
use super::{Position, Rollout};
use crate::call::{Context, Transport};
use crate::contract::Operation;
use crate::error::{Error, ErrorKind};
use crate::executor::{Moves, Observed, Observer};
use crate::migration::Client;

impl Moves for Rollout {
    fn check(&self, operation: &Operation, context: &Context) -> Result<(), Error> {
        let in_force = self.in_force();
        if !in_force.ends || !operation.is_agents || context.transport != Transport::Dbus {
            return Ok(());
        }
        let client = Client::of(&context.caller, context.client_name.as_deref());
        let rule = in_force.rule(&client, &operation.agent, &operation.name);
        let Some(ruled) = rule.filter(|ruled| ruled.state.position == Position::Final) else {
            return Ok(());
        };
        // Nobody is sent away to where nothing is.
        let Some(address) = self.grpc_address() else { return Ok(()) };
        Err(migrated(operation, &address, &ruled.rule.name))
    }

    fn is_deprecated(&self, operation: &Operation) -> bool {
        let in_force = self.in_force();
        let position = in_force.rule_for_all(operation).map(|ruled| ruled.state.position);
        operation.is_agents && position.is_some_and(|position| position >= Position::Grpc)
    }
}

impl Observer for Rollout {
    fn began(&self, _call: &Observed<'_>) {}

    fn ended(&self, call: &Observed<'_>, error: Option<ErrorKind>, time: Duration) {
        let operation = call.operation;
        let in_force = self.in_force();
        if !in_force.compares || !operation.is_agents {
            return;
        }
        let client = Client::of(call.caller, call.client_name.map(|name| &**name));
        let rule = in_force.rule(&client, &operation.agent, &operation.name);
        let Some(mut comparison) = rule.and_then(|ruled| ruled.comparison()) else { return };
        let lasts = operation.waits || operation.is_streaming();
        if let Some(shown) = Shown::of(error, time, lasts) {
            let names = (operation.agent.as_str(), operation.name.as_str());
            comparison.add(&operation.grpc_path, names, call.transport, shown);
        }
    }
}

impl Rollout {
    /// Counts calls that a client says never reached the service.
    pub(in crate::migration) fn lost(
        &self,
        client: &Client<'_>,
        operation: &Operation,
        way: Transport,
        calls: u64,
    ) {
        let in_force = self.in_force();
        let (agent, name) = (operation.agent.as_str(), operation.name.as_str());
        let ruled = in_force.rule(client, agent, name);
        if let Some(mut comparison) = ruled.and_then(|ruled| ruled.comparison()) {
            comparison.add_lost(&operation.grpc_path, (agent, name), way, calls);
        }
    }

    /// Where gRPC is served, the Unix socket before others; `None` if it is not.
    pub(super) fn grpc_address(&self) -> Option<String> {
        let addresses = self.status.addresses(Transport::Grpc);
        let unix = addresses.iter().find(|address| address.starts_with("unix:"));
        unix.or(addresses.first()).cloned()
    }
}

fn migrated(operation: &Operation, address: &str, rule: &str) -> Error {
    let Operation { agent, name, grpc_path, .. } = operation;
    let example = format!("op-dbusctl --via grpc --address {address} call {agent} {name}");
    Error::new(
        ErrorKind::Migrated,
        format!("{agent}.{name} has moved to gRPC: {grpc_path} at {address}; try: {example}"),
    )
    .with_fact("address", address)
    .with_fact("method", grpc_path)
    .with_fact("example", example)
    .refused_by(format!("migration.rule {rule}"))
}
