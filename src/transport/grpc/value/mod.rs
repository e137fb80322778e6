//! Messages as they travel: still encoded, behind gRPC's five bytes of flag and length. It names the
//! two directions; what the messages mean is not known here.

mod reply;
mod request;

pub(super) use reply::{COPIED_BYTES, Outgoing, Reply, answer, good, put_message, response};
pub(super) use request::{Deframer, Unread, given_up, read};

/// The flag and the length before each message.
const PREFIX_BYTES: usize = 5;

#[cfg(test)]
mod tests;
