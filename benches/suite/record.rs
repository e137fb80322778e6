//! What observing one call costs, in this process.

use std::time::{Duration, Instant};

use op_dbus::call::Transport;
use op_dbus::metrics::{Metrics, Stage};

use crate::measure::{Plan, median};

/// Records what a call records and prints the median time for it.
pub fn run(plan: &Plan) {
    const CALLS: u32 = 100_000;
    let metrics = Metrics::new().unwrap();
    let operation = metrics.operation("bench", "Record");
    let times = (0..plan.runs.max(5)).map(|_| {
        let start = Instant::now();
        for _ in 0..CALLS {
            operation.arrived(Transport::Grpc);
            for stage in Stage::ALL {
                metrics.stage(stage, Instant::now().elapsed());
            }
            operation.ended(Transport::Grpc, None, Duration::from_micros(20));
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
    });
    println!("\nMetrics");
    println!(
        "  {:<44} {:>10.0} ns",
        "recording one call, clock readings included",
        median(times.collect())
    );
}
