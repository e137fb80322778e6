//! Which fields hold secrets: those that the contract marks with `debug_redact`. How a message is shown
//! without them is `readable.rs`.

use std::collections::HashSet;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Contract, json_to_message};

    const SECRET: &str = "canary-9b1f";

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
