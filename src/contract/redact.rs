//! Messages for people, logs and previews: without what the contract marks as secret with
//! `debug_redact`. What is done with a message is not decided here.

use std::collections::HashSet;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

use super::json::message_to_json;
use crate::error::Error;

/// What stands in the place of a secret text.
const REDACTED: &str = "[redacted]";

/// The JSON of an encoded message in which every secret text reads `[redacted]` and other secrets are
/// as if they were not set. Of a map the keys stay.
///
/// # Errors
/// `Internal` if the bytes are no such message.
pub fn message_for_people(descriptor: &MessageDescriptor, bytes: &[u8]) -> Result<String, Error> {
    let mut message = DynamicMessage::decode(descriptor.clone(), bytes)
        .map_err(|error| Error::internal(format!("the message cannot be decoded: {error}")))?;
    redact(&mut message);
    message_to_json(descriptor, &prost::Message::encode_to_vec(&message))
}

/// True if a message of this type may hold a secret, itself or in a message within it.
#[must_use]
pub fn may_hold_secrets(descriptor: &MessageDescriptor) -> bool {
    let mut seen = HashSet::new();
    let mut open = vec![descriptor.clone()];
    while let Some(message) = open.pop() {
        if !seen.insert(message.full_name().to_owned()) {
            continue;
        }
        for field in message.fields() {
            if is_secret(&field) {
                return true;
            }
            if let Kind::Message(within) = field.kind() {
                open.push(within);
            }
        }
    }
    false
}

/// True if the contract marks the field as secret.
#[must_use]
pub fn is_secret(field: &FieldDescriptor) -> bool {
    let options = field.options();
    let mark = options.get_field_by_name("debug_redact");
    mark.is_some_and(|value| value.as_bool() == Some(true))
}

fn redact(message: &mut DynamicMessage) {
    let set: Vec<FieldDescriptor> = message.fields().map(|(field, _)| field).collect();
    for field in set {
        if !is_secret(&field) {
            within(message.get_field_mut(&field));
        } else if let Some(instead) = instead(message.get_field_mut(&field)) {
            message.set_field(&field, instead);
        } else {
            message.clear_field(&field);
        }
    }
}

/// Redacts the messages within a value that is no secret itself.
fn within(value: &mut Value) {
    match value {
        Value::Message(message) => redact(message),
        Value::List(values) => values.iter_mut().for_each(within),
        Value::Map(values) => values.values_mut().for_each(within),
        Value::Bool(_)
        | Value::I32(_)
        | Value::I64(_)
        | Value::U32(_)
        | Value::U64(_)
        | Value::F32(_)
        | Value::F64(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::EnumNumber(_) => {}
    }
}

/// What stands in the place of a secret; `None`: nothing.
fn instead(value: &Value) -> Option<Value> {
    match value {
        Value::String(_) => Some(Value::String(REDACTED.to_owned())),
        Value::List(values) => Some(Value::List(values.iter().filter_map(instead).collect())),
        Value::Map(values) => {
            let shown = |(key, value): (&MapKey, &Value)| Some((key.clone(), instead(value)?));
            Some(Value::Map(values.iter().filter_map(shown).collect()))
        }
        Value::Bool(_)
        | Value::I32(_)
        | Value::I64(_)
        | Value::U32(_)
        | Value::U64(_)
        | Value::F32(_)
        | Value::F64(_)
        | Value::Bytes(_)
        | Value::EnumNumber(_)
        | Value::Message(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Contract, json_to_message};

    const SECRET: &str = "canary-9b1f";

    #[test]
    fn no_secret_is_shown_wherever_it_stands() {
        let contract = Contract::built_in().unwrap();
        let commands = contract.service("opdbus.agent.commands.v1.CommandsService").unwrap();
        let run = &commands.operation("Exec").unwrap().input;
        assert!(may_hold_secrets(run));
        let json = format!(
            r#"{{"argv":["env"],"run":{{"environment":{{"TOKEN":"{SECRET}"}},"input":"{}"}}}}"#,
            "Y2FuYXJ5LTliMWY="
        );
        let bytes = json_to_message(run, &json).unwrap();
        let shown = message_for_people(run, &bytes).unwrap();
        assert!(shown.contains("\"TOKEN\":\"[redacted]\""), "{shown}");
        assert!(!shown.contains(SECRET) && !shown.contains("Y2Fu"), "{shown}");
        assert!(shown.contains("\"env\""), "{shown}");
    }

    #[test]
    fn what_is_wrong_with_a_message_is_told_without_its_secrets() {
        let contract = Contract::built_in().unwrap();
        let mut tried = 0;
        for service in &contract.services {
            for operation in &service.operations {
                for field in operation.input.fields().filter(is_secret) {
                    tried += 1;
                    // A text within a list is the wrong type for every kind of field.
                    let json = format!("{{{:?}: [[{SECRET:?}]]}}", field.name());
                    let error = json_to_message(&operation.input, &json).unwrap_err();
                    assert!(!error.message().contains(SECRET), "{error}");
                    let json = format!("{{{:?}: 0x{SECRET}}}", field.name());
                    let error = json_to_message(&operation.input, &json).unwrap_err();
                    assert!(!error.message().contains(SECRET), "{error}");
                }
            }
        }
        assert!(tried > 3, "only {tried} secret fields were found");
    }
}
