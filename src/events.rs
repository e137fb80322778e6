//! The kinds of event that have an entry in the journal's catalog (`journalctl -x`). Log them with
//! the field `message_id`; the texts are in `systemd/op-dbus.catalog`. Nothing is logged here.

/// The service is ready.
pub const STARTED: &str = "b4c1d5b5a5f24f0b9a3e0b0d9f0c6a11";
