//! The standard services beside the agents: health, and reflection in both its versions. What
//! reflection tells is derived from the registry when it is asked for, and anew whenever that has changed.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
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

/// What the path of health begins with.
const HEALTH: &str = PREFIXES[0];

/// The standard services.
pub(super) struct Standard {
    registry: Arc<Registry>,
    health: Routes,
    /// Built when it is first asked for: few clients do, and it holds the contract twice.
    reflection: ArcSwapOption<Reflection>,
}

/// Reflection, and the registry's state that it was built from.
struct Reflection {
    snapshot: Arc<Snapshot>,
    routes: Routes,
}

impl Standard {
    /// The standard services for what `registry` holds.
    pub(super) fn new(registry: Arc<Registry>, phase: watch::Sender<Phase>) -> Self {
        let health = HealthService::new(Arc::clone(&registry), phase);
        let health = Routes::new(HealthServer::new(health)).prepare();
        Self { registry, health, reflection: ArcSwapOption::empty() }
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
        let routes = match self.routes(request.uri().path()) {
            Ok(routes) => routes,
            Err(error) => return Refusal::from(error).into_response(),
        };
        match routes.oneshot(request).await {
            Ok(response) => response.map(Reply::Standard),
            Err(never) => match never {},
        }
    }

    fn routes(&self, path: &str) -> Result<Routes, Error> {
        if path.starts_with(HEALTH) {
            return Ok(self.health.clone());
        }
        let snapshot = self.registry.snapshot();
        if let Some(current) = &*self.reflection.load()
            && Arc::ptr_eq(&current.snapshot, &snapshot)
        {
            return Ok(current.routes.clone());
        }
        let next = Reflection::new(snapshot)?;
        let routes = next.routes.clone();
        self.reflection.store(Some(Arc::new(next)));
        Ok(routes)
    }
}

impl Reflection {
    fn new(snapshot: Arc<Snapshot>) -> Result<Self, Error> {
        let fault = |error| Error::internal(format!("reflection cannot be served: {error}"));
        let v1 = builder(&snapshot).build_v1().map_err(fault)?;
        let v1alpha = builder(&snapshot).build_v1alpha().map_err(fault)?;
        Ok(Self { snapshot, routes: Routes::new(v1).add_service(v1alpha).prepare() })
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
