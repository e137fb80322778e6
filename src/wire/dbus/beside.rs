//! What the dictionary at the end of a body holds beside the fields of a message. How it is read is
//! `decode.rs`.

use std::os::fd::OwnedFd;

use serde::Deserialize as _;
use serde::de::{Deserializer, Error as _};
use zbus::{Fd, Signature};

use super::scalar::Scalar;

/// What the dictionary at the end of a body may hold beside the fields of the message.
pub(crate) trait Beside {
    /// The place of the option called `name`; `None` if it is none.
    fn position(&self, name: &str) -> Option<usize>;

    /// Takes the option with this place.
    ///
    /// # Errors
    /// The problem with the value.
    fn take(&mut self, position: usize, given: Given<'_>) -> Result<(), String>;

    /// True if a name that is known as nothing is passed over rather than refused.
    fn skips_unknown(&self) -> bool;
}

/// The value of something beside the fields.
#[cfg_attr(not(feature = "daemon"), expect(dead_code, reason = "replies hold no such thing"))]
#[derive(Debug)]
pub(crate) enum Given<'a> {
    Bool(bool),
    Integer(i128),
    Text(&'a str),
    Descriptor(OwnedFd),
}

/// What a reply holds beside the fields that are known.
pub(super) struct Newer;

impl Beside for Newer {
    fn position(&self, _: &str) -> Option<usize> {
        None
    }

    fn take(&mut self, _: usize, _: Given<'_>) -> Result<(), String> {
        Err("is not known here".to_owned())
    }

    fn skips_unknown(&self) -> bool {
        true
    }
}

/// Reads the value of something beside the fields; `None` if it is of no type that any has.
pub(super) fn given<'de, D: Deserializer<'de>>(
    signature: &Signature,
    deserializer: D,
) -> Result<Option<Given<'de>>, D::Error> {
    if matches!(signature, Signature::Fd) {
        let descriptor = Fd::deserialize(deserializer)?;
        return OwnedFd::try_from(descriptor)
            .map(|fd| Some(Given::Descriptor(fd)))
            .map_err(D::Error::custom);
    }
    Ok(match Scalar::read(signature, deserializer)? {
        Some(Scalar::Text(text)) => Some(Given::Text(text)),
        Some(Scalar::Integer(value)) => Some(Given::Integer(value)),
        Some(Scalar::Bool(value)) => Some(Given::Bool(value)),
        Some(Scalar::Float(_)) | None => None,
    })
}
