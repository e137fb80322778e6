//! A call with a stream of requests, or of one of op-dbus's own services, over gRPC as the method is.
//! Streams of responses that are tasks are `follow.rs`.

use std::borrow::Cow;
use std::io::BufReader;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

use super::Outcome;
use super::follow::{Interrupts, called_off};
use super::lines;
use super::messages::Messages;
use super::problem::Problem;
use crate::client::{AgentClient, CallOptions, Requests, Rpc, StreamCall, Way};
use crate::contract::{Contract, Operation, json_to_message, message_to_json};
use crate::proto::opdbus::v1::OnDisconnect;

/// What is sent.
#[derive(Debug)]
pub(super) enum Input {
    /// The one request, as JSON.
    One(String),
    /// A request on each line of standard input.
    Lines,
}

/// Makes the call and shows its responses. Ctrl-C and a wrong request break it off.
pub(super) async fn run(
    client: &AgentClient,
    operation: &Operation,
    input: Input,
    messages: &mut Messages<'_>,
    interrupts: &mut Interrupts,
    mut options: CallOptions,
) -> Result<Outcome, Problem> {
    options.on_disconnect = OnDisconnect::Cancel;
    match input {
        Input::One(json) => {
            let request = json_to_message(&operation.input, &json)
                .map_err(|error| Problem::usage(error.to_string(), ""))?;
            let requests = futures_util::stream::iter([Bytes::from(request)]);
            tokio::select! {
                () = interrupts.next() => Err(called_off("the call was cancelled")),
                outcome = exchange(client, operation, requests, messages, options) => outcome,
            }
        }
        Input::Lines => {
            let stdin = BufReader::new(std::io::stdin());
            let (requests, broken) = lines::read(stdin, operation.input.clone());
            tokio::select! {
                () = interrupts.next() => Err(called_off("the call was cancelled")),
                Ok(problem) = broken => Err(problem),
                outcome = exchange(client, operation, requests, messages, options) => outcome,
            }
        }
    }
}

async fn exchange(
    client: &AgentClient,
    operation: &Operation,
    requests: impl Stream<Item = Bytes> + Send + 'static,
    messages: &mut Messages<'_>,
    options: CallOptions,
) -> Result<Outcome, Problem> {
    let call = StreamCall {
        rpc: Cow::Owned(Rpc::from(operation)),
        requests: Requests::Many(requests.boxed()),
        options,
    };
    let mut responses = client.stream(call).await?;
    while let Some(response) = responses.next().await {
        let json = message_to_json(&operation.output, &response?)
            .map_err(|error| Problem::Local(error.to_string()))?;
        messages.show(&json)?;
    }
    Ok(Outcome::Done)
}

/// What this program itself knows of an operation; `None` if it is of another release.
pub(super) fn known(grpc_path: &str) -> Result<Option<std::sync::Arc<Operation>>, Problem> {
    let contract = Contract::built_in().map_err(|error| Problem::Local(error.to_string()))?;
    let mut operations = contract.services.iter().flat_map(|service| &service.operations);
    Ok(operations.find(|operation| operation.grpc_path == grpc_path).cloned())
}

/// Refuses a connection that streams do not go over.
pub(super) fn require_grpc(client: &AgentClient, name: &str, what: &str) -> Result<(), Problem> {
    match client.way() {
        Way::Grpc => Ok(()),
        Way::Dbus | Way::Legacy => Err(Problem::usage(
            format!("{name} {what}, which op-dbusctl serves over gRPC only"),
            "--via grpc takes that way; --address unix:/PATH says where the socket is",
        )),
    }
}
