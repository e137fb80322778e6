//! Calls that their clients give up. The only place that each client has is taken, so all of them wait:
//! there is no time in which one could end by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use op_dbus::contract::Operation;
use op_dbus::executor::Config;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::answers::{given_by, sample};
use super::call::{Call, Said, Way};
use super::cases::cases;
use super::each::on_each_way;
use super::roles::{self, Role};
use super::table::{Kind, Sheet, inputs};
use super::world::World;

/// Time that no call of these needs.
const LONG: &str = "600s";

/// How often it is looked whether calls have come or gone, and what lies between.
pub const LOOKS: usize = 12_000;
pub const PAUSE: Duration = Duration::from_millis(5);

/// Operations that make a call of their own, which waits for them.
const MAKE_CALLS: [&str; 2] = ["BatchCall", "BatchCallStream"];

/// What operations are given that take no place, so that they wait: for what goes on meanwhile.
async fn prepared(world: &World, role: Role) -> BTreeMap<&'static str, Value> {
    let given = |agent, name, arguments| async move {
        let operation = world.operation(agent, name);
        let said = world.call(role, &Call::new(&operation, arguments)).await;
        given_by(said.answer().unwrap()).unwrap()
    };
    let sleep = json!({"argv": ["sleep", "600"], "directory": "/tmp"});
    let command = given("commands", "Start", sleep).await;
    let chain = given("sequential_thinking", "StartChain", json!({"problem": "why"})).await;
    let batch = json!({"items": [{"agent": "probe", "operation": "nothing"}]});
    BTreeMap::from([
        ("calls.BatchCall", batch.clone()),
        ("calls.BatchCallStream", json!({"batch": batch})),
        ("commands.Output", json!({"id": command, "until": "WAIT_UNTIL_EXIT", "wait": "60s"})),
        ("commands.Wait", json!({"id": command, "wait": "60s"})),
        ("memory.Watch", json!({})),
        ("sequential_thinking.WatchChain", json!({"chain_id": chain})),
    ])
}

/// Waits until so many calls are under way.
async fn until_under_way(world: &World, expected: impl Fn() -> i64) {
    let metrics = world.service.executor.metrics();
    for _ in 0..LOOKS {
        if metrics.running() == expected() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("{:?}: {} calls are under way, not {}", world.way, metrics.running(), expected());
}

/// How many calls have got past waiting for a place.
fn admitted(world: &World) -> f64 {
    world.metric("opdbus_stage_duration_seconds_count{stage=\"admit\"}")
}

async fn until_admitted(world: &World, expected: f64) {
    for _ in 0..LOOKS {
        if admitted(world) >= expected {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("{:?}: a call has got no place", world.way);
}

async fn run(way: Way) -> (World, Sheet) {
    let mut config = roles::config();
    config.share.max_in_flight = 1;
    let config = Config { default_timeout: Duration::from_secs(600), ..config };
    let world = World::start(way, config).await;
    let mut sheet = Sheet::new(way);
    for role in Role::here() {
        let mut prepared = BTreeMap::new();
        if role != Role::Denied {
            prepared = self::prepared(&world, role).await;
            let task = linger(&world, role).await;
            prepared.insert("tasks.WaitTask", json!({"id": task, "timeout": LONG}));
            prepared.insert("tasks.WatchTask", json!({"id": task}));
            hold(&world, role).await;
        }
        cancel_all(&world, &mut sheet, role, &prepared).await;
    }
    (world, sheet)
}

/// Starts a task that goes on.
async fn linger(world: &World, role: Role) -> String {
    let before = admitted(world);
    let linger = json!({"agent": "probe", "operation": "linger"});
    let linger = Call::new(&world.operation("calls", "StartCall"), linger);
    let task = given_by(world.call(role, &linger).await.answer().unwrap()).unwrap();
    // The call and the task that it starts; neither takes a place.
    until_admitted(world, before + 2.0).await;
    task
}

/// Takes the only place that a user has.
async fn hold(world: &World, role: Role) {
    let before = admitted(world);
    let sleep = Call::new(&world.operation("probe", "Sleep"), json!({"duration": LONG}));
    let (client, way) = (world.client(role).clone(), world.way);
    tokio::spawn(async move { client.call(way, &sleep).await });
    until_admitted(world, before + 1.0).await;
}

/// One user makes every call and goes away.
async fn cancel_all(
    world: &World,
    sheet: &mut Sheet,
    role: Role,
    prepared: &BTreeMap<&'static str, Value>,
) {
    let cases = cases();
    let under_way = world.service.executor.metrics().running();
    let client = world.connect(role).await;
    let mut calls = Vec::new();
    let mut work = JoinSet::new();
    for operation in inputs(&world.contract, Kind::Cancelled, world.way) {
        let mut call = Call::new(&operation, json!({}));
        call.ends_with_client = true;
        let name = format!("{}.{}", operation.agent, operation.name);
        let waiting = prepared.get(name.as_str()).cloned();
        call.arguments = waiting.unwrap_or_else(|| sample(&cases, &call));
        let (client, way, number) = (client.clone(), world.way, calls.len());
        calls.push(call.clone());
        work.spawn(async move {
            let said = client.begin(way, &call).await;
            (number, said)
        });
    }
    // Streams over D-Bus and tasks are begun and then go on; the others are told when they end.
    let mut ended: BTreeMap<usize, Said> = BTreeMap::new();
    let makes_call = |number: &usize| MAKE_CALLS.contains(&calls[*number].operation.name.as_str());
    let mut looks = LOOKS;
    loop {
        while let Some(done) = work.try_join_next() {
            let (number, said) = done.unwrap();
            if said.reason.is_some() || !calls[number].operation.is_streaming() {
                ended.insert(number, said);
            }
        }
        let waiting: Vec<usize> = (0..calls.len()).filter(|it| !ended.contains_key(it)).collect();
        let inner = waiting.iter().filter(|number| makes_call(number)).count();
        let expected = under_way + i64::try_from(waiting.len() + inner).unwrap();
        if world.service.executor.metrics().running() == expected {
            break;
        }
        looks -= 1;
        if looks == 0 {
            let absent: Vec<_> = waiting.iter().map(|number| &calls[*number].operation).collect();
            let absent = absent.into_iter().filter(|it| !is_under_way(world, it));
            let absent: Vec<_> = absent.map(|it| &it.grpc_path).collect();
            let running = world.service.executor.metrics().running();
            panic!("{:?} {role:?}: {running} of {expected} run, without {absent:?}", world.way);
        }
        tokio::time::sleep(PAUSE).await;
    }
    work.shutdown().await;
    client.close().await;
    until_under_way(world, || under_way).await;
    for (number, call) in calls.iter().enumerate() {
        let operation = &call.operation;
        let said = ended.remove(&number).unwrap_or_else(|| cancelled(world, call));
        let reason = said.reason.as_deref();
        let what = format!("{} by {role:?} over {:?}", operation.grpc_path, world.way);
        if !matches!(reason, Some("ACCESS_DENIED" | "CANCELLED")) {
            sheet.problems.push(format!("{what}: {said:?}"));
        }
        world.note(operation, &said);
        sheet.add(operation, (Kind::Cancelled, role), "", &said, Value::clone);
    }
}

/// True if a call of the operation goes on.
fn is_under_way(world: &World, operation: &Operation) -> bool {
    let [transport, interface] = world.way.for_operation(operation).labels();
    let (agent, name) = (&operation.agent, &operation.name);
    let labels = format!(
        "agent=\"{agent}\",interface=\"{interface}\",operation=\"{name}\",transport=\"{transport}\""
    );
    world.metric(&format!("opdbus_calls_in_flight{{{labels}}}")) > 0.0
}

/// What is counted of a call that was given up.
fn cancelled(world: &World, call: &Call) -> Said {
    let operation = &call.operation;
    let mut said = Said { reason: Some("CANCELLED".to_owned()), ..Said::default() };
    said.counts(operation);
    if MAKE_CALLS.contains(&operation.name.as_str()) {
        said.counts(&world.operation("probe", "Nothing"));
    }
    let by_json =
        matches!(world.way.for_operation(operation), Way::JsonOverGrpc | Way::JsonOverDbus);
    if by_json && operation.is_streaming() {
        said.counts_as(&world.operation("calls", "StartCall"), "ok");
    }
    said
}

#[test]
fn a_call_that_is_given_up_is_cancelled_on_every_way() {
    on_each_way(&[Kind::Cancelled], run);
}
