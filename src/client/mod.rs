//! The client library: one interface over gRPC, D-Bus and the older interface on D-Bus. It sends calls and
//! reads answers; what a call may do is the service's to decide.
//!
//! [`AgentClient`] makes calls; which way they take, [`Settings`] say, and the program does not see. Each
//! agent has a typed client over it, generated from the contract, as [`MemoryClient`]. [`blocking`] is the
//! same for programs without a runtime, and [`GrpcAgentClient`] has the shape that chat programs know.
//!
//! ```no_run
//! use op_dbus::client::{AgentClient, MemoryClient};
//! use op_dbus::proto::opdbus::agent::memory::v1::{RecallRequest, RememberRequest};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = AgentClient::from_environment()?;
//! let memory = MemoryClient::new(client);
//! let value = Some("rust".into());
//! memory.remember(RememberRequest { key: "language".into(), value, ..Default::default() }).await?;
//! let recalled =
//!     memory.recall(RecallRequest { key: "language".into(), ..Default::default() }).await?;
//! println!("{:?}", recalled.value);
//! # Ok(())
//! # }
//! ```
//!
//! # What a client does by itself
//!
//! * Each call takes the way of its stage in the rollout, which the service tells and the client follows.
//!   A change holds within a second. While no stage is known, calls take D-Bus, and gRPC where that cannot
//!   be reached. [`Settings::via`] may pin one way, and [`Settings::routes_file`] keep the last stages for a
//!   start without the service.
//! * A call is made again, up to [`Settings::max_retries`] times and within its own time, if it cannot have
//!   begun, or if making it twice does nothing that making it once does not: the contract says so
//!   (`idempotency_level`), or the call has a request id and the service is still the one that knows it.
//!   Pauses grow and are random, and the service may name a longer one; retries are at most a tenth of the
//!   calls. What may have been carried out and is not made again fails with [`Failure::lost`].
//! * At stages `canary` and `grpc` a call falls back on D-Bus where the same reasoning permits that: if gRPC
//!   cannot be reached, or does not know the operation; never after a refusal or when its time is over. A
//!   way that gives no answer [`BREAKER_FAILURES`] times in a row is left alone for a while.
//! * At stage `shadow`, some calls without side effects are made over gRPC as well, and over D-Bus a second
//!   time, after D-Bus has answered. Where the ways differ and D-Bus does not differ from itself is counted
//!   and told to the service, as places and digests.
//! * A call whose requests are a stream is made once, over D-Bus as over gRPC, since they cannot be sent
//!   again. Only if gRPC cannot be reached before the first of them, it takes D-Bus.
//! * A stream goes on where it was when its connection breaks, unless the service is told to cancel it
//!   then; messages that the service does not keep any more are named.
//! * What happens is counted: [`AgentClient::agent_metrics`].

mod address;
mod answer;
mod attached;
pub mod blocking;
mod call;
mod carrier;
mod chat;
mod connect;
mod credentials;
mod dbus;
mod error;
mod first;
mod grpc;
mod json;
mod known;
mod ledger;
mod legacy;
mod metrics;
pub mod parity;
mod retry;
mod rights;
mod rollout;
mod routed;
mod same_service;
pub(crate) mod settings;
mod shadow;
mod stages;
mod stream;
mod tasks;
mod typed;
mod watch;
mod way;
mod ways;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::proto::opdbus::v1::{
    BatchCallResponse, DescribeAgentResponse, GetMetricsResponse, GetStatusResponse,
    ListAgentsResponse, PingRequest,
};

pub use address::{Bus, GrpcAddress, Target};
pub use answer::Answer;
pub use call::{Call, CallOptions, Payload, Request, Requests, Rpc, StreamCall};
pub use carrier::{Carrier, Pending};
pub use chat::{Chunk, GrpcAgentClient};
pub use credentials::Credentials;
pub use error::{Attempt, Error, Failure};
pub use ledger::UseFilter;
pub use metrics::{
    AgentMetrics, MAX_OPERATIONS, MetricsSnapshot, OperationMetrics, RequestMetrics,
};
#[cfg(feature = "daemon")]
pub(crate) use retry::Verdict;
pub use retry::{BREAKER_FAILURES, BREAKER_FIRST_REST, BREAKER_LONGEST_REST, BreakerState};
pub use rights::CallsBy;
pub use settings::{Settings, SettingsError, VARIABLES, Via};
pub use stream::{Messages, Responses};
pub use tasks::{NewTask, Page, TaskFilter, outcome};
pub use watch::TaskEvents;
pub use way::Way;

/// The types of protobuf that messages are made of, as `prost_types::Value`.
pub use prost_types;

include!(concat!(env!("OUT_DIR"), "/clients.rs"));

/// The agent id of op-dbus's own operations.
pub const MANAGER: &str = "agents";

/// The largest answer that is taken, in bytes: the most that fits into one D-Bus message.
pub const MAX_ANSWER_BYTES: usize = 128 * 1024 * 1024;

/// How much longer than the call's own time an answer is waited for, so that the service's own
/// error, which says more, comes first.
const GRACE: Duration = Duration::from_secs(2);

/// Makes calls. Clones share the connection and differ in what belongs to their calls.
#[derive(Clone, Debug)]
pub struct AgentClient {
    carrier: Arc<dyn Carrier>,
    /// How long a call with one response may take that does not say.
    request_timeout: Duration,
    /// What belongs to a call that does not say otherwise.
    defaults: Arc<CallOptions>,
}

impl AgentClient {
    /// A client with these settings. It connects when it is first needed.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self::carried(connect::routed(settings), settings)
    }

    /// A client with these settings whose calls take the first way that reaches the service, gRPC before
    /// D-Bus, whatever the stages of the rollout are, and are made once. It is for whoever looks after the
    /// service itself.
    #[must_use]
    pub fn direct(settings: &Settings) -> Self {
        Self::carried(connect::carrier(settings, &settings.targets()), settings)
    }

    /// A client with the settings that the environment and the configuration file give.
    ///
    /// # Errors
    /// A setting that makes no sense, by its name.
    pub fn from_environment() -> Result<Self, SettingsError> {
        Settings::load().map(|settings| Self::new(&settings))
    }

    /// Connects to the first of `targets` that can be reached, with `credentials` on gRPC.
    ///
    /// # Errors
    /// [`Error::Unreachable`] with what was tried if none can be reached.
    ///
    /// # Cancel safety
    /// A connection that is being made is closed.
    pub async fn connect(targets: &[Target], credentials: &Credentials) -> Result<Self, Error> {
        let credentials = credentials.clone();
        let settings = Settings { credentials, ..Settings::default() };
        let client = Self::carried(connect::carrier(&settings, targets), &settings);
        client.ready().await?;
        Ok(client)
    }

    fn carried(carrier: Arc<dyn Carrier>, settings: &Settings) -> Self {
        let session = settings.session.clone();
        Self {
            carrier,
            request_timeout: settings.request_timeout,
            defaults: Arc::new(CallOptions { session, ..CallOptions::default() }),
        }
    }

    /// A client whose calls `carrier` carries, however it does that.
    #[must_use]
    pub fn over(carrier: Arc<dyn Carrier>) -> Self {
        Self {
            carrier,
            request_timeout: Settings::default().request_timeout,
            defaults: Arc::default(),
        }
    }

    /// What carries the calls.
    #[must_use]
    pub fn carrier(&self) -> &Arc<dyn Carrier> {
        &self.carrier
    }

    /// The same client, whose calls are carried by what `around` makes of what carries them.
    #[must_use]
    pub fn carried_by(self, around: impl FnOnce(Arc<dyn Carrier>) -> Arc<dyn Carrier>) -> Self {
        Self { carrier: around(self.carrier), ..self }
    }

    /// The same client, whose calls have `options` where they do not say otherwise themselves.
    #[must_use]
    pub fn with(&self, options: CallOptions) -> Self {
        let defaults = Arc::new(options.or(&self.defaults));
        Self { defaults, ..self.clone() }
    }

    /// The same client, whose calls belong to a session.
    #[must_use]
    pub fn in_session(&self, id: impl Into<String>) -> Self {
        self.with(CallOptions { session: Some(id.into()), ..CallOptions::default() })
    }

    /// Makes sure that the service can be reached. Calls do so by themselves.
    ///
    /// # Errors
    /// [`Error::Unreachable`] with what was tried.
    ///
    /// # Cancel safety
    /// A connection that is being made is closed.
    pub async fn ready(&self) -> Result<(), Error> {
        self.carrier.ready().await
    }

    /// The way that the next call takes, as far as that is known.
    #[must_use]
    pub fn way(&self) -> Way {
        self.carrier.way()
    }

    /// What the client is connected to, for people.
    #[must_use]
    pub fn target(&self) -> String {
        self.carrier.target()
    }

    /// What this client counts of its calls, and what [`Clone`]s of it do; `None` for one made by
    /// [`AgentClient::connect`] or [`AgentClient::over`], unless its carrier counts.
    #[must_use]
    pub fn agent_metrics(&self) -> Option<Arc<AgentMetrics>> {
        self.carrier.metrics()
    }

    /// Tells the service what is still to be told of the calls made: those that got no answer, and where
    /// both ways differed. That happens by itself every few seconds; this is for the end of a program.
    ///
    /// # Cancel safety
    /// What is being told may be lost.
    pub async fn close(&self) {
        // Nothing follows from a report that did not arrive.
        drop(self.carrier.close().await);
    }

    /// What was tried in vain before the way that calls now take.
    #[must_use]
    pub fn earlier(&self) -> Vec<Attempt> {
        self.carrier.earlier()
    }

    /// Calls an operation with one request and one response. The response has the form of the request.
    ///
    /// # Errors
    /// [`Error::Failed`] with the service's error; [`Error::Unreachable`] if there is no service.
    ///
    /// # Cancel safety
    /// The call is given up; the service notices on gRPC, on D-Bus it may still finish.
    pub async fn call(&self, mut call: Call) -> Result<Payload, Error> {
        call.options = call.options.or(&self.defaults);
        let timeout = *call.options.timeout.get_or_insert(self.request_timeout);
        if self.carrier.keeps_time() {
            return self.carrier.call(call).await;
        }
        match tokio::time::timeout(timeout.saturating_add(GRACE), self.carrier.call(call)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::no_answer(timeout).into()),
        }
    }

    /// Opens a call with a stream on one side or both; the messages are encoded.
    ///
    /// # Errors
    /// As [`AgentClient::call`]; `UnknownOperation` where the way does not have the stream.
    ///
    /// # Cancel safety
    /// The call is given up; what becomes of the work, [`CallOptions::on_disconnect`] says.
    pub async fn stream(&self, mut call: StreamCall) -> Result<Messages, Error> {
        call.options = call.options.or(&self.defaults);
        self.carrier.stream(call).await
    }

    /// Calls an operation of an agent with its request as JSON, and gives the response as JSON.
    ///
    /// # Errors
    /// As [`AgentClient::call`].
    ///
    /// # Cancel safety
    /// As [`AgentClient::call`].
    pub async fn call_json(
        &self,
        agent: &str,
        operation: &str,
        arguments: &str,
        options: &CallOptions,
    ) -> Result<String, Error> {
        let call = Call {
            rpc: Cow::Owned(known::named(agent, operation)),
            request: Payload::Json(arguments.to_owned()),
            options: options.clone(),
        };
        match self.call(call).await? {
            Payload::Json(json) => Ok(json),
            Payload::Message(_) => Err(Failure::internal("the answer is no JSON").into()),
        }
    }

    /// Sends `payload` through every stage that any call passes, and checks that it comes back.
    ///
    /// # Errors
    /// As [`AgentClient::call`]; `Internal` if another payload comes back.
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn ping(&self, payload: &[u8], options: &CallOptions) -> Result<(), Error> {
        let message = PingRequest { payload: payload.to_vec().into() };
        let request = Request { message, options: options.clone() };
        let answer = AgentsClient::new(self.clone()).ping(request).await?;
        match answer.payload == payload {
            true => Ok(()),
            false => Err(Failure::internal("the ping came back changed").into()),
        }
    }

    /// The agents that are served.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`].
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn list_agents(
        &self,
        options: &CallOptions,
    ) -> Result<Answer<ListAgentsResponse>, Error> {
        let json = self.call_json(MANAGER, "ListAgents", "", options).await?;
        Answer::new("ListAgentsResponse", json)
    }

    /// One agent with its operations, or with the one operation named.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`].
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn describe_agent(
        &self,
        agent: &str,
        operation: Option<&str>,
        options: &CallOptions,
    ) -> Result<Answer<DescribeAgentResponse>, Error> {
        let request = serde_json::json!({
            "agent": agent,
            "operation": operation.unwrap_or_default(),
        });
        let json = self.call_json(MANAGER, "DescribeAgent", &request.to_string(), options).await?;
        Answer::new("DescribeAgentResponse", json)
    }

    /// The metrics in the Prometheus text format.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`].
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn metrics(
        &self,
        options: &CallOptions,
    ) -> Result<Answer<GetMetricsResponse>, Error> {
        let json = self.call_json(MANAGER, "GetMetrics", "", options).await?;
        Answer::new("GetMetricsResponse", json)
    }

    /// Makes several calls in one; `request` is a `BatchCallRequest` as JSON.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`] if the batch is refused; what came of its calls is in the answer.
    ///
    /// # Cancel safety
    /// The batch is given up, and what runs of it is cancelled.
    pub async fn batch(
        &self,
        request: &str,
        options: &CallOptions,
    ) -> Result<Answer<BatchCallResponse>, Error> {
        let json = self.call_json("calls", "BatchCall", request, options).await?;
        Answer::new("BatchCallResponse", json)
    }

    /// How the service is doing.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`].
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn status(&self, options: &CallOptions) -> Result<Answer<GetStatusResponse>, Error> {
        let json = self.call_json(MANAGER, "GetStatus", "", options).await?;
        Answer::new("GetStatusResponse", json)
    }
}

#[cfg(test)]
mod tests;
