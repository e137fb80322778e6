//! The secret with which a session is resumed. It is shown to nobody but its client.

use std::fmt;
use std::hint::black_box;

use uuid::Uuid;

/// A secret of 122 random bits.
#[derive(Clone, Copy)]
pub(super) struct Token(Uuid);

impl Token {
    /// One that nobody knows.
    pub(super) fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The one that was stored as these bytes.
    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The bytes to store.
    pub(super) fn bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// What the client is shown.
    pub(super) fn reveal(&self) -> String {
        self.0.simple().to_string()
    }

    /// True if `text` is this one. How long it takes tells nothing of how much of it was right.
    pub(super) fn is(&self, text: &str) -> bool {
        let own = self.reveal();
        let differences =
            own.bytes().zip(text.bytes()).fold(0, |all, (own, other)| black_box(all | own ^ other));
        own.len() == text.len() && differences == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::Token;

    #[test]
    fn a_token_is_itself_only_and_does_not_show() {
        let token = Token::random();
        let text = token.reveal();
        assert!(token.is(&text) && Token::from_bytes(*token.bytes()).is(&text));
        assert!(!Token::random().is(&text));
        for wrong in ["", &text[1..], &format!("{text}0"), &text.to_uppercase()[..31]] {
            assert!(!token.is(wrong), "{wrong}");
        }
        assert!(!format!("{token:?}").contains(&text));
    }
}
