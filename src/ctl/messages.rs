//! The messages of a call, one after the other on standard output: as JSON, or the bytes that they
//! carry. Where they come from is not known here.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::arguments::{Kind, Schema};
use super::output::Output;
use super::problem::Problem;
use crate::proto::opdbus::v1::OperationDescription;

/// Where messages go.
#[derive(Debug)]
pub(super) struct Messages<'a> {
    output: &'a mut Output,
    /// The field whose bytes are written, in the place of JSON.
    bytes: Option<String>,
}

impl<'a> Messages<'a> {
    /// For messages as JSON.
    pub(super) fn json(output: &'a mut Output) -> Self {
        Self { output, bytes: None }
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
        Ok(Self { output, bytes: Some(field) })
    }

    /// Shows a message at once.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn show(&mut self, json: &str) -> Result<(), Problem> {
        match &self.bytes {
            Some(field) => {
                let bytes = bytes(json, field).ok_or_else(|| {
                    Problem::Local(format!("the service's message cannot be read: {json:.200}"))
                })?;
                self.output.write_all(&bytes)?;
            }
            None if self.output.json() => self.output.raw_json(json)?,
            None => self.output.pretty_json(json)?,
        }
        Ok(self.output.flush()?)
    }
}

/// The bytes of a field; none if it is not there.
fn bytes(json: &str, field: &str) -> Option<Vec<u8>> {
    let message: Value = serde_json::from_str(json).ok()?;
    match message.get(field) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(value) => STANDARD.decode(value.as_str()?).ok(),
    }
}
