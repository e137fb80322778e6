//! The metrics of tasks, of sessions, of approvals, of the rollout and of agents' lives, each family
//! together. What they count is noted elsewhere.

use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::{Adder, ApprovalEvent, SessionEnd};
use crate::call::Transport;
use crate::error::Error;

/// Of tasks and what they give.
pub(super) struct Tasks {
    pub(super) messages: IntCounterVec,
    pub(super) bytes: IntCounterVec,
    pub(super) running: IntGaugeVec,
    pub(super) kept: IntGauge,
}

impl Tasks {
    pub(super) fn new(add: &Adder<'_>) -> Result<Self, Error> {
        const LABELS: &[&str] = &["agent", "operation", "transport"];
        Ok(Self {
            messages: add.counters(
                "opdbus_stream_messages_total",
                "Messages that streams and other tasks have given.",
                LABELS,
            )?,
            bytes: add.counters("opdbus_stream_bytes_total", "Bytes of these messages.", LABELS)?,
            running: add.gauges(
                "opdbus_tasks",
                "Tasks that have not ended, by state.",
                &["state"],
            )?,
            kept: add.gauge("opdbus_tasks_kept", "Tasks that have ended and can still be read.")?,
        })
    }
}

/// Of sessions.
pub(super) struct Sessions {
    pub(super) active: [IntGauge; Transport::ALL.len()],
    pub(super) started: IntCounter,
    pub(super) ended: [IntCounter; SessionEnd::ALL.len()],
}

impl Sessions {
    pub(super) fn new(add: &Adder<'_>) -> Result<Self, Error> {
        let active = add.gauges(
            "opdbus_active_sessions",
            "Sessions that have started and not ended, by the transport that they were started on.",
            &["transport"],
        )?;
        let ended = add.counters(
            "opdbus_sessions_ended_total",
            "Sessions that ended, by the reason.",
            &["reason"],
        )?;
        Ok(Self {
            active: Transport::ALL.map(|transport| active.with_label_values(&[transport.name()])),
            started: add.counter("opdbus_sessions_started_total", "Sessions that were started.")?,
            ended: SessionEnd::ALL.map(|reason| ended.with_label_values(&[reason.name()])),
        })
    }
}

/// Of agents' starts and states.
pub(super) struct Agents {
    pub(super) states: IntGaugeVec,
    pub(super) starts: IntCounterVec,
    pub(super) start_durations: HistogramVec,
}

impl Agents {
    pub(super) fn new(add: &Adder<'_>) -> Result<Self, Error> {
        Ok(Self {
            states: add.gauges(
                "opdbus_agent_state",
                "1 for the state that the agent is in, 0 for the others.",
                &["agent", "state"],
            )?,
            starts: add.counters(
                "opdbus_agent_starts_total",
                "Starts of the agent that ended, by outcome: ok or failed.",
                &["agent", "outcome"],
            )?,
            start_durations: add.histograms(
                "opdbus_agent_start_duration_seconds",
                "Time that starts of the agent took, whatever came of them.",
                &["agent"],
            )?,
        })
    }
}

/// Of calls that must be approved.
pub(super) struct Approvals {
    pub(super) events: [IntCounter; ApprovalEvent::ALL.len()],
    pub(super) pending: IntGauge,
}

impl Approvals {
    pub(super) fn new(add: &Adder<'_>) -> Result<Self, Error> {
        let events = add.counters(
            "opdbus_approvals_total",
            "What happened to calls that must be approved.",
            &["event"],
        )?;
        Ok(Self {
            events: ApprovalEvent::ALL.map(|event| events.with_label_values(&[event.name()])),
            pending: add.gauge("opdbus_approvals_pending", "Calls that wait for approval.")?,
        })
    }
}

/// Of the rollout.
pub(super) struct Rollout {
    pub(super) stages: IntGaugeVec,
    pub(super) shares: IntGaugeVec,
    pub(super) taken_back: IntCounterVec,
}

impl Rollout {
    pub(super) fn new(add: &Adder<'_>) -> Result<Self, Error> {
        Ok(Self {
            stages: add.gauges(
                "opdbus_migration_stage",
                "The stage of a rule: 1 dbus, 2 shadow, 3 canary, 4 grpc, 5 final.",
                &["rule"],
            )?,
            shares: add.gauges(
                "opdbus_migration_share_per_10000",
                "Of 10,000 sessions or clients of a rule, how many take gRPC.",
                &["rule"],
            )?,
            taken_back: add.counters(
                "opdbus_migration_taken_back_total",
                "Times that the canary took a rule back, because gRPC was worse.",
                &["rule"],
            )?,
        })
    }
}
