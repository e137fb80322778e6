//! Takes up a changed configuration while the service runs: all of it is checked first, and a wrong
//! one changes nothing.

use std::sync::Arc;

use super::service::{self, Service};
use super::{Args, Exit, Failure, notify};
use crate::config::{Agents, Entry, Loaded};
use crate::events;
use crate::executor::Executor;
use crate::status::Status;
use crate::transport::grpc::Access;

/// How warnings about missing agents begin.
const MISSING_AGENT: &str = "[agents] names ";

/// How warnings about rules begin.
const IDLE_RULE: &str = "[[policy]] ";

/// How warnings about keys that wait for a restart begin.
const NEEDS_RESTART: &str = "a restart is needed for ";

/// What a reload takes up: whole sections (`executor.`) and single keys.
const TAKEN_UP: [&str; 19] = [
    "approvals.",
    "batch.",
    "client.",
    "commands.",
    "daemon.",
    "executor.",
    "grpc.token",
    "limits.",
    "log.level",
    "migration.",
    "policy",
    "sessions.",
    "tasks.",
    "tls.certificate",
    "tls.client",
    "tls.handshake_timeout_ms",
    "tls.key",
    "tls.max_handshakes",
    "tls.min_version",
];

/// Reads the configuration anew, and puts it in force if it is without fault.
pub(super) async fn reload(service: &mut Service) {
    notify::reloading();
    match load(&service.args).await {
        Ok((config, access)) => {
            if let (Some(grpc), Some(access)) = (&service.grpc, access) {
                grpc.replace_access(access);
            }
            take_up(service, config).await;
        }
        Err(failure) => refuse(&service.status, &failure),
    }
    notify::ready(&notify::summary(&service.status.report()));
}

/// The new configuration, and what clients are to be known by: all that can be wrong with it.
async fn load(args: &Args) -> Result<(Loaded, Option<Access>), Failure> {
    let own = args.clone();
    // Apart, because files and names of users may be far away.
    let config = tokio::task::spawn_blocking(move || own.load_config()).await.map_err(|_| {
        let text = "reading the configuration panicked; the log says where".to_owned();
        Failure { exit: Exit::Internal, text }
    })??;
    let access = match &config.settings.grpc {
        Some(grpc) => Some(service::access(grpc.access.clone()).await?),
        None => None,
    };
    Ok((config, access))
}

fn refuse(status: &Status, failure: &Failure) {
    tracing::error!(
        message_id = events::CONFIG_REFUSED,
        "the new configuration is refused and the old one stays in force: {}",
        failure.text
    );
    status.config_refused(&*failure.text);
}

async fn take_up(service: &mut Service, config: Loaded) {
    let waiting = needs_restart(service, &config);
    for warning in &waiting {
        tracing::warn!(message_id = events::NEEDS_RESTART, "{warning}");
    }
    service.status.replace_warnings(NEEDS_RESTART, waiting);
    let settings = config.settings;
    service.executor.reconfigure(settings.executor);
    service.workers.configure(settings.worker_settings);
    service.migration.configure(settings.migration).await;
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
