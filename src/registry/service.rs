//! op-dbus's own service: what is served here and how it is doing. Calls by JSON are the executor's.

use std::sync::{Arc, Weak};

use super::{Registry, Snapshot};
use crate::call::Context;
use crate::contract::{Idempotency, Operation, Replies, Service, message_schema};
use crate::error::{Error, ErrorKind};
use crate::host::State;
use crate::metrics::Metrics;
use crate::proto::opdbus::v1::{
    AgentState, AgentSummary, AgentsService, CallJsonRequest, CallJsonResponse,
    DescribeAgentRequest, DescribeAgentResponse, GetMetricsRequest, GetMetricsResponse,
    GetStatusRequest, GetStatusResponse, ListAgentsRequest, ListAgentsResponse,
    OperationDescription, PingRequest, PingResponse, WatchAgentsRequest, WatchAgentsResponse,
};
use crate::status::Status;

/// The implementation of `opdbus.v1.AgentsService`.
pub struct Agents {
    /// Weak, because the registry holds this service as one of its own.
    registry: Weak<Registry>,
    metrics: Arc<Metrics>,
    status: Arc<Status>,
}

impl Agents {
    /// Describes what `registry` holds, and gives `metrics` and `status` out.
    #[must_use]
    pub fn new(registry: &Arc<Registry>, metrics: Arc<Metrics>, status: Arc<Status>) -> Self {
        Self { registry: Arc::downgrade(registry), metrics, status }
    }

    fn registry(&self) -> Result<Arc<Registry>, Error> {
        let registry = self.registry.upgrade();
        registry.ok_or_else(|| Error::new(ErrorKind::Unavailable, "the service is stopping"))
    }
}

impl AgentsService for Agents {
    async fn ping(&self, _context: &Context, request: PingRequest) -> Result<PingResponse, Error> {
        Ok(PingResponse { payload: request.payload })
    }

    async fn list_agents(
        &self,
        _context: &Context,
        _request: ListAgentsRequest,
    ) -> Result<ListAgentsResponse, Error> {
        let registry = self.registry()?;
        let agents = registry.snapshot().agents();
        let summaries = agents.iter().map(|agent| summary(agent, &registry));
        Ok(ListAgentsResponse { agents: summaries.collect() })
    }

    async fn describe_agent(
        &self,
        _context: &Context,
        request: DescribeAgentRequest,
    ) -> Result<DescribeAgentResponse, Error> {
        let registry = self.registry()?;
        let service = find(&registry.snapshot(), &request.agent)?;
        let operations = if request.operation.is_empty() {
            service.operations.iter().map(|operation| describe(operation)).collect()
        } else {
            vec![describe(service.operation(&request.operation)?)]
        };
        Ok(DescribeAgentResponse {
            agent: Some(summary(&service, &registry)),
            operations,
            documentation: service.docs.clone(),
        })
    }

    async fn watch_agents(
        &self,
        _context: &Context,
        request: WatchAgentsRequest,
        replies: Replies<WatchAgentsResponse>,
    ) -> Result<(), Error> {
        let wanted = request.agents;
        let mut changes = {
            let registry = self.registry()?;
            let snapshot = registry.snapshot();
            for id in &wanted {
                find(&snapshot, id)?;
            }
            registry.changes()
        };
        loop {
            let change = changes.next().await;
            if wanted.is_empty() || wanted.iter().any(|id| **id == *change.agent) {
                replies.send(change.into()).await?;
            }
        }
    }

    async fn call_json(
        &self,
        _context: &Context,
        _request: CallJsonRequest,
    ) -> Result<CallJsonResponse, Error> {
        // The executor resolves the call to the operation that it names before it gets here.
        Err(Error::internal("CallJson reached the registry instead of the executor"))
    }

    async fn get_metrics(
        &self,
        _context: &Context,
        _request: GetMetricsRequest,
    ) -> Result<GetMetricsResponse, Error> {
        Ok(GetMetricsResponse { text: self.metrics.render()? })
    }

    async fn get_status(
        &self,
        _context: &Context,
        _request: GetStatusRequest,
    ) -> Result<GetStatusResponse, Error> {
        let count = |number: i64| u32::try_from(number).unwrap_or(0);
        let mut status = self.status.report();
        status.calls_in_flight = count(self.metrics.running());
        status.calls_queued = count(self.metrics.queued().get());
        status.workers_running = count(self.metrics.workers().running());
        status.workers_going_on = count(self.metrics.workers().going_on());
        let conditions = self.registry()?.states();
        status.warnings.extend(
            conditions.iter().filter(|condition| condition.state == State::Failed).map(
                |condition| format!("agent {} has failed: {}", condition.agent, condition.reason()),
            ),
        );
        Ok(status)
    }
}

fn find(snapshot: &Snapshot, id: &str) -> Result<Arc<Service>, Error> {
    snapshot.services().into_iter().find(|service| service.id == id).ok_or_else(|| {
        let ids: Vec<String> = snapshot.agents().iter().map(|service| service.id.clone()).collect();
        Error::new(
            ErrorKind::UnknownAgent,
            format!("there is no agent {id}; there are {}", ids.join(", ")),
        )
    })
}

fn summary(service: &Service, registry: &Registry) -> AgentSummary {
    let condition = registry.condition(&service.id);
    AgentSummary {
        id: service.id.clone(),
        title: service.title.clone(),
        summary: service.summary.clone(),
        service: service.full_name.clone(),
        object_path: service.object_path.clone(),
        interface: service.interface.clone(),
        activation: service.activation.into(),
        host: service.host.into(),
        operations: service.operations.iter().map(|operation| operation.name.clone()).collect(),
        state: AgentState::from(condition.state).into(),
        state_reason: condition.reason(),
    }
}

fn describe(operation: &Operation) -> OperationDescription {
    let shape = &operation.shape;
    let on_bus = |signature: &String| match operation.is_on_bus() {
        true => signature.clone(),
        false => String::new(),
    };
    OperationDescription {
        name: operation.name.clone(),
        documentation: operation.docs.clone(),
        risk: operation.risk.into(),
        idempotent: operation.idempotency != Idempotency::Unknown,
        grpc_path: operation.grpc_path.clone(),
        dbus_in: on_bus(&shape.in_signature),
        dbus_out: on_bus(&shape.out_signature),
        request_schema: message_schema(&operation.input).to_string(),
        response_schema: message_schema(&operation.output).to_string(),
        examples: operation.examples.clone(),
        backends: operation.backends.clone(),
        sandbox: operation.sandbox.clone(),
        client_streaming: operation.client_streaming,
        server_streaming: operation.server_streaming,
    }
}
