//! Any message to the exec service or from it: read, and then written as it was, or refused.

use op_dbus::exec::{Reply, Request};

/// The input is the message.
pub(super) fn run(message: &[u8]) {
    if let Ok(request) = Request::parse(message) {
        assert_eq!(request.encode().expect("what was read is a request"), message);
    }
    if let Ok(reply) = Reply::parse(message) {
        assert_eq!(reply.encode(), message);
    }
}
