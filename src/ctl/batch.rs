//! `op-dbusctl batch`: several calls in one, from a file. What the calls may be is the service's to say.

use std::io::Read as _;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Outcome;
use super::args::Batch;
use super::output::Output;
use super::problem::Problem;
use super::table::Table;
use crate::client::{AgentClient, CallOptions};
use crate::proto::opdbus::v1::{BatchCallResponse, BatchResult, BatchStatus};

/// One call as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    agent: String,
    operation: String,
    /// As it is written: a number must not be rounded on its way.
    #[serde(default)]
    arguments: Option<Box<RawValue>>,
    #[serde(default)]
    id: String,
    #[serde(default)]
    after: Vec<String>,
    #[serde(default)]
    timeout: Option<String>,
    #[serde(default)]
    request_id: String,
}

/// One call as the service takes it.
#[derive(Serialize)]
struct Sent<'a> {
    agent: &'a str,
    operation: &'a str,
    arguments: String,
    id: &'a str,
    after: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<&'a str>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct Request<'a> {
    items: Vec<Sent<'a>>,
    parallel: bool,
    max_parallel: u32,
    stop_on_error: bool,
    order: &'static str,
}

pub(super) async fn run(
    client: &AgentClient,
    batch: &Batch,
    options: CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let items = items(&text(batch)?)?;
    let request = Request {
        items: items.iter().map(Item::sent).collect::<Result<_, _>>()?,
        parallel: batch.parallel || batch.max_parallel.is_some(),
        max_parallel: batch.max_parallel.unwrap_or_default(),
        stop_on_error: batch.stop_on_error,
        order: if batch.as_completed { "BATCH_ORDER_COMPLETION" } else { "BATCH_ORDER_REQUEST" },
    };
    let request = serde_json::to_string(&request).map_err(std::io::Error::from)?;
    let options = CallOptions { request_id: batch.request_id.clone(), ..options };
    let answer = client.batch(&request, &options).await?;
    if output.json() {
        output.raw_json(&answer.json)?;
    } else {
        write(&answer.message, &items, output)?;
    }
    Ok(if answer.message.failed == 0 { Outcome::Done } else { Outcome::Refused })
}

fn text(batch: &Batch) -> Result<String, Problem> {
    if batch.file.as_os_str() != "-" {
        let shown = batch.file.display();
        return std::fs::read_to_string(&batch.file)
            .map_err(|error| Problem::Local(format!("{shown}: {error}")));
    }
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text)?;
    Ok(text)
}

/// The calls of a list, or of objects one after the other.
fn items(text: &str) -> Result<Vec<Item>, Problem> {
    let read = if text.trim_start().starts_with('[') {
        serde_json::from_str(text)
    } else {
        serde_json::Deserializer::from_str(text).into_iter().collect()
    };
    read.map_err(|error: serde_json::Error| {
        let hint = "a call is {\"agent\": …, \"operation\": …, \"arguments\": {…}}; see --help";
        Problem::usage(format!("the calls cannot be read: {error}"), hint)
    })
}

impl Item {
    fn sent(&self) -> Result<Sent<'_>, Problem> {
        let arguments = self.arguments.as_ref().map_or("", |json| json.get());
        // A request that stands in the file as a text is that text.
        let arguments = match arguments.starts_with('"') {
            true => serde_json::from_str(arguments).map_err(std::io::Error::from)?,
            false => arguments.to_owned(),
        };
        Ok(Sent {
            agent: &self.agent,
            operation: &self.operation,
            arguments,
            id: &self.id,
            after: &self.after,
            timeout: self.timeout.as_deref(),
            request_id: &self.request_id,
        })
    }
}

fn write(response: &BatchCallResponse, items: &[Item], output: &mut Output) -> Result<(), Problem> {
    let mut table = Table::new(&[">#", "ID", "CALL", "STATUS", ">TIME", "RESULT"]);
    for result in &response.results {
        let item = usize::try_from(result.index).ok().and_then(|index| items.get(index));
        table.row([
            &result.index.to_string(),
            &result.id,
            &item.map(|item| format!("{}.{}", item.agent, item.operation)).unwrap_or_default(),
            status(result.status()),
            &time(result),
            &outcome(result),
        ]);
    }
    table.write(0, output)?;
    if response.failed > 0 {
        let (failed, all) = (response.failed, response.results.len());
        let text = format!("{failed} of {all} calls did not go well");
        output.line("")?;
        output.line(&output.paint().red(&text))?;
    }
    Ok(())
}

fn status(status: BatchStatus) -> &'static str {
    match status {
        BatchStatus::Unspecified => "?",
        BatchStatus::Ok => "ok",
        BatchStatus::Failed => "failed",
        BatchStatus::Skipped => "skipped",
    }
}

fn time(result: &BatchResult) -> String {
    let took = result.took.and_then(|took| std::time::Duration::try_from(took).ok());
    took.map_or_else(String::new, |took| format!("{:.1} ms", took.as_secs_f64() * 1000.0))
}

fn outcome(result: &BatchResult) -> String {
    match &result.failure {
        Some(failure) => format!("{}: {}", failure.reason, failure.message),
        None => result.result.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(text: &str) -> Vec<(String, String)> {
        let items = items(text).unwrap();
        let sent = items.iter().map(|item| item.sent().unwrap());
        sent.map(|item| (item.operation.to_owned(), item.arguments)).collect()
    }

    #[test]
    fn calls_are_a_list_or_objects_one_after_the_other() {
        let one = r#"{"agent":"a","operation":"x","arguments":{"n": 18446744073709551617}}"#;
        let two = r#"{"agent":"a","operation":"y","arguments":"{\"k\":1}","after":["i"]}"#;
        let three = r#"{"agent":"a","operation":"z"}"#;
        let expected = [("x", r#"{"n": 18446744073709551617}"#), ("y", r#"{"k":1}"#), ("z", "")];
        let expected = expected.map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(sent(&format!(" [{one},\n{two},{three}]\n")), expected);
        assert_eq!(sent(&format!("{one}\n{two}\n\n{three}")), expected);
        assert!(sent("").is_empty());
    }

    #[test]
    fn what_is_no_call_is_named_with_its_place() {
        for (text, problem) in [
            (r#"[{"agent":"a","operation":"x","argument":{}}]"#, "unknown field `argument`"),
            (r#"[{"agent":"a"}]"#, "missing field `operation`"),
            ("{\"agent\":\"a\",\n\"operation\":5}", "line 2 column 13"),
            ("[", "EOF"),
        ] {
            let Err(Problem::Usage(message, _)) = items(text) else { panic!("{text} was taken") };
            assert!(message.contains(problem), "{message}");
        }
    }
}
