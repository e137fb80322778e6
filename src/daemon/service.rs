//! The service as it runs: its parts are started in order, kept, and stopped in order.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::logging::{Logging, to_journal};
use super::metrics_http::Endpoint;
use super::notify::{self, Watchdog};
use super::reload;
use super::signals::{Request, Signals};
use super::{Args, Exit, Failure, compose, workers};
use crate::agents::Setup;
use crate::audit::{self, Audit};
use crate::call::Transport;
use crate::config::{Loaded, Settings};
use crate::events;
use crate::executor::{Authority, Executor};
use crate::host::worker::Workers;
use crate::metrics::Metrics;
use crate::polkit::{self, Polkit};
use crate::status::Status;
use crate::transport::{dbus, grpc};

/// What stopping takes besides waiting for calls.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// How long connections are kept for goodbyes once no call runs. A client that does not listen must
/// not delay the end by the whole grace.
const GOODBYE: Duration = Duration::from_secs(2);

/// How long tasks that are cancelled after the grace may take to end and to be written.
const LAST_TASKS: Duration = Duration::from_secs(2);

/// The running service.
pub(super) struct Service {
    pub(super) args: Args,
    pub(super) logging: Logging,
    /// What the parts were started with.
    pub(super) started_with: Loaded,
    pub(super) drain_grace: Duration,
    pub(super) executor: Arc<Executor>,
    pub(super) workers: Arc<Workers>,
    pub(super) migration: compose::Migration,
    audit: Option<Arc<Audit>>,
    pub(super) status: Arc<Status>,
    watchdog: Watchdog,
    pub(super) grpc: Option<grpc::Server>,
    dbus: Option<dbus::Server>,
    metrics: Endpoint,
}

impl Service {
    /// Starts every part. Once this returns, all that is enabled answers.
    pub(super) async fn start(
        args: Args,
        config: Loaded,
        logging: Logging,
        inherited: Vec<OwnedFd>,
    ) -> Result<Self, Failure> {
        let metrics = Arc::new(
            Metrics::new()
                .map_err(|error| Failure::part("the metrics are wrong", &error, Exit::Internal))?,
        );
        let status = Arc::new(Status::default());
        let settings = &config.settings;
        let setup = Setup {
            storage: settings.storage.clone(),
            metrics: Arc::clone(&metrics),
            status: Arc::clone(&status),
            settings: settings.agent_settings.clone(),
        };
        let starts = compose::Starts {
            with_session: settings.agents.run_on_connection.clone(),
            at_first_call: settings.agents.on_demand.clone(),
            idle_stop: settings.agents.idle_stop,
        };
        let workers = workers::prepare(&settings.worker, &metrics, &status);
        workers.configure(settings.worker_settings.clone());
        let audit = start_audit(&config, &status)?;
        let kept = audit.clone();
        let polkit = polkit(settings);
        let executor =
            compose::executor(settings.executor.clone(), &setup, &starts, &workers, audit, polkit)
                .map_err(|error| Failure::part("an agent cannot be built", &error, Exit::State))?;
        let migration =
            compose::migration(&executor, settings.migration.clone(), &setup, kept.clone())
                .map_err(|error| {
                    Failure::part("the move to gRPC cannot be followed", &error, Exit::State)
                })?;
        status.config_loaded(config.files.clone());
        reload::warn_of_missing_agents(&settings.agents, &executor, &status);
        reload::warn_of_idle_rules(&executor, &status);

        let grpc = start_grpc(&config, inherited, &executor, &status).await?;
        let rest = async {
            let endpoint = Endpoint::start(&settings.metrics, metrics)?;
            // The bus name is taken last: who waits for it finds everything else in place.
            Ok((endpoint, start_dbus(&config, &executor, &status).await?))
        };
        let (endpoint, dbus) = match rest.await {
            Ok(started) => started,
            Err(failure) => {
                if let Some(grpc) = grpc {
                    grpc.stop(Duration::ZERO).await;
                }
                return Err(failure);
            }
        };
        Ok(Self {
            drain_grace: settings.drain_grace,
            args,
            logging,
            started_with: config,
            executor,
            audit: kept,
            workers,
            migration,
            status,
            watchdog: Watchdog::new(),
            grpc,
            dbus,
            metrics: endpoint,
        })
    }

    /// Says that the service is ready.
    pub(super) fn ready(&self, took: Duration) {
        let summary = notify::summary(&self.status.report());
        notify::ready(&summary);
        if self.started_with.files.is_empty() {
            tracing::info!("there is no configuration file, so the defaults hold");
        }
        tracing::info!(
            message_id = events::STARTED,
            version = env!("CARGO_PKG_VERSION"),
            "op-dbus {} is ready after {} ms: {summary}",
            env!("CARGO_PKG_VERSION"),
            took.as_millis()
        );
    }

    /// Reloads on request and keeps systemd informed, until a signal asks to stop.
    pub(super) async fn run_until_stopped(&mut self, signals: &mut Signals) {
        let status = Arc::clone(&self.status);
        loop {
            tokio::select! {
                biased;
                request = signals.next() => match request {
                    Request::Stop => return,
                    Request::Reload => reload::reload(self).await,
                },
                time = self.watchdog.tick() => notify::feed_watchdog(&self.executor, time).await,
                () = status.changed() => notify::status(&notify::summary(&status.report())),
            }
        }
    }

    /// Stops: health first, so that clients look elsewhere; then no new call; then the calls that run
    /// end, or are cut off after the grace.
    pub(super) async fn stop(self) -> Exit {
        let begun = Instant::now();
        let grace = self.drain_grace;
        self.status.draining();
        let text = format!("stopping; calls that run have {} ms", grace.as_millis());
        notify::stopping(grace + STOP_MARGIN, &text);
        tracing::info!("{text}");
        if let Some(grpc) = &self.grpc {
            grpc.not_serving();
        }
        let executor = &self.executor;
        let grpc = async {
            match self.grpc {
                Some(grpc) => tokio::select! {
                    ended = grpc.stop(grace) => ended,
                    () = idle_for(executor, GOODBYE) => false,
                },
                None => true,
            }
        };
        let dbus = async {
            let drained = tokio::time::timeout(grace, executor.idle()).await.is_ok();
            // While clients can still hear of it.
            executor.tasks().stop(LAST_TASKS).await;
            if let Some(dbus) = self.dbus {
                dbus.stop().await;
            }
            drained
        };
        // From here on a call that still arrives is told to try again elsewhere.
        executor.drain();
        let (grpc_ended, drained) = tokio::join!(grpc, dbus);
        if let Err(error) = executor.sessions().record_all().await {
            tracing::warn!(%error, "what sessions there are could not be recorded");
        }
        self.workers.stop().await;
        if let Err(error) = self.migration.close().await {
            tracing::warn!(%error, "the last calls could not be written into the ledger");
        }
        if let Some(audit) = self.audit {
            audit.close().await;
        }
        drop(self.metrics);
        let took = begun.elapsed().as_millis();
        if drained {
            tracing::info!(
                message_id = events::STOPPED,
                grpc_connections_ended = grpc_ended,
                "op-dbus has stopped after {took} ms; every call ended"
            );
        } else {
            tracing::warn!(
                message_id = events::STOPPED,
                "op-dbus gave up waiting after {took} ms; calls that ran longer were cut off"
            );
        }
        Exit::Success
    }
}

/// Resolves some time after the last call ended. New ones are not let in any more.
async fn idle_for(executor: &Executor, time: Duration) {
    executor.idle().await;
    tokio::time::sleep(time).await;
}

fn start_audit(config: &Loaded, status: &Arc<Status>) -> Result<Option<Arc<Audit>>, Failure> {
    let Some(settings) = &config.settings.audit else { return Ok(None) };
    let settings = audit::Config { journal: settings.journal && to_journal(), ..settings.clone() };
    Audit::open(&settings, Arc::clone(status)).map(Some).map_err(|error| {
        Failure::part("the audit log cannot be written", &error, Exit::State).then(
            "Look whether the disk has room and whether another op-dbusd runs; [audit] enabled = \
             false starts the service without the log.",
        )
    })
}

/// polkit, unless it is not to be asked. It knows clients by their names on the bus if it is the same.
fn polkit(settings: &Settings) -> Option<Arc<dyn Authority>> {
    let config = settings.polkit.clone()?;
    let has_callers = match (&config.bus, settings.dbus.as_ref().map(|dbus| &dbus.bus)) {
        (polkit::Bus::System, Some(dbus::Bus::System)) => true,
        (polkit::Bus::Address(own), Some(dbus::Bus::Address(clients))) => own == clients,
        (polkit::Bus::System | polkit::Bus::Address(_), _) => false,
    };
    Some(Arc::new(Polkit::new(config, has_callers)))
}

async fn start_grpc(
    config: &Loaded,
    inherited: Vec<OwnedFd>,
    executor: &Arc<Executor>,
    status: &Arc<Status>,
) -> Result<Option<grpc::Server>, Failure> {
    let Some(settings) = config.settings.grpc.clone() else {
        if !inherited.is_empty() {
            tracing::warn!("systemd passed sockets, but gRPC is disabled; they are closed");
        }
        return Ok(None);
    };
    let config = grpc::Config {
        // The socket that systemd passes takes the place of the own one.
        unix: if inherited.is_empty() { settings.unix } else { None },
        inherited,
        tcp: settings.tcp,
        tls: settings.tls,
        access: access(settings.access).await?,
        max_request_bytes: settings.max_request_bytes,
        max_response_bytes: settings.max_response_bytes,
        max_connections: settings.max_connections,
        max_connections_per_uid: settings.max_connections_per_uid,
    };
    let server = grpc::start(config, Arc::clone(executor), Arc::clone(status)).await;
    server.map(Some).map_err(|error| {
        status.not_serving(Transport::Grpc, error.message());
        Failure::part("the gRPC transport cannot start", &error, Exit::Temporary).then(
            "Look at [grpc] unix and tcp in the configuration, and whether another op-dbusd runs.",
        )
    })
}

/// Loads what clients are known by, without holding up the runtime.
pub(super) async fn access(rules: grpc::Rules) -> Result<grpc::Access, Failure> {
    let loading = tokio::task::spawn_blocking(move || load_access(&rules));
    loading.await.map_err(|error| Failure::new(Exit::Internal, "loading TLS broke", error))?
}

/// Loads what clients are known by, which reads files and looks up users.
pub(super) fn load_access(rules: &grpc::Rules) -> Result<grpc::Access, Failure> {
    grpc::Access::load(rules)
        .map_err(|error| Failure::part("the configuration is wrong", &error, Exit::Config))
}

async fn start_dbus(
    config: &Loaded,
    executor: &Arc<Executor>,
    status: &Arc<Status>,
) -> Result<Option<dbus::Server>, Failure> {
    let Some(settings) = config.settings.dbus.clone() else { return Ok(None) };
    let server = dbus::start(settings, Arc::clone(executor), Arc::clone(status)).await;
    server.map(Some).map_err(|error| {
        status.not_serving(Transport::Dbus, error.message());
        Failure::part("the D-Bus transport cannot start", &error, Exit::Temporary).then(
            "Look at [dbus] bus and name in the configuration, whether the bus runs and lets this \
             user own the name, and whether another op-dbusd runs.",
        )
    })
}
