//! Takes up a changed configuration while the service runs: all of it is checked first, and a wrong
//! one changes nothing.

use std::sync::Arc;

use super::service::Service;
use super::{Exit, Failure, notify};
use crate::config::{Agents, Entry, Loaded};
use crate::events;
use crate::executor::Executor;
use crate::status::Status;

/// How warnings about missing agents begin.
const MISSING_AGENT: &str = "[agents] names ";

/// How warnings about rules begin.
const IDLE_RULE: &str = "[[policy]] ";

/// How warnings about keys that wait for a restart begin.
const NEEDS_RESTART: &str = "a restart is needed for ";

/// What a reload takes up: whole sections (`executor.`) and single keys.
const TAKEN_UP: [&str; 9] = [
    "approvals.",
    "batch.",
    "client.",
    "daemon.",
    "executor.",
    "log.level",
    "policy",
    "sessions.",
    "tasks.",
];

/// Reads the configuration anew, and puts it in force if it is without fault.
pub(super) async fn reload(service: &mut Service) {
    notify::reloading();
    let args = service.args.clone();
    // Apart, because files and names of users may be far away.
    let loaded = tokio::task::spawn_blocking(move || args.load_config()).await;
    match loaded {
        Ok(Ok(config)) => take_up(service, config),
        Ok(Err(failure)) => refuse(&service.status, &failure),
        Err(_panicked) => {
            let text = "reading the configuration panicked; the log says where".to_owned();
            refuse(&service.status, &Failure { exit: Exit::Internal, text });
        }
    }
    notify::ready(&notify::summary(&service.status.report()));
}

fn refuse(status: &Status, failure: &Failure) {
    tracing::error!(
        message_id = events::CONFIG_REFUSED,
        "the new configuration is refused and the old one stays in force: {}",
        failure.text
    );
    status.config_refused(&*failure.text);
}

fn take_up(service: &mut Service, config: Loaded) {
    let waiting = needs_restart(service, &config);
    for warning in &waiting {
        tracing::warn!(message_id = events::NEEDS_RESTART, "{warning}");
    }
    service.status.replace_warnings(NEEDS_RESTART, waiting);
    let settings = config.settings;
    service.executor.reconfigure(settings.executor);
    service.logging.set_level(settings.log.level);
    service.drain_grace = settings.drain_grace;
    service.status.config_reloaded(config.files);
    tracing::info!(message_id = events::CONFIG_RELOADED, "the new configuration is in force");
    warn_of_missing_agents(&settings.agents, &service.executor, &service.status);
    warn_of_idle_rules(&service.executor, &service.status);
}

/// A warning for each key that differs from what the service was started with and that only a start
/// takes up.
fn needs_restart(service: &Service, config: &Loaded) -> Vec<String> {
    let overridden = |entry: &Entry| entry.name == "dbus.bus" && service.args.bus.is_some();
    service
        .started_with
        .changed(config)
        .into_iter()
        .filter(|entry| !TAKEN_UP.iter().any(|taken_up| entry.name.starts_with(taken_up)))
        .filter(|entry| !overridden(entry))
        .map(|entry| format!("{NEEDS_RESTART}{} = {}", entry.name, entry.value))
        .collect()
}

/// Logs and notes which agents the configuration names that this build lacks.
pub(super) fn warn_of_missing_agents(lists: &Agents, executor: &Arc<Executor>, status: &Status) {
    let agents = executor.registry().snapshot().agents();
    let known: Vec<_> = agents.iter().map(|agent| agent.id.clone()).collect();
    let warnings = missing_agents(lists, &known);
    for warning in &warnings {
        tracing::warn!(message_id = events::AGENT_MISSING, "{warning}");
    }
    status.replace_warnings(MISSING_AGENT, warnings);
}

/// Logs and notes which rules of the policy are about nothing that is served.
pub(super) fn warn_of_idle_rules(executor: &Arc<Executor>, status: &Status) {
    let warnings = executor.rules_about_nothing();
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    status.replace_warnings(IDLE_RULE, warnings);
}

/// A warning for each agent that `lists` name and that is not `known`.
pub(super) fn missing_agents(lists: &Agents, known: &[String]) -> Vec<String> {
    lists
        .run_on_connection
        .iter()
        .chain(&lists.on_demand)
        .filter(|id| !known.contains(id))
        .map(|id| format!("{MISSING_AGENT}{id}, which this build of op-dbus lacks"))
        .collect()
}
