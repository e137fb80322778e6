//! What a shell says on its descriptor 3 about a text that it has run, found among whatever else may
//! have been written there.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use uuid::Uuid;

/// The most that is kept of what was read. A marker is a path and some hundred bytes.
const KEPT_BYTES: usize = 16 << 10;

/// What marks the end of one text, by chance never in anything else.
#[derive(Debug)]
pub(super) struct Token(Uuid);

impl Token {
    pub(super) fn fresh() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// What a shell says about a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Marker {
    /// Its status.
    pub(super) code: i32,
    /// Where the shell is.
    pub(super) directory: String,
}

/// The reading end of descriptor 3 of a shell.
#[derive(Debug)]
pub(super) struct Markers {
    pipe: Receiver,
    seen: Vec<u8>,
}

impl Markers {
    pub(super) fn new(pipe: OwnedFd) -> io::Result<Self> {
        Ok(Self { pipe: Receiver::from_owned_fd(pipe)?, seen: Vec::new() })
    }

    /// The marker with this token, or `None` if nobody is left who could write it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped nothing is lost.
    pub(super) async fn find(&mut self, token: &Token) -> io::Result<Option<Marker>> {
        loop {
            if let Some(marker) = marker(&self.seen, token) {
                self.seen.clear();
                return Ok(Some(marker));
            }
            let over = self.seen.len().saturating_sub(KEPT_BYTES);
            self.seen.drain(..over);
            if self.pipe.read_buf(&mut self.seen).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// The marker with this token in `bytes`: `<token:code:directory:token>`.
fn marker(bytes: &[u8], token: &Token) -> Option<Marker> {
    let (begin, end) = (format!("<{token}:"), format!(":{token}>"));
    let find = |bytes: &[u8], what: &str| {
        bytes.windows(what.len()).position(|window| window == what.as_bytes())
    };
    let rest = bytes.get(find(bytes, &begin)? + begin.len()..)?;
    let said = rest.get(..find(rest, &end)?)?;
    let colon = said.iter().position(|byte| *byte == b':')?;
    Some(Marker {
        code: std::str::from_utf8(&said[..colon]).ok()?.parse().ok()?,
        directory: String::from_utf8_lossy(&said[colon + 1..]).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Marker, Token, marker};

    #[test]
    fn only_a_whole_marker_with_the_token_is_one() {
        let token = Token::fresh();
        let found = |text: String| marker(text.as_bytes(), &token);
        let here = |code, directory: &str| Some(Marker { code, directory: directory.to_owned() });
        assert_eq!(found(format!("<{token}:0:/a:{token}>\n")), here(0, "/a"));
        let odd = "/a:b\n<c>";
        assert_eq!(found(format!("rubbish <{token}:130:{odd}:{token}> more")), here(130, odd));
        let other = Token::fresh();
        for text in [
            format!("<{other}:0:/a:{other}>\n"),
            format!("<{token}:0:/a:{other}>\n"),
            format!("<{token}:0:/a"),
            format!("<{token}:none:/a:{token}>"),
            format!("<{token}:0{token}>"),
            String::new(),
        ] {
            assert_eq!(found(text.clone()), None, "{text}");
        }
    }
}
