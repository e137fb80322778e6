//! The client in the shape that chat programs know: sessions, executions by name with JSON, chunks as they
//! come, batches. It speaks the contract `op_chat.agents`, so that agents and operations may have the names
//! of older programs.

use serde_json::Value;

use super::address::{GrpcAddress, Target};
use super::error::{Error, Failure};
use super::settings::{Settings, Via};
use super::{AgentClient, Request, Responses};
use crate::error::ErrorKind;
use crate::proto::op_chat::agents::{
    AgentClient as Executions, BatchExecuteRequest, CargoRequest, EndSessionRequest, ExecuteChunk,
    ExecuteRequest, ExecuteResponse, RustProAgentClient, StartSessionRequest,
};

/// What the last chunk of a stream that failed is called.
const ERROR_CHUNK: &str = "error";

/// A client for chat programs, over gRPC.
///
/// ```no_run
/// use op_dbus::client::{GrpcAgentClient, Settings};
/// use serde_json::json;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = GrpcAgentClient::new(&Settings::load()?);
/// let agents = client.start_session("chat-1", "cursor").await?;
/// println!("ready: {}", agents.join(", "));
/// let calls = vec![
///     ("memory", "remember", json!({"key": "project", "value": "op-dbus"})),
///     ("memory", "remember", json!({"key": "language", "value": "rust"})),
/// ];
/// for result in client.batch_execute("chat-1", calls, true).await? {
///     println!("{}", result?);
/// }
/// client.end_session("chat-1").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct GrpcAgentClient {
    executions: Executions,
    rust_pro: RustProAgentClient,
}

/// A part of what an execution gives, as it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The text: a message of the operation as JSON, or a line of a program's output.
    pub content: String,
    /// What it is: `result` for a message, `stdout` or `stderr` for a program's output.
    pub stream_type: String,
    /// True for the last one, which may be empty.
    pub is_final: bool,
    /// With what the program ended; 0 until the last one.
    pub exit_code: i32,
}

impl GrpcAgentClient {
    /// A client that takes gRPC with these settings, whatever they say of other ways. It connects when it
    /// is first needed.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self::over(AgentClient::new(&Settings { via: Via::Grpc, ..settings.clone() }))
    }

    /// A client of the service at `address`, as `unix:/run/op-dbus/grpc.sock`, that has connected.
    ///
    /// # Errors
    /// `InvalidArgument` if that is no address; [`Error::Unreachable`] if nobody can be reached there.
    ///
    /// # Cancel safety
    /// A connection that is being made is closed.
    pub async fn connect(address: &str) -> Result<Self, Error> {
        let address: GrpcAddress = address.parse().map_err(|problem| {
            Failure::new(ErrorKind::InvalidArgument, format!("address: {problem}"))
        })?;
        let credentials = Settings::default().credentials;
        Ok(Self::over(AgentClient::connect(&[Target::Grpc(address)], &credentials).await?))
    }

    /// A client whose calls go over `client`.
    #[must_use]
    pub fn over(client: AgentClient) -> Self {
        Self {
            executions: Executions::new(client.clone()),
            rust_pro: RustProAgentClient::new(client),
        }
    }

    /// What calls go over.
    #[must_use]
    pub fn client(&self) -> &AgentClient {
        self.executions.client()
    }

    /// Starts a session, or goes on with it if it is there, and gives the agents that are ready in it.
    ///
    /// # Errors
    /// As [`AgentClient::call`].
    ///
    /// # Cancel safety
    /// The call is given up; the session may have been started.
    pub async fn start_session(
        &self,
        session_id: &str,
        client_name: &str,
    ) -> Result<Vec<String>, Error> {
        let request = StartSessionRequest {
            session_id: session_id.to_owned(),
            client_name: client_name.to_owned(),
            ..StartSessionRequest::default()
        };
        let started = self.executions.start_session(request).await?;
        match started.success {
            true => {
                if let Some(metrics) = self.client().agent_metrics() {
                    metrics.session_began();
                }
                Ok(started.started_agents)
            }
            false => Err(failure(&started.message).into()),
        }
    }

    /// Ends a session, and with it what is kept for it only.
    ///
    /// # Errors
    /// As [`AgentClient::call`]; `NotFound` if there is no such session.
    ///
    /// # Cancel safety
    /// The call is given up; the session may have been ended.
    pub async fn end_session(&self, session_id: &str) -> Result<(), Error> {
        let request = EndSessionRequest { session_id: session_id.to_owned() };
        match self.executions.end_session(request).await?.success {
            true => {
                if let Some(metrics) = self.client().agent_metrics() {
                    metrics.session_ended();
                }
                Ok(())
            }
            false => Err(Failure::internal("the session was not ended").into()),
        }
    }

    /// Executes an operation and gives its result as a whole; that of a stream is a list. An empty
    /// `session_id` is no session.
    ///
    /// # Errors
    /// As [`AgentClient::call`].
    ///
    /// # Cancel safety
    /// The operation is cancelled.
    pub async fn execute(
        &self,
        session_id: &str,
        agent_id: &str,
        operation: &str,
        arguments: Value,
    ) -> Result<Value, Error> {
        let request = execution(session_id, agent_id, operation, &arguments);
        result(self.executions.execute(request).await?).map_err(Error::Failed)
    }

    /// Executes an operation and gives each chunk to `on_chunk` as it comes. The next one is read once
    /// `on_chunk` has returned, so that a slow one holds the operation up rather than memory.
    ///
    /// # Errors
    /// As [`AgentClient::stream`]. Chunks that came before were good.
    ///
    /// # Cancel safety
    /// The operation is cancelled.
    pub async fn execute_stream(
        &self,
        session_id: &str,
        agent_id: &str,
        operation: &str,
        arguments: Value,
        mut on_chunk: impl FnMut(Chunk),
    ) -> Result<(), Error> {
        let request = execution(session_id, agent_id, operation, &arguments);
        let mut chunks: Responses<ExecuteChunk> = self.executions.execute_stream(request).await?;
        while let Some(chunk) = chunks.message().await? {
            if chunk.stream_type == ERROR_CHUNK {
                return Err(failure(&chunk.chunk).into());
            }
            on_chunk(Chunk {
                content: chunk.chunk,
                stream_type: chunk.stream_type,
                is_final: chunk.is_final,
                exit_code: chunk.exit_code,
            });
        }
        Ok(())
    }

    /// Executes several operations in one round trip, side by side if `parallel`. The results are in the
    /// order of the calls, each as [`GrpcAgentClient::execute`] would give it.
    ///
    /// # Errors
    /// As [`AgentClient::stream`] if the batch as a whole fails.
    ///
    /// # Cancel safety
    /// What has not ended is cancelled.
    pub async fn batch_execute(
        &self,
        session_id: &str,
        calls: Vec<(&str, &str, Value)>,
        parallel: bool,
    ) -> Result<Vec<Result<Value, Failure>>, Error> {
        let count = calls.len();
        let requests = calls.into_iter().map(|(agent_id, operation, arguments)| {
            execution(session_id, agent_id, operation, &arguments)
        });
        let request = BatchExecuteRequest {
            session_id: session_id.to_owned(),
            requests: requests.collect(),
            parallel,
        };
        let mut responses = self.executions.batch_execute(request).await?;
        let mut results = Vec::with_capacity(count);
        while let Some(response) = responses.message().await? {
            results.push(result(response));
        }
        match results.len() == count {
            true => Ok(results),
            false => {
                let problem = format!("{count} calls have {} results", results.len());
                Err(Failure::internal(problem).into())
            }
        }
    }

    /// Builds the package at `path` and gives each line of cargo's output to `on_chunk` as it comes; the
    /// number is what cargo ended with.
    ///
    /// # Errors
    /// As [`AgentClient::stream`]; `UnknownOperation` if the service has no agent for Rust.
    ///
    /// # Cancel safety
    /// The build is cancelled.
    pub async fn cargo_build(
        &self,
        session_id: &str,
        path: &str,
        release: bool,
        mut on_chunk: impl FnMut(Chunk),
    ) -> Result<i32, Error> {
        let request = CargoRequest {
            session_id: session_id.to_owned(),
            path: path.to_owned(),
            release,
            ..CargoRequest::default()
        };
        let mut lines = self.rust_pro.build(Request::new(request)).await?;
        let mut exit_code = 0;
        while let Some(line) = lines.message().await? {
            exit_code = line.exit_code;
            on_chunk(Chunk {
                content: line.line,
                stream_type: line.stream,
                is_final: line.is_final,
                exit_code,
            });
        }
        Ok(exit_code)
    }
}

fn execution(
    session_id: &str,
    agent_id: &str,
    operation: &str,
    arguments: &Value,
) -> ExecuteRequest {
    ExecuteRequest {
        session_id: session_id.to_owned(),
        agent_id: agent_id.to_owned(),
        operation: operation.to_owned(),
        arguments_json: if arguments.is_null() { String::new() } else { arguments.to_string() },
        timeout_ms: 0,
    }
}

fn result(response: ExecuteResponse) -> Result<Value, Failure> {
    if !response.success {
        return Err(failure(&response.error));
    }
    serde_json::from_str(&response.result_json)
        .map_err(|error| Failure::internal(format!("the service's answer cannot be read: {error}")))
}

/// A failure as the contract writes it: the reason, a colon, the text for people.
fn failure(text: &str) -> Failure {
    let (reason, message) = text.split_once(": ").unwrap_or_default();
    match ErrorKind::ALL.into_iter().find(|kind| kind.reason() == reason) {
        Some(kind) => Failure::new(kind, message),
        None => Failure::internal(text),
    }
}
