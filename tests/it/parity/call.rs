//! A call as every way makes it: what is asked, what is said beside it, and what comes of it.

use std::sync::Arc;

use op_dbus::call::{Interface, Transport};
use op_dbus::contract::Operation;
use serde_json::{Value, json};

use super::older;

/// One way to make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    TypedOverGrpc,
    TypedOverDbus,
    JsonOverGrpc,
    JsonOverDbus,
    /// The older interface on D-Bus.
    Older,
}

impl Way {
    pub const ALL: [Self; 5] = [
        Self::TypedOverGrpc,
        Self::TypedOverDbus,
        Self::JsonOverGrpc,
        Self::JsonOverDbus,
        Self::Older,
    ];

    pub fn transport(self) -> Transport {
        match self {
            Self::TypedOverGrpc | Self::JsonOverGrpc => Transport::Grpc,
            Self::TypedOverDbus | Self::JsonOverDbus | Self::Older => Transport::Dbus,
        }
    }

    /// The labels of the metrics by which its calls are counted.
    pub fn labels(self) -> [&'static str; 2] {
        let interface = if self == Self::Older { Interface::Legacy } else { Interface::Own };
        [self.transport().name(), interface.name()]
    }

    /// This way, or the one that takes its place for an operation that it has not, so that what is there
    /// afterwards is the same everywhere.
    pub fn for_operation(self, operation: &Operation) -> Self {
        match (self, operation.client_streaming) {
            (Self::Older, false) if older::word(operation).is_none() => Self::JsonOverDbus,
            (Self::JsonOverGrpc, true) => Self::TypedOverGrpc,
            (Self::JsonOverDbus | Self::Older, true) => Self::TypedOverDbus,
            (way, _) => way,
        }
    }
}

/// What a request looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Right,
    /// Nobody can read it.
    Unreadable,
    /// It has more bytes than a request may have.
    TooLarge,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    pub operation: Arc<Operation>,
    /// The request; of a stream of requests all of them, as a list.
    pub arguments: Value,
    pub form: Form,
    pub request_id: Option<String>,
    /// The approval that it has.
    pub approval_id: Option<String>,
    /// Time for the call that is over when it comes.
    pub is_late: bool,
    /// True if a task is to end with its client.
    pub ends_with_client: bool,
    /// What there was before with the same request id.
    pub repeat: Repeat,
}

/// Whether the request id of a call was used before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repeat {
    #[default]
    First,
    /// For the same request.
    Same,
    /// For another one.
    Other,
}

impl Call {
    pub fn new(operation: &Arc<Operation>, arguments: Value) -> Self {
        Self {
            operation: Arc::clone(operation),
            arguments,
            form: Form::Right,
            request_id: None,
            approval_id: None,
            is_late: false,
            ends_with_client: false,
            repeat: Repeat::First,
        }
    }

    /// True if it gives a task that was started before.
    fn finds_task(&self) -> bool {
        let operation = &self.operation;
        self.repeat == Repeat::Same && operation.is_streaming() && operation.is_agents
    }

    /// The requests, of which there is one unless they are a stream.
    pub fn requests(&self) -> Vec<Value> {
        let list = self.arguments.as_array().cloned();
        list.unwrap_or_else(|| vec![self.arguments.clone()])
    }

    /// The request as JSON.
    pub fn json(&self) -> String {
        match self.form {
            Form::Right => self.arguments.to_string(),
            Form::Unreadable => json!({"no_such_field": 1}).to_string(),
            Form::TooLarge => json!({"no_such_field": too_long()}).to_string(),
        }
    }
}

/// The most bytes that a request may have here.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// A text that is longer.
pub fn too_long() -> String {
    "x".repeat(MAX_REQUEST_BYTES + 1)
}

/// What came of a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// The answer; of a stream all of them.
    pub messages: Vec<Value>,
    /// The reason of the error with which it ended, if it did.
    pub reason: Option<String>,
    /// The calls that were made for it and for which the service should have a count: the agent, the
    /// operation, and the outcome as it is counted.
    pub counted: Vec<(String, String, String)>,
}

impl Said {
    /// The outcome of a call with one answer, counted unless it was too large to be a call.
    pub fn of(call: &Call, outcome: Result<Vec<Value>, String>) -> Self {
        let (messages, reason) = match outcome {
            Ok(messages) => (messages, None),
            Err(reason) => (Vec::new(), Some(reason)),
        };
        Self::ended(call, messages, reason)
    }

    /// The outcome of a call that gave these messages before its end.
    pub fn ended(call: &Call, messages: Vec<Value>, reason: Option<String>) -> Self {
        let mut said = Self { messages, reason, counted: Vec::new() };
        match call.form {
            // The task is found; what comes of it is counted once.
            Form::Right if call.finds_task() && said.reason.as_deref() != Some("ACCESS_DENIED") => {
                said.counts_as(&call.operation, "ok");
            }
            Form::Right | Form::Unreadable => said.counts(&call.operation),
            Form::TooLarge => {}
        }
        said
    }

    /// Notes that this outcome is counted for `operation`.
    pub fn counts(&mut self, operation: &Operation) {
        let outcome = self.reason.as_deref().unwrap_or("ok").to_ascii_lowercase();
        self.counts_as(operation, &outcome);
    }

    /// Notes that `outcome` is counted for `operation`.
    pub fn counts_as(&mut self, operation: &Operation, outcome: &str) {
        self.counted.push((operation.agent.clone(), operation.name.clone(), outcome.to_owned()));
    }

    /// The one answer, or the reason why there is none.
    pub fn answer(&self) -> Result<&Value, &str> {
        match &self.reason {
            Some(reason) => Err(reason),
            None => Ok(self.messages.first().unwrap_or(&Value::Null)),
        }
    }
}
