//! Foreign contracts, served by calling op-dbus's own agents through the executor, so that clients of
//! the systems that op-dbus replaces run unmodified. What an operation does is not decided here.

pub mod dbusmcp;
mod inner;
mod names;
pub mod op_chat;

use inner::Inner;
