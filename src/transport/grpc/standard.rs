//! The standard services beside the agents: health, and reflection in both its versions. What
//! reflection tells is derived from the registry anew whenever that has changed.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{Request, Response};
use tokio::sync::watch;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::pb::{v1, v1alpha};
use tonic_reflection::server::Builder;
use tower::ServiceExt as _;

use super::error::Refusal;
use super::health::HealthService;
use super::phase::Phase;
use super::value::Reply;
use crate::error::Error;
use crate::registry::{Registry, Snapshot};

/// What the paths of all standard services begin with, and those of no agent.
const PREFIXES: [&str; 3] =
    ["/grpc.health.v1.Health/", "/grpc.reflection.v1.", "/grpc.reflection.v1alpha."];

/// The standard services.
pub(super) struct Standard {
    registry: Arc<Registry>,
    phase: watch::Sender<Phase>,
    current: ArcSwap<Current>,
}

/// The services, and the registry's state that reflection was built from.
struct Current {
    snapshot: Arc<Snapshot>,
    routes: Routes,
}

impl Standard {
    /// The standard services for what `registry` holds.
    ///
    /// # Errors
    /// `Internal` if a descriptor set cannot be read.
    pub(super) fn new(registry: Arc<Registry>, phase: watch::Sender<Phase>) -> Result<Self, Error> {
        let current = Current::new(&registry, &phase)?;
        Ok(Self { registry, phase, current: ArcSwap::from_pointee(current) })
    }

    /// True if `path` is one of a standard service.
    pub(super) fn has(path: &str) -> bool {
        PREFIXES.iter().any(|prefix| path.starts_with(prefix))
    }

    /// Answers one request.
    pub(super) async fn answer<B>(&self, request: Request<B>) -> Response<Reply>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let routes = match self.routes() {
            Ok(routes) => routes,
            Err(error) => return Refusal::from(error).into_response(),
        };
        match routes.oneshot(request).await {
            Ok(response) => response.map(Reply::Standard),
            Err(never) => match never {},
        }
    }

    fn routes(&self) -> Result<Routes, Error> {
        let current = self.current.load();
        if Arc::ptr_eq(&current.snapshot, &self.registry.snapshot()) {
            return Ok(current.routes.clone());
        }
        let next = Current::new(&self.registry, &self.phase)?;
        let routes = next.routes.clone();
        self.current.store(Arc::new(next));
        Ok(routes)
    }
}

impl Current {
    fn new(registry: &Arc<Registry>, phase: &watch::Sender<Phase>) -> Result<Self, Error> {
        let snapshot = registry.snapshot();
        let fault = |error| Error::internal(format!("reflection cannot be served: {error}"));
        let v1 = builder(&snapshot).build_v1().map_err(fault)?;
        let v1alpha = builder(&snapshot).build_v1alpha().map_err(fault)?;
        let health = HealthService::new(Arc::clone(registry), phase.clone());
        let routes =
            Routes::new(HealthServer::new(health)).add_service(v1).add_service(v1alpha).prepare();
        Ok(Self { snapshot, routes })
    }
}

/// Each version of reflection tells of everything that is served, the other version included.
fn builder(snapshot: &Snapshot) -> Builder<'_> {
    let standard = [
        (tonic_health::pb::FILE_DESCRIPTOR_SET, "grpc.health.v1.Health"),
        (v1::FILE_DESCRIPTOR_SET, "grpc.reflection.v1.ServerReflection"),
        (v1alpha::FILE_DESCRIPTOR_SET, "grpc.reflection.v1alpha.ServerReflection"),
    ];
    let mut builder = Builder::configure().include_reflection_service(false);
    for set in snapshot.descriptor_sets() {
        builder = builder.register_encoded_file_descriptor_set(set);
    }
    // By name, because a set may describe services that are not served.
    for service in snapshot.services() {
        builder = builder.with_service_name(service.full_name.clone());
    }
    for (set, name) in standard {
        builder = builder.register_encoded_file_descriptor_set(set).with_service_name(name);
    }
    builder
}
