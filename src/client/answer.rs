//! An answer of op-dbus's own operations: the JSON as it came and the message that it stands for.

use std::sync::OnceLock;

use prost::Message;
use prost_reflect::DescriptorPool;

use super::error::{Error, Failure};
use super::json::from_json;
use crate::proto::DESCRIPTOR_SET;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// The JSON, exactly as the service gave it.
    pub json: String,
    /// The same, decoded. Fields that this build does not know are left out.
    pub message: T,
}

impl<T: Message + Default> Answer<T> {
    /// Decodes an answer, the `opdbus.v1` message called `name`. A field that this build does not know
    /// comes from a newer service and is no error.
    pub(super) fn new(name: &str, json: String) -> Result<Self, Error> {
        let message = decode(name, &json).map_err(|problem| {
            Failure::internal(format!("the service's answer cannot be read: {problem}"))
        })?;
        Ok(Self { json, message })
    }
}

fn decode<T: Message + Default>(name: &str, json: &str) -> Result<T, String> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    let pool = POOL
        .get_or_init(|| DescriptorPool::decode(DESCRIPTOR_SET).ok())
        .as_ref()
        .ok_or("the compiled-in descriptors are damaged")?;
    let descriptor = pool
        .get_message_by_name(&format!("opdbus.v1.{name}"))
        .ok_or_else(|| format!("the contract has no message {name}"))?;
    let message = from_json(&descriptor, json)?;
    T::decode(message.as_slice()).map_err(|error| error.to_string())
}
