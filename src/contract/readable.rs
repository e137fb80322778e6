//! Requests for people and for comparing: as JSON in one form only, with or without what must not be
//! shown. Which fields those are, the contract says with `debug_redact`.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, SerializeOptions};
use serde_json::Value;

use super::redact::is_secret;
use crate::error::Error;

/// What stands in the place of what is not shown.
const NOT_SHOWN: &str = "(not shown)";

/// An encoded message as JSON that is the same however the message was encoded: all that the contract
/// knows is there, and the members of objects are sorted.
///
/// # Errors
/// `InvalidArgument` if the bytes are no such message or it has no JSON form.
pub fn canonical_json(descriptor: &MessageDescriptor, bytes: &[u8]) -> Result<String, Error> {
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false);
    Ok(value(descriptor, bytes, &options)?.to_string())
}

/// An encoded message as JSON for people, without what is empty and without what must not be shown.
///
/// # Errors
/// As [`canonical_json`].
pub fn redacted_json(descriptor: &MessageDescriptor, bytes: &[u8]) -> Result<String, Error> {
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut value = value(descriptor, bytes, &options)?;
    redact(&mut value, descriptor);
    Ok(value.to_string())
}

fn value(
    descriptor: &MessageDescriptor,
    bytes: &[u8],
    options: &SerializeOptions,
) -> Result<Value, Error> {
    let message = DynamicMessage::decode(descriptor.clone(), bytes)
        .map_err(|error| Error::invalid("request", error))?;
    let mut value = message
        .serialize_with_options(serde_json::value::Serializer, options)
        .map_err(|error| Error::invalid("request", error))?;
    value.sort_all_objects();
    Ok(value)
}

fn redact(value: &mut Value, descriptor: &MessageDescriptor) {
    let Some(fields) = value.as_object_mut() else { return };
    for field in descriptor.fields() {
        let Some(value) = fields.get_mut(field.name()) else { continue };
        if is_secret(&field) {
            *value = NOT_SHOWN.into();
        } else if let Kind::Message(inner) = field.kind() {
            redact_field(value, &field, &inner);
        }
    }
}

fn redact_field(value: &mut Value, field: &FieldDescriptor, inner: &MessageDescriptor) {
    if field.is_map() {
        if let Kind::Message(inner) = inner.map_entry_value_field().kind() {
            let values = value.as_object_mut().into_iter().flat_map(|map| map.values_mut());
            values.for_each(|value| redact(value, &inner));
        }
    } else if field.is_list() {
        let values = value.as_array_mut().into_iter().flatten();
        values.for_each(|value| redact(value, inner));
    } else {
        redact(value, inner);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::contract::{Contract, json_to_message};

    #[test]
    fn secrets_are_not_shown_wherever_they_are() {
        let contract = Contract::built_in().unwrap();
        let probe = contract.services.iter().find(|service| service.id == "probe").unwrap();
        let input = &probe.operation("Guarded").unwrap().input;
        let inner = json!({"text": "seen", "secret": "hidden"});
        let request = json!({
            "text": "seen", "secret": "hidden", "inner": inner, "list": [inner],
            "map": {"a": inner, "b": inner},
        });
        let bytes = json_to_message(input, &request.to_string()).unwrap();
        let shown = redacted_json(input, &bytes).unwrap();
        assert!(!shown.contains("hidden"), "{shown}");
        assert_eq!(shown.matches("seen").count(), 5, "{shown}");
        assert_eq!(shown.matches(NOT_SHOWN).count(), 5, "{shown}");
    }

    #[test]
    fn one_message_has_one_form() {
        let contract = Contract::built_in().unwrap();
        let probe = contract.services.iter().find(|service| service.id == "probe").unwrap();
        let input = &probe.operation("Guarded").unwrap().input;
        let names: Vec<String> = (0..40).map(|number| format!("name {number}")).collect();
        let entry = |name: &String| format!("{name:?}: {{\"text\": {name:?}}}");
        let forwards = names.iter().map(entry).collect::<Vec<_>>().join(", ");
        let backwards = names.iter().rev().map(entry).collect::<Vec<_>>().join(", ");
        let form = |map: &str, text: &str| {
            let request = format!("{{\"map\": {{{map}}}, \"text\": {text:?}}}");
            canonical_json(input, &json_to_message(input, &request).unwrap()).unwrap()
        };
        assert_eq!(form(&forwards, "a"), form(&backwards, "a"));
        assert_ne!(form(&forwards, "a"), form(&forwards, "b"));
        canonical_json(input, &[0xff]).unwrap_err();
    }
}
