//! Start and size: from exec to READY, resident memory, the size of the program.

use crate::measure::{Plan, median};
use crate::parties::Daemon;

/// Starts the daemon some times and prints the medians.
pub fn run(plan: &Plan) {
    let mut ready = Vec::new();
    let mut resident = Vec::new();
    for _ in 0..plan.runs.max(5) {
        let daemon = Daemon::start("full");
        ready.push(daemon.ready_after.as_secs_f64() * 1000.0);
        resident.push(daemon.resident_kib() as f64 / 1024.0);
    }
    let size = std::fs::metadata(env!("CARGO_BIN_EXE_op-dbusd")).unwrap().len();
    println!("\nStart");
    println!("  {:<44} {:>10.1} ms", "exec to READY, new state folder", median(ready));
    println!("  {:<44} {:>10.1} MiB", "resident memory when ready", median(resident));
    println!("  {:<44} {:>10.1} MiB", "op-dbusd, stripped", size as f64 / 1024.0 / 1024.0);
}
