//! The standard health service: one answer for every service that is served, which turns when the
//! transport begins to stop. It does not look into agents.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::error::status;
use super::phase::Phase;
use crate::error::{Error, ErrorKind};
use crate::registry::Registry;

/// What answers health checks.
pub(super) struct HealthService {
    registry: Arc<Registry>,
    phase: watch::Sender<Phase>,
}

impl HealthService {
    /// Answers for the services of `registry` by `phase`.
    pub(super) fn new(registry: Arc<Registry>, phase: watch::Sender<Phase>) -> Self {
        Self { registry, phase }
    }

    /// True if `service` is served here; the empty name stands for all.
    fn knows(&self, service: &str) -> bool {
        service.is_empty()
            || self
                .registry
                .snapshot()
                .registrations()
                .any(|registration| registration.service.full_name == service)
    }
}

fn response(known: bool, phase: Phase) -> HealthCheckResponse {
    let status = match phase {
        _ if !known => ServingStatus::ServiceUnknown,
        Phase::Serving => ServingStatus::Serving,
        Phase::NotServing | Phase::Draining | Phase::Closed => ServingStatus::NotServing,
    };
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        if !self.knows(service) {
            let text = format!("no service {service} is served here");
            return Err(status(&Error::new(ErrorKind::NotFound, text)));
        }
        Ok(Response::new(response(true, *self.phase.borrow())))
    }

    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    /// Tells the status now and whenever it changes. The stream ends when connections are drained,
    /// so that it does not hold them.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = self.knows(&request.get_ref().service);
        let told = None;
        let stream = unfold((self.phase.subscribe(), told), move |(mut phase, told)| async move {
            let next = {
                let changed = |phase: &Phase| {
                    told != Some(response(known, *phase).status) || *phase >= Phase::Draining
                };
                *phase.wait_for(changed).await.ok()?
            };
            let answer = response(known, next);
            (told != Some(answer.status)).then(|| (Ok(answer), (phase, Some(answer.status))))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}
