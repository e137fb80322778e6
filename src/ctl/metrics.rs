//! `op-dbusctl metrics`: what was called over which transport, side by side.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Outcome;
use super::exposition::{self, Family, Sample};
use super::output::Output;
use super::ping;
use super::problem::Problem;
use super::table::Table;
use crate::call::{Interface, Transport};
use crate::client::{AgentClient, CallOptions};

pub(super) async fn run(
    client: &AgentClient,
    raw: bool,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let text = client.metrics(options).await?.message.text;
    if raw {
        output.line(text.trim_end())?;
        return Ok(Outcome::Done);
    }
    let families = exposition::parse(&text);
    if output.json() {
        output.raw_json(&exposition::to_json(&families).to_string())?;
        return Ok(Outcome::Done);
    }
    write_calls(&families, output)?;
    write_others(&families, output)?;
    Ok(Outcome::Done)
}

/// What is known of one operation on one transport.
#[derive(Debug, Default)]
struct Calls {
    calls: f64,
    errors: f64,
    /// Those of the calls that came by an older interface.
    legacy: f64,
    /// Upper bound in seconds and how many calls did not exceed it, as the histogram has them.
    buckets: Vec<(f64, f64)>,
}

/// The calls by agent and operation, one entry for each transport.
fn by_operation(families: &[Family]) -> BTreeMap<String, [Calls; Transport::ALL.len()]> {
    let mut operations: BTreeMap<String, [Calls; Transport::ALL.len()]> = BTreeMap::new();
    for sample in families.iter().flat_map(|family| &family.samples) {
        let label = |name: &str| sample.labels.get(name).map(String::as_str).unwrap_or_default();
        let transport =
            Transport::ALL.into_iter().find(|transport| transport.name() == label("transport"));
        let Some(transport) = transport else { continue };
        let name = format!("{}.{}", label("agent"), label("operation"));
        match sample.name.as_str() {
            "opdbus_calls_total" => {
                let calls = &mut operations.entry(name).or_default()[transport.index()];
                calls.calls += sample.value;
                if label("outcome") != "ok" {
                    calls.errors += sample.value;
                }
                if label("interface") == Interface::Legacy.name() {
                    calls.legacy += sample.value;
                }
            }
            "opdbus_call_duration_seconds_bucket" => {
                if let Ok(bound) = label("le").parse() {
                    let calls = &mut operations.entry(name).or_default()[transport.index()];
                    calls.add(bound, sample.value);
                }
            }
            _ => {}
        }
    }
    operations
}

fn write_calls(families: &[Family], output: &mut Output) -> Result<(), Problem> {
    let operations = by_operation(families);
    if operations.is_empty() {
        output.line("Nothing was called yet.")?;
        return Ok(());
    }
    let mut table = Table::new(&[
        "OPERATION",
        ">D-BUS CALLS",
        ">OLDER",
        ">ERRORS",
        ">P50",
        ">GRPC CALLS",
        ">ERRORS",
        ">P50",
    ]);
    for (name, [dbus, grpc]) in &operations {
        let older = if dbus.calls == 0.0 { "-".to_owned() } else { dbus.legacy.to_string() };
        let (dbus, grpc) = (dbus.cells(), grpc.cells());
        table.row([name, &dbus[0], &older, &dbus[1], &dbus[2], &grpc[0], &grpc[1], &grpc[2]]);
    }
    table.write(0, output)?;
    Ok(())
}

/// What does not belong to an operation: the numbers that are not 0.
fn write_others(families: &[Family], output: &mut Output) -> Result<(), Problem> {
    let others = families
        .iter()
        .filter(|family| matches!(family.kind.as_str(), "counter" | "gauge"))
        .flat_map(|family| &family.samples)
        .filter(|sample| sample.value != 0.0 && sample.name.starts_with("opdbus_"))
        .filter(|sample| sample.name != "opdbus_calls_total");
    let mut table = Table::new(&[">VALUE", "METRIC"]);
    let mut empty = true;
    for sample in others {
        table.row([&sample.value.to_string(), &title(sample)]);
        empty = false;
    }
    if !empty {
        output.line("")?;
        table.write(0, output)?;
    }
    Ok(())
}

/// A metric's name and labels as people read them.
fn title(sample: &Sample) -> String {
    let labels: Vec<String> =
        sample.labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
    format!("{} {}", sample.name, labels.join(" ")).trim_end().to_owned()
}

impl Calls {
    /// Adds one bucket of one interface.
    fn add(&mut self, bound: f64, count: f64) {
        match self.buckets.iter_mut().find(|(known, _)| *known == bound) {
            Some((_, total)) => *total += count,
            None => self.buckets.push((bound, count)),
        }
    }

    /// Calls, errors and the median.
    fn cells(&self) -> [String; 3] {
        if self.calls == 0.0 {
            return ["-".to_owned(), "-".to_owned(), "-".to_owned()];
        }
        [self.calls.to_string(), self.errors.to_string(), self.median()]
    }

    /// The median, as exact as the buckets are.
    fn median(&self) -> String {
        let Some(total) = self.buckets.iter().map(|(_, count)| *count).reduce(f64::max) else {
            return "-".to_owned();
        };
        let half = total / 2.0;
        let mut below = (0.0, 0.0);
        for &(bound, count) in &self.buckets {
            if count >= half && count > 0.0 {
                if bound.is_infinite() {
                    return format!("over {}", ping::shown(Duration::from_secs_f64(below.0)));
                }
                let share = (half - below.1) / (count - below.1);
                let seconds = below.0 + (bound - below.0) * share;
                return ping::shown(Duration::from_secs_f64(seconds));
            }
            below = (bound, count);
        }
        "-".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::metrics::Metrics;

    #[test]
    fn both_transports_stand_side_by_side() {
        let metrics = Metrics::new().unwrap();
        let operation = metrics.operation("memory", "Recall");
        for (interface, error) in [
            (Interface::Own, None),
            (Interface::Legacy, None),
            (Interface::Own, Some(ErrorKind::NotFound)),
        ] {
            operation.arrived(Transport::Dbus, interface);
            operation.ended((Transport::Dbus, interface), error, Duration::from_micros(20));
        }
        operation.arrived(Transport::Grpc, Interface::Own);
        operation.ended((Transport::Grpc, Interface::Own), None, Duration::from_secs(1000));
        let families = exposition::parse(&metrics.render().unwrap());
        let operations = by_operation(&families);
        let [dbus, grpc] = &operations["memory.Recall"];
        assert_eq!(dbus.cells(), ["3", "1", "18 µs"]);
        assert_eq!((dbus.legacy, grpc.legacy), (1.0, 0.0));
        assert_eq!(grpc.cells(), ["1", "0", "over 300.00 s"]);
        assert_eq!(Calls::default().cells(), ["-", "-", "-"]);
    }
}
