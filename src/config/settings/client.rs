//! `[client]`: what programs with the client library use. The daemon only checks it.

use super::checker::Checker;
use super::{Client, MAX_TIMEOUT_MS};
use crate::config::keys;

pub(super) fn client(c: &mut Checker<'_>, keys: &keys::client::Section) -> Client {
    let address = &keys.address.value;
    let unix = address.strip_prefix("unix:").is_some_and(|path| path.starts_with('/'));
    let http = address.strip_prefix("http://").or_else(|| address.strip_prefix("https://"));
    let http = http.is_some_and(|host| !host.is_empty());
    if !unix && !http {
        c.reject(
            &keys.address,
            "it must be \"unix:/path\", \"http://host:port\" or \"https://host:port\", as \"unix:/run/op-dbus/grpc.sock\"",
        );
    }
    Client {
        address: address.clone(),
        connect_timeout: c.millis(&keys.connect_timeout_ms, 1..=600_000),
        request_timeout: c.millis(&keys.request_timeout_ms, 1..=MAX_TIMEOUT_MS),
        max_retries: u32::try_from(c.size(&keys.max_retries, 0..=100, "times")).unwrap_or_default(),
        pool_connections: keys.pool_connections.value,
    }
}
