//! The metrics of one agent's starts and states. Which states there are is not known here.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::Metrics;

/// The handles of one agent.
pub struct AgentMetrics {
    states: Vec<IntGauge>,
    started: IntCounter,
    failed: IntCounter,
    start_duration: Histogram,
}

impl AgentMetrics {
    pub(super) fn new(metrics: &Metrics, agent: &str, states: &[&str]) -> Self {
        let state = |state: &&str| metrics.agents.states.with_label_values(&[agent, state]);
        let starts = |outcome| metrics.agents.starts.with_label_values(&[agent, outcome]);
        Self {
            states: states.iter().map(state).collect(),
            started: starts("ok"),
            failed: starts("failed"),
            start_duration: metrics.agents.start_durations.with_label_values(&[agent]),
        }
    }

    /// Notes that the agent is in the state at this position of its states.
    pub fn is_in(&self, index: usize) {
        for (position, state) in self.states.iter().enumerate() {
            state.set(i64::from(position == index));
        }
    }

    /// Counts a start that ended, and how long it took.
    pub fn started(&self, well: bool, took: Duration) {
        if well { &self.started } else { &self.failed }.inc();
        self.start_duration.observe(took.as_secs_f64());
    }
}
