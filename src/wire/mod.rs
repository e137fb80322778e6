//! How gRPC and D-Bus write down messages, contexts and outcomes, for all who speak them: the transports,
//! the client, and both sides of a worker's socket. It knows neither agents nor connections.

#[cfg(feature = "daemon")]
pub(crate) mod bearer;
#[cfg(feature = "daemon")]
mod context;
pub(crate) mod dbus;
mod http2;
mod kind;
mod local;
#[cfg(feature = "daemon")]
mod messages;
#[cfg(feature = "daemon")]
mod status;
mod timeout;
#[cfg(feature = "daemon")]
mod worker;

#[cfg(feature = "daemon")]
pub use bearer::NewToken;
#[cfg(feature = "daemon")]
pub(crate) use context::{read_context, wants_notes, write_context};
pub(crate) use http2::{Received, takes_more, while_wanted};
pub(crate) use kind::kind;
pub(crate) use local::LocalStream;
#[cfg(feature = "daemon")]
pub(crate) use messages::{
    COPIED_BYTES, Deframer, Hear, Lost, Malformed, Messages, Parts, TooLarge, put_message, put_note,
};
#[cfg(feature = "daemon")]
pub(crate) use status::{good, outcome, status, trailers};
#[cfg(feature = "daemon")]
pub(crate) use timeout::timeout;
pub(crate) use timeout::timeout_text;
#[cfg(feature = "daemon")]
pub(crate) use worker::{
    CONFIGURE, END_SESSION, GOING_ON, WORKER_FRAME_BYTES, WORKER_HEADER_BYTES,
    WORKER_STREAM_WINDOW_BYTES, WORKER_STREAMS, WORKER_WINDOW_BYTES,
};
