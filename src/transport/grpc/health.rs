//! The standard health service: a service is well until its agent fails to start or the transport
//! begins to stop. It starts no agent to find out.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::phase::Phase;
use crate::error::{Error, ErrorKind};
use crate::registry::{Changes, Registry};
use crate::wire::status;

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
}

/// The status of `service`; `None` if it is not served here. The empty name stands for all of it.
fn serving(registry: &Registry, service: &str, phase: Phase) -> Option<ServingStatus> {
    let is_well = service.is_empty() || {
        let snapshot = registry.snapshot();
        let found = snapshot.registrations().find(|found| found.service.full_name == service)?;
        let condition = registry.roster().condition(&found.service.id);
        condition.is_none_or(|condition| condition.failure.is_none())
    };
    Some(match phase {
        Phase::Serving if is_well => ServingStatus::Serving,
        Phase::Serving | Phase::NotServing | Phase::Draining | Phase::Closed => {
            ServingStatus::NotServing
        }
    })
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        match serving(&self.registry, service, *self.phase.borrow()) {
            Some(status) => Ok(Response::new(response(status))),
            None => {
                let text = format!("no service {service} is served here");
                Err(status(&Error::new(ErrorKind::NotFound, text)))
            }
        }
    }

    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    /// Tells the status now and whenever it changes. The stream ends when connections are drained,
    /// so that it does not hold them.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watch = Watch {
            registry: Arc::clone(&self.registry),
            service: request.into_inner().service,
            phase: self.phase.subscribe(),
            changes: self.registry.changes(),
            told: None,
        };
        let stream = unfold(watch, |mut watch| async move {
            let status = watch.next().await?;
            Some((Ok(response(status)), watch))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

/// One client that is told the status of a service.
struct Watch {
    registry: Arc<Registry>,
    service: String,
    phase: watch::Receiver<Phase>,
    changes: Changes,
    told: Option<ServingStatus>,
}

impl Watch {
    /// The status once it is another than the one told before.
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            let phase = *self.phase.borrow_and_update();
            let status = serving(&self.registry, &self.service, phase)
                .unwrap_or(ServingStatus::ServiceUnknown);
            if self.told != Some(status) {
                self.told = Some(status);
                return Some(status);
            }
            if phase >= Phase::Draining {
                return None;
            }
            tokio::select! {
                changed = self.phase.changed() => changed.ok()?,
                _changed = self.changes.next() => {}
            }
        }
    }
}
