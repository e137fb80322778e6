//! How a bearer token looks, and what a service keeps of it: its SHA-256, which is enough to know it
//! again. A plain digest will do because a token is 256 random bits, which nobody finds by trying, so
//! that neither a salt nor a slow function would add anything. Whom a token stands for is not said here.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::error::Error;

/// What every token begins with, so that it is known as one wherever it is found.
const PREFIX: &str = "opdbus_";

/// The random bytes of a token.
const SECRET_BYTES: usize = 32;

/// The longest name, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// A token that was just made: the only time that its text is known.
pub struct NewToken {
    /// The text, for the client: `opdbus_NAME_SECRET`.
    pub text: String,
    /// Its SHA-256 in hexadecimal, for the configuration.
    pub sha256: String,
}

impl NewToken {
    /// A token with this name.
    ///
    /// # Errors
    /// `InvalidArgument` if the name is none, `Internal` if the system gives no random numbers.
    pub fn make(name: &str) -> Result<Self, Error> {
        check_name(name).map_err(|problem| Error::invalid("name", problem))?;
        let mut secret = [0; SECRET_BYTES];
        SystemRandom::new()
            .fill(&mut secret)
            .map_err(|_| Error::internal("the system gives no random numbers"))?;
        let text = format!("{PREFIX}{name}_{}", URL_SAFE_NO_PAD.encode(secret));
        let sha256 = sha256(&text).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { text, sha256 })
    }
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewToken(secret)")
    }
}

/// Checks the name of a token.
///
/// # Errors
/// A text if it is none.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(fits) {
        true => Ok(()),
        false => Err("must be 1 to 64 lower-case letters, digits and -"),
    }
}

/// The name in a token's text; `None` if the text is no token.
pub(crate) fn name(text: &str) -> Option<&str> {
    Some(text.strip_prefix(PREFIX)?.split_once('_')?.0)
}

/// What is kept of a token.
pub(crate) fn sha256(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_bears_its_name_and_does_not_show() {
        let (one, other) = (NewToken::make("ci-1").unwrap(), NewToken::make("ci-1").unwrap());
        assert_ne!(one.text, other.text);
        assert_eq!(name(&one.text), Some("ci-1"));
        assert_eq!(one.text.len(), "opdbus_ci-1_".len() + 43, "256 bits in base64");
        assert_eq!(one.sha256.len(), 64);
        assert!(!format!("{one:?}").contains(&one.text[12..]));
        for wrong in ["", "Ci", "a_b", "a b", &"x".repeat(65)] {
            assert_eq!(NewToken::make(wrong).unwrap_err().fact("field"), Some("name"), "{wrong}");
        }
        // As `printf %s abc | sha256sum` says.
        assert_eq!(sha256("abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
