//! The rollout as a client sees it: the stages of its calls, which it asks for, follows and keeps, and what
//! it tells the service of its calls. Which way a call can take at all, it does not know.

mod canary;
mod follow;
mod kept;
mod report;
mod routes;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::metrics::AgentMetrics;
use super::retry::Random;
use super::shadow::Samples;
use super::ways::Ways;
use super::{Error, MigrationClient, Request, Way};
use crate::proto::opdbus::v1::{self, ReportCallsRequest};
use report::Reports;

pub(super) use routes::{Asked, Plan, Routes};

/// How long an own call of the client may take.
const OWN_CALL: Duration = Duration::from_secs(5);

/// How often the service is told what only the client sees.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// How long at most until it is told after gRPC lost a call, and for how long at least half of that other
/// losses are waited for: by these the service knows of a canary that it has to take back.
const REPORT_LOSS_WITHIN: Duration = Duration::from_secs(1);

/// What a client is to the rollout.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// What it calls itself.
    pub(super) name: String,
    /// Its way over D-Bus.
    pub(super) old: Way,
    /// Where the last known stages are kept; `None`: nowhere.
    pub(super) kept: Option<PathBuf>,
}

/// What is known of the stages.
#[derive(Clone, Debug, Default)]
struct Known {
    routes: Option<Arc<Routes>>,
    /// True once the service was asked for them, whatever came of it.
    is_asked: bool,
}

/// The stages that hold, followed in the background.
#[derive(Debug)]
pub(super) struct Rollout {
    known: watch::Receiver<Known>,
    old: Way,
    told: Arc<Told>,
    running: [AbortHandle; 2],
}

/// What the service is told, and how.
#[derive(Debug)]
struct Told {
    ways: Ways,
    identity: Identity,
    reports: tokio::sync::Mutex<Reports>,
    /// Told when gRPC loses a call.
    loss: Notify,
}

impl Rollout {
    /// Begins to follow the stages, and to report.
    pub(super) fn start(
        ways: &Ways,
        identity: Identity,
        metrics: Arc<AgentMetrics>,
        samples: Arc<Samples>,
    ) -> Self {
        let (sender, known) = watch::channel(Known::default());
        let old = identity.old;
        let following = tokio::spawn(follow::follow(ways.clone(), identity.clone(), sender));
        let reports = tokio::sync::Mutex::new(Reports::new(metrics, samples));
        let told = Told { ways: ways.clone(), identity, reports, loss: Notify::new() };
        let told = Arc::new(told);
        let reporting = tokio::spawn(Arc::clone(&told).keep_reporting());
        Self { known, old, told, running: [following.abort_handle(), reporting.abort_handle()] }
    }

    /// Waits until the stages are known or cannot be had, at most for `patience`.
    pub(super) async fn known(&self, patience: Duration) {
        let mut known = self.known.clone();
        let answer = known.wait_for(|known| known.routes.is_some() || known.is_asked);
        // Without an answer in time the calls go as without any knowledge.
        drop(tokio::time::timeout(patience, answer).await);
    }

    /// How a call goes; without any knowledge over D-Bus, falling back on gRPC where D-Bus is not there.
    pub(super) fn plan(&self, asked: Asked<'_>) -> Plan {
        let known = self.known.borrow();
        let plan = known.routes.as_ref().and_then(|routes| routes.plan(asked, self.old));
        plan.unwrap_or(Plan { way: self.old, fallback: Some(Way::Grpc), shadow: false })
    }

    /// Has the service told soon that gRPC lost a call.
    pub(super) fn lost(&self) {
        self.told.loss.notify_one();
    }

    /// Tells the service what is still to be told.
    ///
    /// # Cancel safety
    /// What is being told may be lost.
    pub(super) async fn report(&self) {
        self.told.report().await;
    }
}

impl Drop for Rollout {
    fn drop(&mut self) {
        for running in &self.running {
            running.abort();
        }
    }
}

impl Told {
    async fn keep_reporting(self: Arc<Self>) {
        let random = Random::default();
        loop {
            if tokio::time::timeout(REPORT_EVERY, self.loss.notified()).await.is_ok() {
                // What breaks, breaks for many clients at once; they do not report in one moment.
                let half = REPORT_LOSS_WITHIN / 2;
                tokio::time::sleep(half + random.below(half)).await;
            }
            self.report().await;
        }
    }

    /// Tells it over the first way on which the service is reached. What gRPC lost is told over D-Bus
    /// first: the report would be lost as the calls were.
    async fn report(&self) {
        let mut reports = self.reports.lock().await;
        while let Some(report) = reports.next(&self.identity.name) {
            if !self.tell(&report).await {
                return reports.keep(report);
            }
        }
    }

    /// False if the service is reached on no way, so that nothing was told.
    async fn tell(&self, report: &ReportCallsRequest) -> bool {
        let mut ways = [Way::Grpc, self.identity.old];
        if report.lost.iter().any(|lost| lost.way() == v1::Way::Grpc) {
            ways.reverse();
        }
        for way in ways {
            let Ok(client) = self.ways.client(way) else { continue };
            let request = Request::new(report.clone()).timeout(OWN_CALL);
            match MigrationClient::new(client).report_calls(request).await {
                Err(Error::Unreachable(_)) => {}
                Ok(_) | Err(Error::Failed(_)) => return true,
            }
        }
        false
    }
}
