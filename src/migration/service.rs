//! op-dbus's own service for moving clients to gRPC: requests and responses. What they do is done by the
//! rollout and the ledger.

use std::sync::Arc;

use super::Client;
use super::ledger::{Found, Ledger};
use super::rollout::{self, By, InForce, Rollout, Simulation, Step, unknown};
use crate::call::{Context, Transport, client_name};
use crate::contract::Replies;
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::v1::{
    GetReportRequest, GetReportResponse, GetRoutesRequest, GetRoutesResponse,
    ListDifferencesRequest, ListDifferencesResponse, ListStagesRequest, ListStagesResponse,
    ListUsesRequest, ListUsesResponse, MigrationService, ReportCallsRequest, ReportCallsResponse,
    SetStageRequest, SetStageResponse, SimulateRequest, SimulateResponse, WatchRoutesRequest,
    WatchRoutesResponse, Way,
};
use crate::storage::time;

/// The longest rules that are simulated, in bytes.
const MAX_RULES_BYTES: usize = 64 * 1024;

/// How far back a simulation looks unless it is said: a day, in microseconds.
const SIMULATED: i64 = 86_400_000_000;

/// Reads the `[migration]` part of a configuration; it may block.
pub type ReadRules = fn(&str) -> Result<rollout::Config, Error>;

/// The implementation of `opdbus.v1.MigrationService`.
pub struct Service {
    rollout: Arc<Rollout>,
    ledger: Arc<Ledger>,
    read_rules: ReadRules,
}

impl Service {
    /// Serves both. `read_rules` reads rules that are to be tried.
    #[must_use]
    pub fn new(rollout: Arc<Rollout>, ledger: Arc<Ledger>, read_rules: ReadRules) -> Self {
        Self { rollout, ledger, read_rules }
    }

    fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.rollout.in_force())
    }

    /// What the ledger knows of the calls of the rule called `name`.
    async fn found(&self, name: &str) -> Result<Found, Error> {
        let rules = self.in_force();
        let index = rules.rules.iter().position(|ruled| ruled.rule.name == name);
        let report = self.ledger.report(None, rules).await?;
        let found = index.and_then(|index| report.found.into_iter().nth(index));
        Ok(found.unwrap_or_default())
    }
}

impl MigrationService for Service {
    async fn get_routes(
        &self,
        context: &Context,
        request: GetRoutesRequest,
    ) -> Result<GetRoutesResponse, Error> {
        let name = name(context, &request.name)?;
        Ok(self.rollout.in_force().routes(&Client::of(&context.caller, name.as_deref())))
    }

    async fn watch_routes(
        &self,
        context: &Context,
        request: WatchRoutesRequest,
        replies: Replies<WatchRoutesResponse>,
    ) -> Result<(), Error> {
        let name = name(context, &request.name)?;
        let client = Client::of(&context.caller, name.as_deref());
        let mut changes = self.rollout.changes();
        let mut version = request.version;
        loop {
            changes.borrow_and_update();
            let routes = self.rollout.in_force().routes(&client);
            if routes.version != version {
                version.clone_from(&routes.version);
                replies.send(WatchRoutesResponse { routes: Some(routes) }).await?;
            }
            if changes.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    async fn report_calls(
        &self,
        context: &Context,
        request: ReportCallsRequest,
    ) -> Result<ReportCallsResponse, Error> {
        let name = name(context, &request.name)?;
        let client = Client::of(&context.caller, name.as_deref());
        let lost = request.lost.clone();
        let find = |agent: &str, name: &str| self.rollout.operation(agent, name);
        self.ledger.report_calls(context, request, find).await?;
        for lost in &lost {
            let way = match lost.way() {
                Way::Grpc => Transport::Grpc,
                Way::Dbus | Way::Legacy | Way::Unspecified => Transport::Dbus,
            };
            let (agent, name) = lost.operation.split_once('.').unwrap_or_default();
            self.rollout.lost(&client, &*self.rollout.operation(agent, name)?, way, lost.calls);
        }
        Ok(ReportCallsResponse {})
    }

    async fn list_stages(
        &self,
        _context: &Context,
        _request: ListStagesRequest,
    ) -> Result<ListStagesResponse, Error> {
        let rules = self.in_force().rules.iter().map(|ruled| ruled.describe()).collect();
        Ok(ListStagesResponse { rules })
    }

    async fn list_uses(
        &self,
        _context: &Context,
        request: ListUsesRequest,
    ) -> Result<ListUsesResponse, Error> {
        self.ledger.list_uses(request, self.in_force()).await
    }

    async fn get_report(
        &self,
        _context: &Context,
        request: GetReportRequest,
    ) -> Result<GetReportResponse, Error> {
        let rules = self.in_force();
        let report = self.ledger.report(request.since, Arc::clone(&rules) as _).await?;
        let plan = self.rollout.plan(&rules, &report.found);
        Ok(GetReportResponse { plan, ..report.response })
    }

    async fn simulate(
        &self,
        _context: &Context,
        request: SimulateRequest,
    ) -> Result<SimulateResponse, Error> {
        let length = request.rules.len();
        if length > MAX_RULES_BYTES {
            let problem = format!("must have {MAX_RULES_BYTES} bytes at most, not {length}");
            return Err(Error::invalid("rules", problem));
        }
        let since = match request.since {
            None => time::now() - SIMULATED,
            Some(since) => since.seconds.saturating_mul(1_000_000),
        };
        let read = self.read_rules;
        // Users are looked up, who may be far away.
        let config = tokio::task::spawn_blocking(move || read(&request.rules)).await;
        let config = config.map_err(|_| Error::internal("reading rules panicked"))??;
        let (before, after) = (InForce::clone(&self.in_force()), self.rollout.with(&config));
        let simulation = Simulation::new(before, after);
        let simulation = self.ledger.visit(since, simulation, Simulation::add).await?;
        Ok(simulation.end())
    }

    async fn set_stage(
        &self,
        context: &Context,
        request: SetStageRequest,
    ) -> Result<SetStageResponse, Error> {
        let rules = self.in_force();
        let ruled = rules.named(&request.rule).ok_or_else(|| unknown(&request.rule, &rules))?;
        let step = Step::plan(ruled, &request)?;
        if step.goes_on() && !request.force {
            let found = self.found(&request.rule).await?;
            let blockers = self.rollout.blockers(ruled, step.to, &found);
            if !blockers.is_empty() {
                return Err(unsafe_step(&step, &blockers));
            }
        }
        let rule = self.rollout.take(step, By::caller(context)).await?;
        Ok(SetStageResponse { rule: Some(rule) })
    }

    async fn list_differences(
        &self,
        _context: &Context,
        request: ListDifferencesRequest,
    ) -> Result<ListDifferencesResponse, Error> {
        self.ledger.list_differences(request.operation).await
    }
}

/// What the client calls itself, in the request or else beside it.
fn name(context: &Context, given: &str) -> Result<Option<Arc<str>>, Error> {
    if given.is_empty() {
        return Ok(context.client_name.clone());
    }
    let name = client_name(given).map_err(|problem| Error::invalid("name", problem))?;
    Ok(Some(name))
}

fn unsafe_step(step: &Step, blockers: &[String]) -> Error {
    let blockers = blockers.join("; ");
    let text = format!("rule {} is not safe to take to {}: {blockers}", step.rule, step.to);
    Error::new(ErrorKind::Conflict, format!("{text}; force takes it there all the same"))
        .with_fact("stage", step.from.position.name())
        .with_fact("blockers", blockers)
}
