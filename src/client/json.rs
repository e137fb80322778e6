//! Messages as JSON on the side of the client: what it sends names nothing that is not there, and what it
//! reads may come from a newer service.

use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};

use super::call::Rpc;
use super::error::{Error, Failure};
use super::stream::decoded;
use crate::error::ErrorKind;
use crate::proto::opdbus::v1::{CallJsonRequest, CallJsonResponse};

/// Where calls with JSON go.
pub(super) const CALL_JSON: &str = "/opdbus.v1.AgentsService/CallJson";

/// What is sent there for a call.
pub(super) fn request(rpc: &Rpc, arguments: String) -> Bytes {
    let (agent, operation) = (rpc.agent.to_string(), rpc.operation.to_string());
    CallJsonRequest { agent, operation, arguments }.encode_to_vec().into()
}

/// What comes back from there, as JSON.
///
/// # Errors
/// `Internal` if it is no such answer.
pub(super) fn result(response: Bytes) -> Result<String, Error> {
    decoded(response).map(|response: CallJsonResponse| response.result)
}

/// The JSON of an encoded message, without the fields that hold their defaults.
///
/// # Errors
/// `InvalidArgument` if the bytes are no such message or it has no JSON form.
pub(super) fn to_json(descriptor: &MessageDescriptor, message: &[u8]) -> Result<String, Failure> {
    let wrong =
        |problem: String| Failure::new(ErrorKind::InvalidArgument, format!("request: {problem}"));
    let message = DynamicMessage::decode(descriptor.clone(), message);
    let message = message.map_err(|error| wrong(error.to_string()))?;
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(true);
    let mut json = serde_json::Serializer::new(Vec::new());
    let written = message.serialize_with_options(&mut json, &options);
    written.map_err(|error| wrong(error.to_string()))?;
    String::from_utf8(json.into_inner()).map_err(|error| wrong(error.to_string()))
}

/// The message that `json` describes, encoded. Fields that this build does not know are left out.
///
/// # Errors
/// Why it is no such message.
pub(super) fn from_json(descriptor: &MessageDescriptor, json: &str) -> Result<Vec<u8>, String> {
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let message =
        DynamicMessage::deserialize_with_options(descriptor.clone(), &mut deserializer, &options);
    message.map(|message| message.encode_to_vec()).map_err(|error| error.to_string())
}
