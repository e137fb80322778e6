//! The one way for a text to leave on the bus. A D-Bus string cannot hold U+0000, and the bus
//! disconnects a service that sends one.

#[cfg(feature = "daemon")]
use std::borrow::Cow;

/// The text, if it can travel.
pub(crate) fn checked(bytes: &[u8]) -> Result<&str, &'static str> {
    if bytes.contains(&0) {
        return Err("holds U+0000, which D-Bus cannot carry; gRPC can");
    }
    std::str::from_utf8(bytes).map_err(|_| "is not UTF-8")
}

/// A text for people, with U+FFFD in place of what cannot travel.
#[cfg(feature = "daemon")]
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}
