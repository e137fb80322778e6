//! How D-Bus writes down the messages of the contract: by plans that are compiled once from the
//! descriptors, in both directions, for the transport and the client. It knows no connection.

pub(crate) mod beside;
pub(crate) mod decode;
pub(crate) mod delimited;
pub(crate) mod encode;
mod fault;
pub(crate) mod plan;
pub(crate) mod request;
mod scalar;
mod slot;
pub(crate) mod text;
mod value;
pub(crate) mod wire;
