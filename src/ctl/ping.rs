//! `op-dbusctl ping`: how long a call takes that passes every stage and does nothing.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Outcome;
use super::output::Output;
use super::problem::Problem;
use crate::client::{AgentClient, CallOptions};

/// What is sent and must come back.
const PAYLOAD: &[u8] = b"op-dbusctl ping";

pub(super) async fn run(
    client: &AgentClient,
    count: u32,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let mut times = Vec::new();
    for _ in 0..count {
        let started = Instant::now();
        client.ping(PAYLOAD, options).await?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    let (min, median, p99) = (quantile(&times, 0.0), quantile(&times, 0.5), quantile(&times, 0.99));
    let transport = client.way().name();
    if output.json() {
        let micros = |time: Duration| time.as_micros();
        output.raw_json(
            &json!({
                "transport": transport,
                "target": client.target(),
                "count": count,
                "min_us": micros(min),
                "median_us": micros(median),
                "p99_us": micros(p99),
            })
            .to_string(),
        )?;
    } else {
        output.line(&format!("{count} calls over {transport} ({})", client.target()))?;
        let line = format!("min {}  median {}  p99 {}", shown(min), shown(median), shown(p99));
        output.line(&line)?;
    }
    Ok(Outcome::Done)
}

/// The time that the share `share` of the sorted `times` does not exceed.
fn quantile(times: &[Duration], share: f64) -> Duration {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a length is a position in it"
    )]
    let rank = (times.len() as f64 * share).ceil() as usize;
    times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// A time as people read it.
pub(super) fn shown(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    if micros < 1_000.0 {
        format!("{micros:.0} µs")
    } else if micros < 1e6 {
        format!("{:.2} ms", micros / 1e3)
    } else {
        format!("{:.2} s", micros / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_micros).collect();
        assert_eq!(quantile(&times, 0.0), Duration::from_micros(1));
        assert_eq!(quantile(&times, 0.5), Duration::from_micros(50));
        assert_eq!(quantile(&times, 0.99), Duration::from_micros(99));
        assert_eq!(quantile(&times[..1], 0.99), Duration::from_micros(1));
    }
}
