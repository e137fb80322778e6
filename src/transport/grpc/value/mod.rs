//! Requests and answers as clients send and get them: messages, still encoded, within the bounds for
//! clients. It names the two directions; what the messages mean is not known here.

mod reply;
mod request;

pub(super) use reply::{Answer, Outgoing, Reply, answer, put_message, response};
pub(super) use request::{Unread, read};

#[cfg(test)]
mod tests;
