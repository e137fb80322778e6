//! One world for each way, in which everybody makes the calls that were written down, and the calls of
//! every operation that cannot be read, are too large, come too late or come again.

use std::collections::BTreeMap;

use op_dbus::contract::{Operation, json_to_message};
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use super::call::{Call, Form, Repeat, Said, Way};
use super::cases::{Case, cases};
use super::each::on_each_way;
use super::generated::Chance;
use super::older;
use super::roles::{self, Role};
use super::table::{self, Kind, Sheet, inputs};
use super::values;
use super::world::World;

/// Messages of a stream, and the reason of its end.
pub type Told = (Vec<Value>, Option<String>);

/// The kinds of input that are tried here.
pub const KINDS: [Kind; 6] =
    [Kind::Written, Kind::Unreadable, Kind::TooLarge, Kind::Late, Kind::Repeated, Kind::IdReused];

/// The case of each operation that went well.
type Good = BTreeMap<(String, String), usize>;

/// Everything over one way.
async fn run(way: Way) -> (World, Sheet) {
    let world = World::start(way, roles::config()).await;
    let mut sheet = Sheet::new(way);
    let good = written(&world, &mut sheet).await;
    for kind in [Kind::Unreadable, Kind::TooLarge, Kind::Late] {
        out_of_form(&world, &mut sheet, kind).await;
    }
    repeated(&world, &mut sheet, &good).await;
    (world, sheet)
}

async fn written(world: &World, sheet: &mut Sheet) -> Good {
    let mut good = Good::new();
    let here = Role::here();
    for (number, case) in cases().iter().enumerate() {
        let operation = world.operation(case.agent, case.operation);
        if table::no_way(&operation, world.way.for_operation(&operation)).is_some() {
            continue;
        }
        // All of one length, which some answers tell.
        let key = format!("key-{number:03}");
        // Others try what is the owner's; root has his own.
        let owners = before(world, Role::Owner, case, &key).await;
        let mut given = owners.clone();
        if here.contains(&Role::Root) {
            given = before(world, Role::Root, case, &key).await;
        }
        for role in [Role::Root, Role::Denied, Role::Other, Role::Member, Role::Owner] {
            if !here.contains(&role) {
                continue;
            }
            let given = if role == Role::Root { &given } else { &owners };
            let mut call = Call::new(&operation, with(&case.arguments, &key, given));
            call.approval_id = case.is_approved.then(|| given.clone());
            let said = world.call(role, &call).await;
            if said.reason.is_none() && [Role::Root, Role::Owner].contains(&role) {
                let name = (operation.agent.clone(), operation.name.clone());
                good.entry(name).or_insert(number);
            }
            let gives = said.answer().ok().and_then(given_by);
            // It may be so short that it is found in other texts.
            let gives = json!(gives.as_ref().unwrap_or(given)).to_string();
            let plain = |value: &Value| {
                let value = without(&values::readable(value), given);
                let value = value.to_string().replace(&gives, "\"GIVEN\"");
                values::plain(&serde_json::from_str(&value).unwrap(), &key)
            };
            let what = format!("{number} {}", case.arguments);
            sheet.add(&operation, (Kind::Written, role), &what, &said, plain);
        }
    }
    good
}

/// Makes the calls before that of a case and gives what they gave.
async fn before(world: &World, role: Role, case: &Case, key: &str) -> String {
    let mut given = "GIVEN".to_owned();
    for (agent, operation, arguments) in &case.before {
        let operation = world.operation(agent, operation);
        let call = Call::new(&operation, with(arguments, key, &given));
        let said = world.call(role, &call).await;
        given = said.answer().ok().and_then(given_by).unwrap_or(given);
    }
    if case.is_approved {
        let operation = world.operation("approvals", "Approve");
        let call = Call::new(&operation, json!({"id": given}));
        let said = world.call(role.approver(), &call).await;
        assert_eq!(said.reason, None, "{role:?}");
    }
    given
}

/// Some request that an operation takes.
pub fn sample(cases: &[Case], call: &Call) -> Value {
    let operation = &call.operation;
    let is_it = |case: &&Case| case.agent == operation.agent && case.operation == operation.name;
    match cases.iter().find(is_it) {
        Some(case) => with(&case.arguments, "a-key", "given"),
        None if operation.client_streaming => json!([{}]),
        None => json!({}),
    }
}

async fn out_of_form(world: &World, sheet: &mut Sheet, kind: Kind) {
    let cases = cases();
    for operation in inputs(&world.contract, kind, world.way) {
        let mut call = Call::new(&operation, json!({}));
        call.arguments = sample(&cases, &call);
        let expected = if kind == Kind::Unreadable {
            call.form = Form::Unreadable;
            "INVALID_ARGUMENT"
        } else if kind == Kind::TooLarge {
            call.form = Form::TooLarge;
            "LIMIT_EXCEEDED"
        } else {
            call.is_late = true;
            "DEADLINE_EXCEEDED"
        };
        for role in Role::here() {
            let said = world.call(role, &call).await;
            let name = &operation.grpc_path;
            match said.reason.as_deref() {
                // The policy comes first, but not before a message is there.
                Some("ACCESS_DENIED") if kind != Kind::TooLarge => {}
                Some(reason) => assert_eq!(reason, expected, "{name} {role:?} {:?}", world.way),
                None => panic!("{kind:?} {name} {role:?} {:?} went well", world.way),
            }
            sheet.add(&operation, (kind, role), "", &said, Value::clone);
        }
    }
}

/// The same request, twice with one request id, and another one with it. That the second runs nothing is
/// seen from the count of what has run.
async fn repeated(world: &World, sheet: &mut Sheet, good: &Good) {
    let (cases, here) = (cases(), Role::here());
    let mut calls: Vec<(Role, Call, Said)> = Vec::new();
    for operation in inputs(&world.contract, Kind::Repeated, world.way) {
        let is_it = |case: &Case| case.agent == operation.agent && case.operation == operation.name;
        let good = good.get(&(operation.agent.clone(), operation.name.clone())).copied();
        let number = good.or_else(|| cases.iter().position(is_it)).unwrap();
        for role in &here {
            let key = format!("again-{number:03}");
            let mut given = "given".to_owned();
            if [Role::Root, Role::Owner].contains(role) {
                given = before(world, *role, &cases[number], &key).await;
            }
            let arguments = with(&cases[number].arguments, &key, &given);
            let approval_id = cases[number].is_approved.then(|| given.clone());
            let id = format!("{}.{}", operation.agent, operation.name);
            let call =
                Call { request_id: Some(id), approval_id, ..Call::new(&operation, arguments) };
            let said = world.call(*role, &call).await;
            calls.push((*role, call, said));
        }
    }
    // The older interface makes calls of its own for these, which are made again.
    calls.sort_by_key(|(_, call, _)| makes_more_calls(&call.operation));
    let runs = || world.metric("opdbus_stage_duration_seconds_count{stage=\"run\"}");
    let (ran, mut others) = (runs(), 0);
    let mut last = calls.iter_mut().peekable();
    while let Some((role, call, first)) = last.next() {
        call.repeat = Repeat::Same;
        let said = world.call(*role, call).await;
        let what = format!("{} by {role:?} over {:?}", call.operation.grpc_path, world.way);
        assert_eq!((&said.messages, &said.reason), (&first.messages, &first.reason), "{what}");
        // Tasks are waited for and read by calls of their own, and what was only asked for is asked again.
        if call.operation.is_streaming() {
            let is_other = |name: &str| matches!(name, "WaitTask" | "ReadTask");
            others += said.counted.iter().filter(|(_, name, _)| is_other(name)).count();
        }
        others += usize::from(said.reason.as_deref() == Some("APPROVAL_REQUIRED"));
        let is_last = |next: &&mut (Role, Call, Said)| makes_more_calls(&next.1.operation);
        if last.peek().is_some_and(is_last) && !makes_more_calls(&call.operation) {
            let again = runs() - ran - others as f64;
            assert!(again == 0.0, "{:?}: {again} calls ran again", world.way);
        }
        let outcome = Said { messages: Vec::new(), ..said };
        sheet.add(&call.operation, (Kind::Repeated, *role), "", &outcome, Value::clone);
    }
    let mut chance = Chance::new();
    for (role, mut call, first) in calls {
        if table::no_input(&call.operation, Kind::IdReused).is_some() {
            continue;
        }
        call.arguments = another(&mut chance, &call);
        call.repeat = Repeat::Other;
        let mut said = world.call(role, &call).await;
        // By JSON the id is of the call that starts the task, and that was let in.
        if call.operation.is_streaming() && first.reason.as_deref() == Some("ACCESS_DENIED") {
            said.reason = first.reason.clone();
        }
        if first.reason.is_none() && said.reason.as_deref() != Some("INVALID_ARGUMENT") {
            let what = format!("{} by {role:?} over {:?}", call.operation.grpc_path, world.way);
            sheet.problems.push(format!("{what} takes an id again: {said:?}"));
        }
        sheet.add(&call.operation, (Kind::IdReused, role), "", &said, Value::clone);
    }
}

fn makes_more_calls(operation: &Operation) -> bool {
    older::makes_more_calls(&operation.agent, &operation.name)
}

/// Another request than that of `call`.
fn another(chance: &mut Chance, call: &Call) -> Value {
    let name = call.operation.name.as_str();
    if call.operation.agent == "probe" && matches!(name, "Echo" | "Guarded") {
        // They have types that only the tests of the types can write.
        return json!({"text": "another"});
    }
    let input = &call.operation.input;
    let message = |json: &Value| {
        let bytes = json_to_message(input, &json.to_string()).unwrap();
        DynamicMessage::decode(input.clone(), bytes.as_slice()).unwrap()
    };
    let first = message(&call.arguments);
    loop {
        let other = chance.request(&call.operation);
        if message(&other) != first {
            return other;
        }
    }
}

#[test]
fn every_way_gives_the_same_answers_and_counts_and_records_them() {
    on_each_way(&KINDS, run);
}

/// Arguments with the key and what was given in their places.
pub fn with(arguments: &Value, key: &str, given: &str) -> Value {
    let text = arguments.to_string().replace("KEY", key).replace("GIVEN", given);
    serde_json::from_str(&text).unwrap()
}

/// What an answer gives to calls that come after.
pub fn given_by(answer: &Value) -> Option<String> {
    let known = [
        &answer["chain_id"],
        &answer["undo_token"],
        &answer["task"]["id"],
        &answer["command"]["id"],
        &answer["shell"]["id"],
        &answer["approvals"][0]["id"],
    ];
    known.into_iter().find_map(|known| known.as_str()).map(str::to_owned)
}

fn without(answer: &Value, given: &str) -> Value {
    serde_json::from_str(&answer.to_string().replace(given, "GIVEN")).unwrap()
}
