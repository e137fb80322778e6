//! The JSON Schema of a function's arguments: checked when it is registered, applied to each call. It
//! never reads anything but itself.

use jsonschema::{Draft, PatternOptions, Validator};
use prost_types::Struct;
use serde_json::{Map, Value, json};

use super::json::object;
use crate::error::Error;

const FIELD: &str = "function.schema";
/// How large a pattern of a schema may become, in bytes.
const PATTERN_BYTES: usize = 1 << 20;

/// The schema of a function's arguments.
#[derive(Debug)]
pub(super) struct Schema {
    validator: Validator,
    properties: Map<String, Value>,
}

/// What a property may be that has a place in a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Text, a number, or true or false.
    Single,
    /// A list of such.
    List,
}

impl Schema {
    /// Compiles a schema; without one there are no arguments.
    ///
    /// # Errors
    /// `InvalidArgument` naming the place within the schema.
    pub(super) fn compile(schema: Option<Struct>) -> Result<Self, Error> {
        let schema = match schema {
            Some(schema) => object(schema, FIELD)?,
            None => json!({"type": "object", "additionalProperties": false}),
        };
        if schema.get("type").and_then(Value::as_str) != Some("object") {
            return Err(Error::invalid(FIELD, "its `type` must be \"object\""));
        }
        // Patterns are matched in a time that grows with the text only, whoever has written them.
        let patterns =
            PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES);
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .offline()
            .with_pattern_options(patterns)
            .build(&schema)
            .map_err(|error| {
                let place = error.instance_path().as_str();
                let place = if place.is_empty() { "/" } else { place };
                Error::invalid(FIELD, format!("at {place}: {error}")).with_fact("pointer", place)
            })?;
        let properties = schema.get("properties").and_then(Value::as_object);
        Ok(Self { validator, properties: properties.cloned().unwrap_or_default() })
    }

    /// Checks the arguments of a call.
    ///
    /// # Errors
    /// `InvalidArgument` naming the place within the arguments by its JSON pointer. It says nothing of
    /// the value there.
    pub(super) fn check(&self, arguments: &Value) -> Result<(), Error> {
        self.validator.validate(arguments).map_err(|error| {
            let place = error.instance_path().as_str();
            Error::invalid(format!("arguments{place}"), error.masked()).with_fact("pointer", place)
        })
    }

    /// What the property `name` may be.
    ///
    /// # Errors
    /// Why it can have no place in a template.
    pub(super) fn shape(&self, name: &str) -> Result<Shape, String> {
        let Some(property) = self.properties.get(name) else {
            return Err(format!("the schema has no property {name:?}"));
        };
        if is_single(property) {
            return Ok(Shape::Single);
        }
        let is_list = property.get("type").and_then(Value::as_str) == Some("array");
        if is_list && property.get("items").is_some_and(is_single) {
            return Ok(Shape::List);
        }
        Err(format!(
            "the property {name:?} has a place in argv, so its `type` must be string, integer, number \
             or boolean, or array with `items` of one of these"
        ))
    }

    /// True if the property `name` is always text.
    pub(super) fn is_text(&self, name: &str) -> bool {
        let property = self.properties.get(name);
        property.and_then(|property| property.get("type")?.as_str()) == Some("string")
    }
}

fn is_single(property: &Value) -> bool {
    let kind = property.get("type").and_then(Value::as_str);
    kind.is_some_and(|kind| ["string", "integer", "number", "boolean"].contains(&kind))
}
