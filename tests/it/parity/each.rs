//! The same work over every way side by side, and the comparison of all that came of it.

use std::collections::BTreeMap;
use std::thread;

use op_dbus::contract::Contract;
use tokio::runtime::Builder;

use super::call::Way;
use super::older;
use super::roles::Role;
use super::table::{self, Kind, Sheet};
use super::world::{Records, World};

/// How much is told of what differs.
const PROBLEMS: usize = 40;
const PROBLEM_CHARS: usize = 700;

/// Does `work`, which tries these kinds of input, in a world for each way, and checks that it came to the
/// same on all of them. Gives the sheets in the order of the ways.
pub fn on_each_way<F>(kinds: &[Kind], work: fn(Way) -> F) -> Vec<Sheet>
where
    F: Future<Output = (World, Sheet)> + 'static,
{
    let run = |way| {
        move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (world, sheet) = work(way).await;
                let problems = world.miscounted();
                (sheet, world.records().await, problems)
            })
        }
    };
    let runs = Way::ALL.map(|way| thread::spawn(run(way)));
    // All of them end before one that has failed is told of.
    let runs = runs.map(thread::JoinHandle::join);
    let (mut sheets, mut records, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for (way, run) in Way::ALL.into_iter().zip(runs) {
        let (sheet, recorded, miscounted) = run.unwrap();
        sheets.push(sheet);
        records.push((way, recorded));
        problems.extend(miscounted);
    }
    let contract = Contract::built_in().unwrap();
    problems.extend(table::problems(&contract, kinds, &sheets));
    problems.extend(recorded_otherwise(&contract, &records));
    let cut = |problem: &String| problem.chars().take(PROBLEM_CHARS).collect::<String>();
    let told: Vec<String> = problems.iter().take(PROBLEMS).map(cut).collect();
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), told.join("\n"));
    sheets
}

/// What is recorded of the calls of an operation on one way and not on another that has it.
fn recorded_otherwise(contract: &Contract, records: &[(Way, Records)]) -> Vec<String> {
    let (mut problems, mut compared) = (Vec::new(), 0);
    for operation in table::operations(contract) {
        let name = (operation.agent.clone(), operation.name.clone());
        let of = |(way, records): &(Way, Records)| {
            let mut told = records.get(&name).cloned().unwrap_or_default();
            // By JSON he is refused already when he is to start the task.
            let denied = format!("uid Some({})", Role::Denied.uid());
            if operation.is_streaming() || operation.name == "StartCall" {
                told.retain(|what, _| !what.contains(&denied));
            }
            // One that cannot be read is a task already over gRPC, which hands it on as it is, and one that
            // is sent again leaves a record of its own only where it bears the request id itself.
            if operation.is_streaming() {
                told.retain(|what, _| !what.starts_with("call "));
                without_unread(&mut told);
            }
            (*way, told)
        };
        let has = |way: Way| {
            let is_older = way == Way::Older;
            table::no_way(operation, way).is_none()
                && !(is_older && older::makes_more_calls(&operation.agent, &operation.name))
        };
        let mut told = records.iter().filter(|(way, _)| has(*way)).map(of);
        let Some((first, expected)) = told.next() else { continue };
        compared += expected.len();
        for (way, found) in told {
            let differs = |what: &&String| {
                found.get(*what) != expected.get(*what)
                    && is_told(&found, what)
                    && is_told(&expected, what)
            };
            for what in found.keys().chain(expected.keys()).filter(differs) {
                let [found, expected] = [&found, &expected].map(|told| told.get(what).copied());
                problems
                    .push(format!("{name:?} {way:?} {found:?}, {first:?} {expected:?}: {what}"));
            }
        }
    }
    assert!(compared > 100, "only {compared} records");
    problems.extend(records.iter().flat_map(unpaired));
    // One that is too large belongs to no operation.
    let too_large = |records: &Records| records.get(&(String::new(), String::new())).cloned();
    let expected = too_large(&records[0].1).unwrap_or_default();
    for (way, records) in records {
        let found = too_large(records).unwrap_or_default();
        let unknown = found.keys().filter(|what| !expected.contains_key(*what));
        problems.extend(unknown.map(|what| format!("{way:?} has recorded {what}")));
    }
    problems
}

/// Leaves out the ends of calls with requests that the agent does not take, and their beginnings.
fn without_unread(records: &mut BTreeMap<String, usize>) {
    for what in records.keys().cloned().collect::<Vec<_>>() {
        let said = what.strip_prefix("end ").and_then(|what| what.strip_suffix("INVALID_ARGUMENT"));
        let Some(said) = said else { continue };
        let ended = records.remove(&what).unwrap_or_default();
        let begun = format!("start {said}OK");
        let left = records.get(&begun).map_or(0, |count| count.saturating_sub(ended));
        match left {
            0 => drop(records.remove(&begun)),
            left => drop(records.insert(begun, left)),
        }
    }
}

/// What has begun and not ended, or ended and not begun, by these records.
fn unpaired((way, records): &(Way, Records)) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, records) in records {
        let mut open: BTreeMap<&str, i64> = BTreeMap::new();
        for (what, count) in records {
            let (kind, said) = what.split_once(' ').unwrap();
            let (who, _) = said.rsplit_once(": ").unwrap();
            let count = i64::try_from(*count).unwrap();
            match kind {
                "start" => *open.entry(who).or_default() += count,
                "end" => *open.entry(who).or_default() -= count,
                _ => {}
            }
        }
        let open = open.into_iter().filter(|(_, count)| *count != 0);
        problems.extend(open.map(|(who, count)| {
            format!("{way:?} has {count} more beginnings than ends of {name:?} {who}")
        }));
    }
    problems
}

/// False of a refusal if there is none of the same user: of those that come too fast only the first are
/// recorded each by itself.
fn is_told(records: &BTreeMap<String, usize>, what: &str) -> bool {
    let Some((user, _)) = what.split_once(" refuse by ") else { return true };
    records.keys().any(|other| other.starts_with(user))
}
