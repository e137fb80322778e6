//! `op-dbusctl call`: any operation, with arguments typed by what it takes or with JSON.

use std::io::Read as _;

use serde_json::Value;

use super::Outcome;
use super::args::Call;
use super::arguments::{self, Schema};
use super::output::Output;
use super::problem::Problem;
use crate::client::{CallOptions, Client};

pub(super) async fn run(
    client: &Client,
    call: &Call,
    options: CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let request = request(client, call, &options).await?;
    let options = CallOptions { request_id: call.request_id.clone(), ..options };
    let result = client.call_json(&call.agent, &call.operation, &request, &options).await?;
    if output.json() {
        output.raw_json(&result)?
    } else {
        output.pretty_json(&result)?
    }
    Ok(Outcome::Done)
}

/// The request as JSON.
async fn request(client: &Client, call: &Call, options: &CallOptions) -> Result<String, Problem> {
    if let Some(data) = &call.data {
        if data != "-" {
            return Ok(data.clone());
        }
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text)?;
        return Ok(text);
    }
    if let [json] = call.arguments.as_slice()
        && json.trim_start().starts_with('{')
    {
        return Ok(json.clone());
    }
    let schema = schema(client, call, options).await?;
    Ok(arguments::build(&Schema::new(&schema), &call.arguments)?.to_string())
}

/// What the operation takes, from the service itself, which alone knows the agents of the moment.
async fn schema(client: &Client, call: &Call, options: &CallOptions) -> Result<Value, Problem> {
    let answer = client.describe_agent(&call.agent, Some(&call.operation), options).await?;
    let text = answer.message.operations.first().map(|operation| &operation.request_schema);
    text.and_then(|text| serde_json::from_str(text).ok()).ok_or_else(|| {
        Problem::Local(format!(
            "the service did not say what {}.{} takes; give the request with --data",
            call.agent, call.operation
        ))
    })
}
