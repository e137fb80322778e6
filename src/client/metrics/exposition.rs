//! A snapshot in Prometheus' text format. Nothing is counted here.

use std::fmt::{self, Display, Write as _};

use super::snapshot::{MetricsSnapshot, OperationMetrics, RequestMetrics};

/// What the name of each family begins with.
const PREFIX: &str = "opdbus_client_";

/// The whole text.
pub(super) fn render(snapshot: &MetricsSnapshot) -> String {
    let mut page = Page(String::new());
    page.ways(snapshot, "requests_total", "Requests over a way, retries included.", |way| {
        way.requests
    });
    page.durations(snapshot);
    page.family("active_sessions", "gauge", "Sessions begun and not ended.");
    page.sample("active_sessions", "", "", snapshot.active_sessions);
    page.ways(snapshot, "streaming_chunks_total", "Messages of streams that came.", |way| {
        way.streaming_chunks
    });
    page.family("errors_total", "counter", "Requests that failed, by reason.");
    for (operation, way) in all(snapshot) {
        for (reason, count) in &way.errors {
            let labels = format!("{},reason=\"{reason}\"", labels(operation, Some(way)));
            page.sample("errors_total", "", &labels, count);
        }
    }
    page.ways(snapshot, "retries_total", "Requests sent again after one that failed.", |way| {
        way.retries
    });
    page.ways(snapshot, "forgone_total", "Requests kept back that would have failed.", |way| {
        way.forgone
    });
    page.family("fallbacks_total", "counter", "Calls that fell back from this way on another.");
    for operation in &snapshot.operations {
        for (way, count) in &operation.fallbacks {
            let labels = format!("{},way=\"{}\"", labels(operation, None), way.name());
            page.sample("fallbacks_total", "", &labels, count);
        }
    }
    page.family("breaker_state", "gauge", "0: calls take the way; 1: one tries it; 2: none does.");
    for (way, state) in snapshot.breakers {
        page.sample("breaker_state", "", &format!("way=\"{}\"", way.name()), state as u8);
    }
    page.shadow(snapshot, "compared", "Calls compared over both ways.", |op| op.compared);
    page.shadow(snapshot, "differed", "Compared calls that differed.", |op| op.differed);
    page.shadow(snapshot, "skipped", "Calls left out of the comparison.", |op| op.skipped);
    page.0
}

fn all(snapshot: &MetricsSnapshot) -> impl Iterator<Item = (&OperationMetrics, &RequestMetrics)> {
    snapshot
        .operations
        .iter()
        .flat_map(|operation| operation.ways.iter().map(move |way| (operation, way)))
}

fn labels(operation: &OperationMetrics, way: Option<&RequestMetrics>) -> String {
    let mut labels = format!(
        "agent=\"{}\",operation=\"{}\"",
        Escaped(&operation.agent),
        Escaped(&operation.operation)
    );
    if let Some(way) = way {
        labels.push_str(",way=\"");
        labels.push_str(way.way.name());
        labels.push('"');
    }
    labels
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}"));
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: &str, value: impl Display) {
        match labels {
            "" => self.line(format_args!("{PREFIX}{name}{suffix} {value}")),
            labels => self.line(format_args!("{PREFIX}{name}{suffix}{{{labels}}} {value}")),
        }
    }

    fn ways(
        &mut self,
        snapshot: &MetricsSnapshot,
        name: &str,
        help: &str,
        value: fn(&RequestMetrics) -> u64,
    ) {
        self.family(name, "counter", help);
        for (operation, way) in all(snapshot) {
            self.sample(name, "", &labels(operation, Some(way)), value(way));
        }
    }

    fn shadow(
        &mut self,
        snapshot: &MetricsSnapshot,
        what: &str,
        help: &str,
        value: fn(&OperationMetrics) -> u64,
    ) {
        let name = format!("shadow_{what}_total");
        self.family(&name, "counter", help);
        for operation in snapshot.operations.iter().filter(|op| op.compared + op.skipped > 0) {
            self.sample(&name, "", &labels(operation, None), value(operation));
        }
    }

    fn durations(&mut self, snapshot: &MetricsSnapshot) {
        const NAME: &str = "request_duration_seconds";
        self.family(NAME, "histogram", "The time of requests over a way.");
        for (operation, way) in all(snapshot) {
            let labels = labels(operation, Some(way));
            let mut count = 0;
            for (bound, below) in &way.duration_classes {
                let bound =
                    bound.map_or("+Inf".to_owned(), |bound| bound.as_secs_f64().to_string());
                self.sample(NAME, "_bucket", &format!("{labels},le=\"{bound}\""), below);
                count = *below;
            }
            self.sample(NAME, "_sum", &labels, way.duration.as_secs_f64());
            self.sample(NAME, "_count", &labels, count);
        }
    }

    /// Writing to a `String` cannot fail.
    fn line(&mut self, text: fmt::Arguments<'_>) {
        if writeln!(self.0, "{text}").is_err() {
            self.0.clear();
        }
    }
}

/// A label's value.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}
