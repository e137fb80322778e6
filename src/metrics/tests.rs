//! What is recorded is what is rendered.

use std::time::Duration;

use super::{Metrics, Rejection, Stage};
use crate::call::{Interface, Transport};
use crate::error::ErrorKind;

#[test]
fn a_call_shows_in_every_family() {
    let metrics = Metrics::new().unwrap();
    let operation = metrics.operation("memory", "Recall");
    operation.arrived(Transport::Dbus, Interface::Own);
    assert_eq!(metrics.running(), 1);
    operation.ended((Transport::Dbus, Interface::Own), None, Duration::from_micros(20));
    operation.arrived(Transport::Grpc, Interface::Own);
    let way = (Transport::Grpc, Interface::Own);
    operation.ended(way, Some(ErrorKind::NotFound), Duration::from_micros(20));
    operation.arrived(Transport::Dbus, Interface::Legacy);
    operation.ended((Transport::Dbus, Interface::Legacy), None, Duration::from_micros(20));
    metrics.stage(Stage::Run, Duration::from_micros(7));
    metrics.rejected(Rejection::QueueFull);

    let text = metrics.render().unwrap();
    for line in [
        r#"opdbus_calls_total{agent="memory",interface="own",operation="Recall",outcome="ok",transport="dbus"} 1"#,
        r#"opdbus_calls_total{agent="memory",interface="own",operation="Recall",outcome="not_found",transport="grpc"} 1"#,
        r#"opdbus_call_duration_seconds_count{agent="memory",interface="own",operation="Recall",transport="dbus"} 1"#,
        r#"opdbus_calls_total{agent="memory",interface="legacy",operation="Recall",outcome="ok",transport="dbus"} 1"#,
        r#"opdbus_calls_in_flight{agent="memory",interface="own",operation="Recall",transport="grpc"} 0"#,
        r#"opdbus_stage_duration_seconds_count{stage="run"} 1"#,
        r#"opdbus_rejected_total{reason="queue_full"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is missing in:\n{text}");
    }
}
