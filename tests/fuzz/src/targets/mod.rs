//! What is tried on each way into the service that others write to: one target for each, which takes any
//! bytes and panics if something is wrong. Who makes the bytes is not known here: libFuzzer does, and
//! `tests/it/fuzz.rs` gives those of `corpus/`.

mod audit_log;
mod config;
mod dbus_body;
mod dbus_call;
mod dbus_message;
mod exec_message;
mod http2_front;
mod json_form;
mod parts;
mod policy;
mod service;

pub use service::THREADS;

/// Tries one input.
pub type Target = Box<dyn FnMut(&[u8])>;

/// Makes a target.
pub type Make = fn() -> Target;

/// Every target by its name, which is that of its program and of its folder of `corpus/`, too. It is made
/// once and keeps what it needs from one input to the next.
pub const ALL: [(&str, Make); 8] = [
    ("audit_log", || Box::new(audit_log::run)),
    ("config", || Box::new(config::run)),
    ("dbus_body", dbus_body::target),
    ("dbus_call", dbus_call::target),
    ("exec_message", || Box::new(exec_message::run)),
    ("http2_front", http2_front::target),
    ("json_form", json_form::target),
    ("policy", policy::target),
];
