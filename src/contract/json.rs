//! Messages as JSON, in protobuf's canonical mapping.

use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};

use super::exact::require_exact;
use super::redact::may_hold_secrets;
use crate::error::Error;

/// Encodes the message of type `descriptor` that `json` describes; an empty text is an empty message.
///
/// # Errors
/// `InvalidArgument` naming line and column, and unless the type may hold secrets what is wrong, if the text is no JSON object, has an unknown field or a
/// value of the wrong type, or is followed by more text; naming the literal if it holds an integer that
/// a `google.protobuf.Value` would round.
pub fn json_to_message(descriptor: &MessageDescriptor, json: &str) -> Result<Vec<u8>, Error> {
    if json.trim().is_empty() {
        return Ok(Vec::new());
    }
    let invalid = |error: serde_json::Error| match may_hold_secrets(descriptor) {
        false => Error::invalid("arguments", error),
        // The text may quote the value that is wrong.
        true => Error::invalid(
            "arguments",
            format_args!(
                "does not fit {} at line {} column {}; the values of this operation are not quoted",
                descriptor.full_name(),
                error.line(),
                error.column()
            ),
        ),
    };
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let message =
        DynamicMessage::deserialize_with_options(descriptor.clone(), &mut deserializer, &options)
            .map_err(invalid)?;
    deserializer.end().map_err(invalid)?;
    require_exact(descriptor, json)?;
    Ok(message.encode_to_vec())
}

/// The JSON of an encoded message. Fields bear their names as in the `.proto`, and REQUIRED ones and
/// others without presence appear even when they hold their default.
///
/// # Errors
/// `Internal` if the bytes are no such message or it has no JSON form (a timestamp out of range).
pub fn message_to_json(descriptor: &MessageDescriptor, bytes: &[u8]) -> Result<String, Error> {
    let message = DynamicMessage::decode(descriptor.clone(), bytes)
        .map_err(|error| Error::internal(format!("the response cannot be decoded: {error}")))?;
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false);
    let mut json = serde_json::Serializer::new(Vec::new());
    message
        .serialize_with_options(&mut json, &options)
        .map_err(|error| Error::internal(format!("the response has no JSON form: {error}")))?;
    String::from_utf8(json.into_inner())
        .map_err(|error| Error::internal(format!("the response is not UTF-8: {error}")))
}
