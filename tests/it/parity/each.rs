//! The same work over every way side by side, and the comparison of all that came of it.

use std::thread;

use op_dbus::contract::Contract;
use tokio::runtime::Builder;

use super::call::Way;
use super::roles::Role;
use super::table::{self, Kind, Sheet};
use super::world::{Records, World};

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
                world.check_counts();
                (sheet, world.records().await)
            })
        }
    };
    let runs = Way::ALL.map(|way| thread::spawn(run(way)));
    let (mut sheets, mut records) = (Vec::new(), Vec::new());
    for (way, run) in Way::ALL.into_iter().zip(runs) {
        let (sheet, recorded) = run.join().unwrap();
        sheets.push(sheet);
        records.push((way, recorded));
    }
    let contract = Contract::built_in().unwrap();
    table::check(&contract, kinds, &sheets);
    same_records(&contract, &records);
    sheets
}

/// Checks that the calls of an operation are recorded as the same on each way that has it.
fn same_records(contract: &Contract, records: &[(Way, Records)]) {
    let (mut differences, mut compared) = (Vec::new(), 0);
    for operation in table::operations(contract) {
        let name = (operation.agent.clone(), operation.name.clone());
        let of = |(way, records): &(Way, Records)| {
            let mut told = records.get(&name).cloned().unwrap_or_default();
            // By JSON he is refused already when he is to start the task.
            let denied = format!("uid Some({})", Role::Denied.uid());
            if operation.is_streaming() || operation.name == "StartCall" {
                told.retain(|what, _| !what.contains(&denied));
            }
            (*way, told)
        };
        let here = records.iter().filter(|(way, _)| table::no_way(operation, *way).is_none());
        let mut told = here.map(of);
        let Some((first, expected)) = told.next() else { continue };
        compared += expected.len();
        for (way, found) in told {
            if found != expected {
                differences.push(format!("{name:?} {way:?} {found:?}, {first:?} {expected:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
    assert!(compared > 100, "only {compared} records");
    let too_large =
        |(_, records): &(Way, Records)| records[&(String::new(), String::new())].clone();
    for one in records {
        assert_eq!(too_large(one), too_large(&records[0]), "{:?}", one.0);
    }
}
