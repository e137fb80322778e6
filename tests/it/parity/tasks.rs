//! A stream by JSON: a task that is started, waited for and read.

use serde_json::{Value, json};

use super::call::{Call, Form, Repeat, Said, Way, too_long};
use super::client::Client;
use super::roles::Role;

impl Client {
    /// Starts the task of a stream. What is counted so far is in the second; the first is the task's id.
    pub async fn start(&self, way: Way, call: &Call) -> (Option<String>, Said) {
        let operation = &call.operation;
        let arguments = match call.form {
            Form::Right => call.arguments.to_string(),
            Form::Unreadable => json!({"no_such_field": 1}).to_string(),
            Form::TooLarge => too_long(),
        };
        let mut request = json!({
            "agent": operation.agent, "operation": operation.name, "arguments": arguments,
        });
        if call.is_late {
            request["timeout"] = json!("0s");
        }
        if call.ends_with_client {
            request["on_disconnect"] = json!("ON_DISCONNECT_CANCEL");
        }
        let start = self.operation("calls", "StartCall");
        let start = Call { request_id: call.request_id.clone(), ..Call::new(&start, request) };
        let outcome = self.json(way, &start).await;
        let mut said = Said { reason: outcome.as_ref().err().cloned(), ..Said::default() };
        if call.form == Form::TooLarge {
            return (None, said);
        }
        said.counts(&start.operation);
        // Who may start no call gets no further than that, and neither does who has started it.
        if said.reason.is_some() && self.role != Role::Denied && call.repeat == Repeat::First {
            said.counts(operation);
        }
        let id = outcome.ok().map(|started| started["task"]["id"].as_str().unwrap().to_owned());
        (id, said)
    }

    /// A stream as a task.
    pub async fn as_task(&self, way: Way, call: &Call) -> Said {
        let (id, mut said) = self.start(way, call).await;
        let Some(id) = id else { return said };
        let wait = self.of_tasks(way, "WaitTask", json!({"id": id, "timeout": "120s"}), &mut said);
        let waited = wait.await;
        assert_eq!(waited["ended"], json!(true), "{call:?}");
        let read = json!({"id": id, "json": true, "max_messages": 1000});
        let read = self.of_tasks(way, "ReadTask", read, &mut said).await;
        let messages = read["messages"].as_array().cloned().unwrap_or_default();
        let messages = messages
            .iter()
            .map(|message| serde_json::from_str(message["json"].as_str().unwrap()).unwrap());
        said.messages = messages.collect();
        said.reason = waited["task"]["failure"]["reason"].as_str().map(str::to_owned);
        // One that was started before is not counted again.
        if call.repeat == Repeat::First {
            said.counts(&call.operation);
        }
        said
    }

    async fn of_tasks(&self, way: Way, name: &str, arguments: Value, said: &mut Said) -> Value {
        let call = Call::new(&self.operation("tasks", name), arguments);
        let answer = self.json(way, &call).await.unwrap();
        said.counts(&call.operation);
        answer
    }
}
