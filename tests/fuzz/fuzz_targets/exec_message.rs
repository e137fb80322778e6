//! Any message to the exec service or from it: read, and then written as it was, or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use op_dbus::exec::{Reply, Request};

fuzz_target!(|message: &[u8]| {
    if let Ok(request) = Request::parse(message) {
        assert_eq!(request.encode().expect("what was read is a request"), message);
    }
    if let Ok(reply) = Reply::parse(message) {
        assert_eq!(reply.encode(), message);
    }
});
