//! The client library: one interface over gRPC and D-Bus. It sends calls and reads answers; which
//! transport to prefer is the user's choice, and what a call may do is the service's.

mod address;
mod answer;
mod credentials;
mod dbus;
mod error;
mod grpc;
mod ledger;
mod rights;
mod stages;
mod stream;
mod tasks;
mod watch;

use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;

use crate::call::Transport;
use crate::error::ErrorKind;
use crate::proto::opdbus::v1::{
    BatchCallResponse, DescribeAgentResponse, GetMetricsResponse, GetStatusResponse,
    ListAgentsResponse,
};

pub use address::{Bus, GrpcAddress, Target};
pub use answer::Answer;
pub use credentials::Credentials;
pub use error::{Attempt, Error, Failure};
pub use ledger::UseFilter;
pub use stream::{Messages, StreamOptions};
pub use tasks::{NewTask, Page, TaskFilter, outcome};
pub use watch::TaskEvents;

pub use crate::wire::NewToken;

/// The agent id of op-dbus's own operations.
pub const MANAGER: &str = "agents";

/// The largest answer that is taken, in bytes: the most that fits into one D-Bus message.
pub const MAX_ANSWER_BYTES: usize = 128 * 1024 * 1024;

/// How long to wait for a connection before the next target is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How much longer than the call's own time an answer is waited for, so that the service's own
/// error, which says more, comes first.
const GRACE: Duration = Duration::from_secs(2);

/// What belongs to a call but not to its request.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    /// How long the service may take; its own default if `None`.
    pub timeout: Option<Duration>,
    /// The name of the request: a second call with the same name gets the first one's result.
    pub request_id: Option<String>,
    /// The approval that the call has, from the error of the same call made before.
    pub approval_id: Option<String>,
    /// Whether the user may be asked to authenticate for the call, which then waits for him.
    pub interactive: bool,
}

/// A connection to the service.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    /// What was tried in vain before this connection.
    earlier: Vec<Attempt>,
}

#[derive(Debug)]
enum Connection {
    Grpc(grpc::Connection),
    Dbus(dbus::Connection),
}

impl Client {
    /// Connects to the first of `targets` that can be reached, with `credentials` on gRPC.
    ///
    /// # Errors
    /// [`Error::Unreachable`] with what was tried if none can be reached.
    ///
    /// # Cancel safety
    /// A connection that is being made is closed.
    pub async fn connect(targets: &[Target], credentials: &Credentials) -> Result<Self, Error> {
        let mut earlier = Vec::new();
        for target in targets {
            match tokio::time::timeout(CONNECT_TIMEOUT, Connection::new(target, credentials)).await
            {
                Ok(Ok(connection)) => return Ok(Self { connection, earlier }),
                Ok(Err(problem)) => earlier.push(Attempt { target: target.to_string(), problem }),
                Err(_) => earlier.push(Attempt {
                    target: target.to_string(),
                    problem: format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()),
                }),
            }
        }
        Err(Error::Unreachable(earlier))
    }

    /// The transport that calls take.
    #[must_use]
    pub fn transport(&self) -> Transport {
        match &self.connection {
            Connection::Grpc(_) => Transport::Grpc,
            Connection::Dbus(_) => Transport::Dbus,
        }
    }

    /// What the client is connected to, for people.
    #[must_use]
    pub fn target(&self) -> String {
        match &self.connection {
            Connection::Grpc(connection) => connection.target(),
            Connection::Dbus(connection) => connection.target(),
        }
    }

    /// What was tried in vain before this connection was made.
    #[must_use]
    pub fn earlier(&self) -> &[Attempt] {
        &self.earlier
    }

    /// Calls an operation of an agent with its request as JSON, and gives the response as JSON.
    ///
    /// # Errors
    /// [`Error::Failed`] with the service's error; [`Error::Unreachable`] if there is no service.
    ///
    /// # Cancel safety
    /// The call is given up; the service notices on gRPC, on D-Bus it may still finish.
    pub async fn call_json(
        &self,
        agent: &str,
        operation: &str,
        arguments: &str,
        options: &CallOptions,
    ) -> Result<String, Error> {
        let call = async {
            match &self.connection {
                Connection::Grpc(connection) => {
                    connection.call_json(agent, operation, arguments, options).await
                }
                Connection::Dbus(connection) => {
                    connection.call_json(agent, operation, arguments, options).await
                }
            }
        };
        self.within(options, call).await
    }

    /// Sends `payload` through every stage that any call passes, and checks that it comes back.
    ///
    /// # Errors
    /// As [`Client::call_json`]; `Internal` if another payload comes back.
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn ping(&self, payload: &[u8], options: &CallOptions) -> Result<(), Error> {
        let call = async {
            match &self.connection {
                Connection::Grpc(connection) => connection.ping(payload, options).await,
                Connection::Dbus(connection) => connection.ping(payload, options).await,
            }
        };
        let answer = self.within(options, call).await?;
        if answer == payload {
            Ok(())
        } else {
            Err(Failure::internal("the ping came back changed").into())
        }
    }

    /// Opens a call with a stream on one side or both, at its path on gRPC as
    /// `/opdbus.v1.TasksService/WatchTask`. `requests` are encoded messages, one for an operation
    /// that takes one; so are those that come back.
    ///
    /// # Errors
    /// As [`Client::call_json`]; `InvalidArgument` over D-Bus, where a stream is a task whose messages
    /// come as signals.
    ///
    /// # Cancel safety
    /// The call is given up; what becomes of the work, [`StreamOptions::on_disconnect`] says.
    pub async fn stream(
        &self,
        path: &str,
        requests: impl Stream<Item = Bytes> + Send + 'static,
        options: &StreamOptions,
    ) -> Result<Messages, Error> {
        match &self.connection {
            Connection::Grpc(connection) => connection
                .stream(path, requests, options)
                .await
                .map_err(|error| error.after(&self.earlier)),
            Connection::Dbus(_) => Err(Failure::new(
                ErrorKind::InvalidArgument,
                "this client reads streams over gRPC only; connect to the gRPC socket",
            )
            .into()),
        }
    }

    /// The agents that are served.
    ///
    /// # Errors
    /// As [`Client::call_json`].
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
    /// As [`Client::call_json`].
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
    /// As [`Client::call_json`].
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
    /// As [`Client::call_json`] if the batch is refused; what came of its calls is in the answer.
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
    /// As [`Client::call_json`].
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn status(&self, options: &CallOptions) -> Result<Answer<GetStatusResponse>, Error> {
        let json = self.call_json(MANAGER, "GetStatus", "", options).await?;
        Answer::new("GetStatusResponse", json)
    }

    /// Waits for a call, a little longer than its own time.
    async fn within<T>(
        &self,
        options: &CallOptions,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let outcome = match options.timeout {
            Some(timeout) => {
                match tokio::time::timeout(timeout.saturating_add(GRACE), call).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(Failure::no_answer(timeout).into()),
                }
            }
            None => call.await,
        };
        outcome.map_err(|error| error.after(&self.earlier))
    }
}

impl Connection {
    async fn new(target: &Target, credentials: &Credentials) -> Result<Self, String> {
        match target {
            Target::Grpc(address) => {
                grpc::Connection::new(address, credentials).await.map(Self::Grpc)
            }
            Target::Dbus { bus, name } => dbus::Connection::new(bus, name).await.map(Self::Dbus),
        }
    }
}

#[cfg(test)]
mod tests;
