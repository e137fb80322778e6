//! The contract: which agents and operations there are, what they take and give, how that reads as
//! JSON and on D-Bus. All of it is derived from the protobuf descriptors; nothing here runs a call.

#[cfg(feature = "daemon")]
mod agent;
mod dbus;
mod docs;
mod exact;
#[cfg(feature = "daemon")]
mod failure;
#[cfg(feature = "daemon")]
mod introspect;
mod json;
mod key;
#[cfg(feature = "daemon")]
mod long_text;
#[cfg(feature = "daemon")]
mod readable;
mod redact;
#[cfg(feature = "daemon")]
mod schema;
mod service;

#[cfg(feature = "daemon")]
pub use agent::{
    Agent, InputWatch, RawReplies, RawRequests, Replies, ReplySink, Requests, Running, decode,
    encode, wrong_shape,
};
pub use dbus::{
    Argument, MANAGER_PATH, MESSAGES, MethodShape, SESSIONS_PATH, TASKS_PATH, interface_name,
    object_path, signature, task_path,
};
#[cfg(feature = "daemon")]
pub use introspect::{interface_xml, method_xml, push_deprecated};
pub use json::{json_to_message, message_to_json};
#[cfg(feature = "daemon")]
pub use long_text::{Incoming, Intake, Outgoing};
#[cfg(feature = "daemon")]
pub use readable::{canonical_json, redacted_json};
pub use redact::{is_secret, may_hold_secrets};
#[cfg(feature = "daemon")]
pub use schema::message_schema;
pub use service::{Contract, Idempotency, Operation, Service, same_name};

#[cfg(all(test, feature = "daemon"))]
mod tests;
