//! Requests that nobody wrote: made from the descriptors, by chance that is the same in every run. Each way
//! has a service of its own and makes all of them in the same order, so that what one call leaves behind
//! the next one finds on every way.

use std::collections::BTreeMap;

use op_dbus::contract::{Operation, Service};
use op_dbus::proto::opdbus::v1::Risk;
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::NOT_COMPARED;
use super::values;
use super::ways::{Outcome, Way, World};

/// Requests for each operation.
const REQUESTS: usize = 8;

/// How deep messages lie in messages.
const DEPTH_MAX: usize = 4;

/// Texts of which some are names of things, so that not every call ends at the first check.
const TEXTS: [&str; 10] =
    ["", "a", "b", "notes", "memory", "Recall", "a.b", "ünï cöde", "-1", "../../etc/passwd"];

/// What differs from service to service, besides what differs from way to way.
const OF_SERVICE: [&str; 6] = [
    "policy.Explain",
    "policy.ExplainUser",
    "policy.ListRules",
    "agents.ListAgents",
    "agents.DescribeAgent",
    "sessions.StartSession",
];

struct Chance(TestRng);

impl Chance {
    fn new() -> Self {
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]))
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.0.next_u64() % end as u64).unwrap()
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// A message in its JSON form.
    fn message(&mut self, message: &MessageDescriptor, depth: usize) -> Value {
        match message.full_name() {
            "google.protobuf.Value" => return self.any(depth),
            "google.protobuf.Struct" => return json!({"a": self.any(depth)}),
            // None that is over before the last way has made its calls.
            "google.protobuf.Duration" => {
                return json!(self.one_of(&["0s", "7200s", "3600.25s", "-1s"]));
            }
            "google.protobuf.Timestamp" => {
                return json!(self.one_of(&["2026-01-01T00:00:00Z", "1970-01-01T00:00:00Z"]));
            }
            _ => {}
        }
        let mut fields = Map::new();
        let mut said: Vec<String> = Vec::new();
        for field in message.fields() {
            let choice = field.containing_oneof().map(|one| one.name().to_owned());
            let is_too_deep = depth == 0 && matches!(field.kind(), Kind::Message(_));
            if is_too_deep
                || choice.as_ref().is_some_and(|one| said.contains(one))
                || self.below(3) == 0
            {
                continue;
            }
            said.extend(choice);
            fields.insert(field.name().to_owned(), self.field(&field, depth));
        }
        Value::Object(fields)
    }

    fn field(&mut self, field: &FieldDescriptor, depth: usize) -> Value {
        if field.is_map() {
            let kind = field.kind();
            let value = kind.as_message().unwrap().map_entry_value_field();
            return json!({"a": self.one(&value.kind(), depth)});
        }
        match field.is_list() {
            true => (0..self.below(3)).map(|_| self.one(&field.kind(), depth)).collect(),
            false => self.one(&field.kind(), depth),
        }
    }

    fn one(&mut self, kind: &Kind, depth: usize) -> Value {
        match kind {
            Kind::Bool => json!(self.below(2) == 0),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!(self.one_of(&[0, 1, -1, i32::MAX]))
            }
            Kind::Uint32 | Kind::Fixed32 => json!(self.one_of(&[0, 1, 7, 100, u32::MAX])),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!(self.one_of(&[0, 1, -1, 100, i64::MAX]).to_string())
            }
            Kind::Uint64 | Kind::Fixed64 => json!(self.one_of(&[0, 1, 7, i64::MAX]).to_string()),
            Kind::Float | Kind::Double => json!(self.one_of(&[0.0, 0.5, -1.0, 1e9])),
            Kind::String => json!(self.one_of(&TEXTS)),
            Kind::Bytes => json!(self.one_of(&["", "AAH/", "bm90ZXM="])),
            Kind::Enum(kind) => {
                let names: Vec<String> =
                    kind.values().map(|value| value.name().to_owned()).collect();
                json!(self.one_of(&names))
            }
            Kind::Message(message) => self.message(message, depth - 1),
        }
    }

    fn any(&mut self, depth: usize) -> Value {
        match self.below(if depth > 0 { 5 } else { 3 }) {
            0 => json!(true),
            1 => json!(self.one_of(&[0.0, 1.5, -3.0])),
            2 => json!(self.one_of(&TEXTS)),
            3 => json!([1.0, 2.0]),
            _ => json!({"a": self.any(depth - 1)}),
        }
    }
}

/// Operations that end by themselves and start no programs.
fn is_generated(service: &Service, operation: &Operation) -> bool {
    let name = format!("{}.{}", service.id, operation.name);
    let is_left_out = NOT_COMPARED.contains(&&*name) || OF_SERVICE.contains(&&*name);
    // The probe is there to fail and to wait.
    let is_of_tests = service.id.contains("probe");
    !(service.gateway || operation.is_streaming() || operation.waits || is_left_out || is_of_tests)
        && (operation.risk as i32) <= (Risk::Write as i32)
}

/// What a service counted of an operation, by outcome. A request that is found wrong before it is one counts
/// as rejected instead, and where that is found is each way's own.
fn counted(world: &World, way: Way, operation: &Operation) -> BTreeMap<String, String> {
    let counts = world.counts(&operation.agent, &operation.name);
    let mut by_outcome = BTreeMap::new();
    for ((transport, outcome), count) in counts {
        assert_eq!(transport, way.transport().name(), "{way:?} {}", operation.name);
        if outcome != "invalid_argument" {
            by_outcome.insert(outcome, count.to_string());
        }
    }
    by_outcome
}

#[tokio::test]
async fn requests_made_by_chance_have_one_answer_on_every_way() {
    let mut worlds = Vec::new();
    for way in Way::ALL {
        worlds.push((way, World::start().await));
    }
    let mut chance = Chance::new();
    let (mut operations, mut reached, mut good, mut differences) = (0, 0, 0, Vec::new());
    let contract = worlds[0].1.contract.clone();
    for service in &contract.services {
        for operation in service.operations.iter().filter(|it| is_generated(service, it)) {
            operations += 1;
            for _ in 0..REQUESTS {
                let request = chance.message(&operation.input, DEPTH_MAX);
                let mut first: Option<(Way, Outcome)> = None;
                for (way, world) in &worlds {
                    let outcome =
                        world.call(*way, &service.id, &operation.name, request.clone()).await;
                    let outcome = outcome.map(|value| values::plain(&value, "no key"));
                    match &first {
                        None => {
                            good += usize::from(outcome.is_ok());
                            first = Some((*way, outcome));
                        }
                        Some((other, expected)) if outcome != *expected => {
                            differences.push(format!(
                                "{}.{} {request}: {way:?} {outcome:?}, {other:?} {expected:?}",
                                service.id, operation.name
                            ))
                        }
                        Some(_) => {}
                    }
                }
            }
            let (way, world) = &worlds[0];
            let expected = counted(world, *way, operation);
            reached += usize::from(!expected.is_empty());
            for (way, world) in &worlds[1..] {
                let name = format!("{}.{} {way:?}", service.id, operation.name);
                assert_eq!(counted(world, *way, operation), expected, "{name}");
            }
        }
    }
    assert!(differences.is_empty(), "{}:\n{}", differences.len(), differences.join("\n"));
    eprintln!("{operations} operations, {reached} of them reached; {good} requests went well");
    assert!(operations >= 50 && reached >= operations * 2 / 3 && good >= operations);
}
