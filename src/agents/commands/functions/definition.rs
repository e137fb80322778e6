//! A function that can be called: its definition, checked. It runs nothing.

use std::path::Path;

use prost_types::Struct;
use serde_json::Value;

use super::json::object;
use super::schema::Schema;
use super::template::Template;
use crate::error::Error;
use crate::process::environment;
use crate::proto::opdbus::agent::commands::v1::{ExecRequest, Function, Run, Stdin};

/// The longest name, in bytes.
const NAME_MAX: usize = 64;
/// How many elements an argument vector may have as it is registered (`commands.function_elements`).
const ELEMENTS_MAX: usize = 256;

/// A function that can be called.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) function: Function,
    schema: Schema,
    template: Template,
}

impl Definition {
    /// Checks a definition.
    ///
    /// # Errors
    /// `InvalidArgument` naming the field and the place within it; `LimitExceeded`.
    pub(super) fn check(function: Function) -> Result<Self, Error> {
        check_name("function.name", &function.name)?;
        if function.argv.len() > ELEMENTS_MAX {
            let text = format!("function.argv: has {} elements", function.argv.len());
            return Err(Error::limit("commands.function_elements", ELEMENTS_MAX, text));
        }
        no_zero_byte("function.description", &function.description)?;
        let directory = &function.directory;
        if directory.contains('\0') || !(directory.is_empty() || Path::new(directory).is_absolute())
        {
            return Err(Error::invalid("function.directory", "must be an absolute path"));
        }
        check_run(function.run.as_ref())?;
        let schema = Schema::compile(function.schema.clone())?;
        let template = Template::parse(&function.argv, &schema)?;
        let input = &function.input_argument;
        if !input.is_empty() && !schema.is_text(input) {
            let problem = format!("the schema has no property {input:?} of the type string");
            return Err(Error::invalid("function.input_argument", problem));
        }
        Ok(Self { function, schema, template })
    }

    /// The program to run for these arguments.
    ///
    /// # Errors
    /// `InvalidArgument` naming the place within the arguments.
    pub(super) fn expand(&self, arguments: Struct) -> Result<ExecRequest, Error> {
        let arguments = object(arguments, "arguments")?;
        self.schema.check(&arguments)?;
        let Value::Object(arguments) = arguments else {
            return Err(Error::internal("arguments that are no object"));
        };
        let argv = self.template.fill(&arguments)?;
        let mut run = self.function.run.clone().unwrap_or_default();
        if let Some(Value::String(input)) = arguments.get(&self.function.input_argument) {
            run.input = input.clone().into();
        }
        let directory = self.function.directory.clone();
        Ok(ExecRequest { argv, directory, run: Some(run), ..ExecRequest::default() })
    }
}

/// Checks a function's name.
///
/// # Errors
/// `InvalidArgument` naming `field`.
pub(super) fn check_name(field: &str, name: &str) -> Result<(), Error> {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if begins && name.len() <= NAME_MAX && name.bytes().all(is_letter) {
        return Ok(());
    }
    let problem = format!(
        "must be 1 to {NAME_MAX} lower case letters, digits and underscores, beginning with a letter"
    );
    Err(Error::invalid(field, problem))
}

/// What a function may say of how it runs. What a caller may ask for is known to his worker alone.
fn check_run(run: Option<&Run>) -> Result<(), Error> {
    let Some(run) = run else { return Ok(()) };
    let none = |field: &str| Err(Error::invalid(field, "a function has none"));
    match run.stdin() {
        Stdin::Unspecified | Stdin::Null if run.input.is_empty() => {}
        Stdin::Unspecified | Stdin::Null => return none("function.run.input"),
        Stdin::Pipe | Stdin::Terminal => return none("function.run.stdin"),
    }
    if run.terminal.is_some() {
        return none("function.run.terminal");
    }
    no_zero_byte("function.run.profile", &run.profile)?;
    for access in &run.access {
        no_zero_byte("function.run.access", &access.path)?;
    }
    for (name, value) in &run.environment {
        no_zero_byte("function.run.environment", name)?;
        no_zero_byte("function.run.environment", value)?;
        if let Some(problem) = environment::refusal(name) {
            let problem = format!("{name}: {problem}");
            return Err(Error::invalid("function.run.environment", problem));
        }
    }
    Ok(())
}

/// D-Bus could not list a function with such a text.
pub(super) fn no_zero_byte(field: &str, text: &str) -> Result<(), Error> {
    match text.contains('\0') {
        true => Err(Error::invalid(field, "has a zero byte")),
        false => Ok(()),
    }
}
