//! The messages of a call, one after the other on standard output: as JSON, or the bytes that they
//! carry. Where they come from is not known here.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use serde_json::{Value, json};

use super::arguments::{Kind, Schema};
use super::output::Output;
use super::problem::Problem;
use crate::contract::{Contract, json_to_message};
use crate::proto::opdbus::agent::commands::v1::{Command, StartResponse};
use crate::proto::opdbus::v1::OperationDescription;

/// Where messages go.
#[derive(Debug)]
pub(super) struct Messages<'a> {
    output: &'a mut Output,
    form: Form,
}

/// What is written of a message.
#[derive(Debug)]
enum Form {
    /// All of it, as JSON.
    Json,
    /// The bytes of the field of this name.
    Bytes(String),
    /// What a program printed, on the stream that it is of; what it is said to be is kept, as JSON.
    Program(Option<Value>),
}

impl<'a> Messages<'a> {
    /// For messages as JSON.
    pub(super) fn json(output: &'a mut Output) -> Self {
        Self { output, form: Form::Json }
    }

    /// For messages of `operation` as the bytes that their first bytes field holds.
    ///
    /// # Errors
    /// A usage problem if there is none, or if the bytes would go to a terminal.
    pub(super) fn raw(
        operation: &OperationDescription,
        output: &'a mut Output,
    ) -> Result<Self, Problem> {
        if output.is_terminal() {
            let hint = "send them to a file or a program: … --raw … > FILE";
            return Err(Problem::usage("--raw does not write bytes to a terminal", hint));
        }
        let schema: Value = serde_json::from_str(&operation.response_schema).unwrap_or_default();
        let field = Schema::new(&schema)
            .fields()
            .into_iter()
            .find(|field| matches!(field.schema.kind(), Kind::Bytes))
            .map(|field| field.name.to_owned());
        let Some(field) = field else {
            let problem = format!("what {} gives has no bytes field", operation.name);
            return Err(Problem::usage(problem, "leave --raw away, and take JSON"));
        };
        Ok(Self { output, form: Form::Bytes(field) })
    }

    /// For what happens with a program.
    pub(super) fn of_program(output: &'a mut Output) -> Self {
        Self { output, form: Form::Program(None) }
    }

    /// The last that was said of the program.
    pub(super) fn command(&self) -> Option<Command> {
        match &self.form {
            Form::Program(command) => command.as_ref().and_then(command_of),
            Form::Json | Form::Bytes(_) => None,
        }
    }

    /// Shows a message at once.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn show(&mut self, json: &str) -> Result<(), Problem> {
        let unreadable =
            || Problem::Local(format!("the service's message cannot be read: {json:.200}"));
        match &mut self.form {
            Form::Bytes(field) => {
                let message: Value = serde_json::from_str(json).map_err(|_| unreadable())?;
                let bytes = bytes(&message, field).ok_or_else(unreadable)?;
                self.output.write_all(&bytes)?;
            }
            Form::Program(command) => {
                let mut message: Value = serde_json::from_str(json).map_err(|_| unreadable())?;
                if let Some(told) = message.get_mut("command").map(Value::take) {
                    *command = Some(told);
                }
                if self.output.json() {
                    self.output.raw_json(json)?;
                } else if let Some(chunk) = message.get("chunk") {
                    let bytes = bytes(chunk, "data").ok_or_else(unreadable)?;
                    match chunk.get("stream").and_then(Value::as_str) {
                        Some("STREAM_STDERR") => std::io::stderr().write_all(&bytes)?,
                        _ => self.output.write_all(&bytes)?,
                    }
                }
            }
            Form::Json if self.output.json() => self.output.raw_json(json)?,
            Form::Json => self.output.pretty_json(json)?,
        }
        Ok(self.output.flush()?)
    }
}

/// The bytes of a field; none if it is not there.
fn bytes(message: &Value, field: &str) -> Option<Vec<u8>> {
    match message.get(field) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(value) => STANDARD.decode(value.as_str()?).ok(),
    }
}

/// The command that the service's JSON says.
fn command_of(json: &Value) -> Option<Command> {
    let contract = Contract::built_in().ok()?;
    let service = contract.service("opdbus.agent.commands.v1.CommandsService").ok()?;
    let response = &service.operation("Start").ok()?.output;
    let message = json_to_message(response, &json!({"command": json}).to_string()).ok()?;
    StartResponse::decode(message.as_slice()).ok()?.command
}
