//! Requests that nobody wrote: made from the descriptors, by chance that is the same in every run. Each way
//! has a service of its own and makes all of them in the same order, so that what one call leaves behind
//! the next one finds on every way.

use std::sync::Arc;

use op_dbus::contract::{Contract, Operation};
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use prost_reflect::{FieldDescriptor, Kind as Type, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::call::{Call, Way};
use super::each::on_each_way;
use super::roles::{self, Role};
use super::table::{self, Kind, Sheet, inputs};
use super::values;
use super::world::World;

/// Requests for each operation by its owner.
const REQUESTS: usize = 8;

/// Requests for each operation by everybody else.
const REQUESTS_OF_OTHERS: usize = 2;

/// How deep messages lie in messages.
const DEPTH_MAX: usize = 4;

/// Texts of which some are names of things, so that not every call ends at the first check.
const TEXTS: [&str; 10] =
    ["", "a", "b", "notes", "memory", "Recall", "a.b", "ünï cöde", "-1", "../../etc/passwd"];

/// Where what is said differs from service to service, so that only how a call ends is compared.
const OF_SERVICE: [&str; 6] = [
    "policy.Explain",
    "policy.ExplainUser",
    "policy.ListRules",
    "agents.ListAgents",
    "agents.DescribeAgent",
    "sessions.StartSession",
];

/// What makes requests.
pub struct Chance(TestRng);

impl Chance {
    pub fn new() -> Self {
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]))
    }

    /// A request of an operation; of a stream of requests a list.
    pub fn request(&mut self, operation: &Operation) -> Value {
        if operation.client_streaming {
            return (0..self.below(4)).map(|_| self.message(&operation.input, DEPTH_MAX)).collect();
        }
        let mut request = self.message(&operation.input, DEPTH_MAX);
        if operation.name == "SequentialThinking" {
            // The older interface takes one with a chain for another operation.
            request.as_object_mut().unwrap().remove("chain_id");
        }
        // On the bus an argument that has a place is there.
        for argument in &operation.shape.inputs {
            if matches!(argument.field.kind(), Type::Message(_)) {
                let fields = request.as_object_mut().unwrap();
                let value = self.field(&argument.field, DEPTH_MAX);
                fields.entry(argument.field.name()).or_insert(value);
            }
        }
        request
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
            let is_too_deep = depth == 0 && matches!(field.kind(), Type::Message(_));
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

    fn one(&mut self, kind: &Type, depth: usize) -> Value {
        match kind {
            Type::Bool => json!(self.below(2) == 0),
            Type::Int32 | Type::Sint32 | Type::Sfixed32 => {
                json!(self.one_of(&[0, 1, -1, i32::MAX]))
            }
            Type::Uint32 | Type::Fixed32 => json!(self.one_of(&[0, 1, 7, 100, u32::MAX])),
            Type::Int64 | Type::Sint64 | Type::Sfixed64 => {
                json!(self.one_of(&[0, 1, -1, 100, i64::MAX]).to_string())
            }
            Type::Uint64 | Type::Fixed64 => json!(self.one_of(&[0, 1, 7, i64::MAX]).to_string()),
            Type::Float | Type::Double => json!(self.one_of(&[0.0, 0.5, -1.0, 1e9])),
            Type::String => json!(self.one_of(&TEXTS)),
            Type::Bytes => json!(self.one_of(&["", "AAH/", "bm90ZXM="])),
            Type::Enum(kind) => {
                let names: Vec<String> =
                    kind.values().map(|value| value.name().to_owned()).collect();
                json!(self.one_of(&names))
            }
            Type::Message(message) => self.message(message, depth - 1),
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

/// The same without the ids that the service makes up.
fn without_ids(value: &Value) -> Value {
    let id = regex::Regex::new("[0-9a-f]{32}").unwrap();
    serde_json::from_str(&id.replace_all(&value.to_string(), "ID")).unwrap()
}

/// The requests in the order in which they are made.
fn requests(contract: &Contract) -> Vec<(Arc<Operation>, Role, Value)> {
    let mut chance = Chance::new();
    let mut requests = Vec::new();
    for operation in inputs(contract, Kind::Generated, Way::TypedOverGrpc) {
        for role in Role::here() {
            let count = if role == Role::Owner { REQUESTS } else { REQUESTS_OF_OTHERS };
            for _ in 0..count {
                requests.push((Arc::clone(&operation), role, chance.request(&operation)));
            }
        }
    }
    requests
}

async fn run(way: Way) -> (World, Sheet) {
    let world = World::start(way, roles::config()).await;
    let mut sheet = Sheet::new(way);
    for (number, (operation, role, request)) in requests(&world.contract).into_iter().enumerate() {
        if table::no_way(&operation, way.for_operation(&operation)).is_some() {
            continue;
        }
        let what = format!("{number} {request}");
        let said = world.call(role, &Call::new(&operation, request)).await;
        let name = format!("{}.{}", operation.agent, operation.name);
        let is_told = !OF_SERVICE.contains(&name.as_str());
        let plain = |value: &Value| match is_told {
            true => values::plain(&without_ids(&values::readable(value)), "no key"),
            false => Value::Null,
        };
        sheet.add(&operation, (Kind::Generated, role), &what, &said, plain);
    }
    (world, sheet)
}

#[test]
fn requests_made_by_chance_have_one_answer_on_every_way() {
    let sheets = on_each_way(&[Kind::Generated], run);
    let (operations, good) = sheets[0].of(Role::Owner);
    eprintln!("{operations} operations; {good} of the owner's requests went well");
    assert!(operations >= 60 && good >= operations, "{operations} {good}");
}
