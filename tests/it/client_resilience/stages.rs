//! The rollout as the tests set it: stages that they change at will, and the reports that came.

use std::sync::{Arc, Mutex};

use op_dbus::call::Context;
use op_dbus::contract::Replies;
use op_dbus::error::{Error, ErrorKind};
use op_dbus::proto::opdbus::v1::{
    GetReportRequest, GetReportResponse, GetRoutesRequest, GetRoutesResponse,
    ListDifferencesRequest, ListDifferencesResponse, ListStagesRequest, ListStagesResponse,
    ListUsesRequest, ListUsesResponse, MigrationService, ReportCallsRequest, ReportCallsResponse,
    Route, SetStageRequest, SetStageResponse, SimulateRequest, SimulateResponse, Stage,
    WatchRoutesRequest, WatchRoutesResponse,
};
use tokio::sync::watch;

/// What the service says of the rollout, and was told.
pub struct Stages {
    routes: watch::Sender<GetRoutesResponse>,
    pub reports: Mutex<Vec<ReportCallsRequest>>,
}

impl Stages {
    /// Every operation at one stage.
    pub fn new(stage: Stage) -> Arc<Self> {
        let stages = Self { routes: watch::Sender::default(), reports: Mutex::default() };
        stages.set(vec![route(stage)]);
        Arc::new(stages)
    }

    pub fn set(&self, routes: Vec<Route>) {
        self.routes.send_modify(|known| {
            let version = known.version.parse::<u64>().unwrap_or_default() + 1;
            let version = version.to_string();
            *known = GetRoutesResponse { routes, version, client: "desk".to_owned() };
        });
    }
}

/// Every operation at a stage.
pub fn route(stage: Stage) -> Route {
    Route { stage: stage.into(), ..Route::default() }
}

fn not_here<T>() -> Result<T, Error> {
    Err(Error::new(ErrorKind::UnknownOperation, "the tests have no more than routes and reports"))
}

impl MigrationService for Stages {
    async fn get_routes(
        &self,
        _: &Context,
        _: GetRoutesRequest,
    ) -> Result<GetRoutesResponse, Error> {
        Ok(self.routes.borrow().clone())
    }

    async fn watch_routes(
        &self,
        _: &Context,
        request: WatchRoutesRequest,
        replies: Replies<WatchRoutesResponse>,
    ) -> Result<(), Error> {
        let mut routes = self.routes.subscribe();
        let mut version = request.version;
        loop {
            let known = routes.wait_for(|known| known.version != version).await;
            let known = known.map_err(|_| Error::internal("the test is over"))?.clone();
            version.clone_from(&known.version);
            replies.send(WatchRoutesResponse { routes: Some(known) }).await?;
        }
    }

    async fn report_calls(
        &self,
        _: &Context,
        request: ReportCallsRequest,
    ) -> Result<ReportCallsResponse, Error> {
        self.reports.lock().unwrap().push(request);
        Ok(ReportCallsResponse {})
    }

    async fn list_stages(
        &self,
        _: &Context,
        _: ListStagesRequest,
    ) -> Result<ListStagesResponse, Error> {
        not_here()
    }

    async fn list_uses(&self, _: &Context, _: ListUsesRequest) -> Result<ListUsesResponse, Error> {
        not_here()
    }

    async fn get_report(
        &self,
        _: &Context,
        _: GetReportRequest,
    ) -> Result<GetReportResponse, Error> {
        not_here()
    }

    async fn simulate(&self, _: &Context, _: SimulateRequest) -> Result<SimulateResponse, Error> {
        not_here()
    }

    async fn set_stage(&self, _: &Context, _: SetStageRequest) -> Result<SetStageResponse, Error> {
        not_here()
    }

    async fn list_differences(
        &self,
        _: &Context,
        _: ListDifferencesRequest,
    ) -> Result<ListDifferencesResponse, Error> {
        not_here()
    }
}
