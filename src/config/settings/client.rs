//! `[client]`: what programs with the client library use. The service itself uses none of it, and checks it as
//! they do.

use super::checker::Checker;
use crate::client::GrpcAddress;
use crate::client::settings::{CONNECT_TIMEOUT_MS, MAX_RETRIES, Number, REQUEST_TIMEOUT_MS};
use crate::config::keys::{self, Key};

pub(super) fn check(c: &mut Checker<'_>, keys: &keys::client::Section) {
    if let Err(problem) = keys.address.value.parse::<GrpcAddress>() {
        c.reject(&keys.address, problem);
    }
    let mut number = |key: &Key<i64>, known: &Number, unit: &str| {
        let (least, most) = known.range.clone().into_inner();
        c.size(key, least.into()..=most.into(), unit);
    };
    number(&keys.connect_timeout_ms, &CONNECT_TIMEOUT_MS, "milliseconds");
    number(&keys.request_timeout_ms, &REQUEST_TIMEOUT_MS, "milliseconds");
    number(&keys.max_retries, &MAX_RETRIES, "times");
}
