//! Puts lines together from pieces of text that end anywhere.

use bytes::{Buf as _, Bytes};

use crate::error::Error;

/// How long a line may be, in bytes.
const MAX_LINE: usize = 2 * 1024 * 1024;

/// A line with its number, from 1; an error if it is too long.
pub(super) struct Taken {
    pub(super) number: u64,
    pub(super) line: Result<Vec<u8>, Error>,
}

/// The line that is being put together.
#[derive(Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    is_too_long: bool,
    /// How many lines came before it.
    before: u64,
}

impl Lines {
    /// Takes the next line out of `data`, which may end one that was begun; `None` when `data` is used
    /// up.
    pub(super) fn take(&mut self, data: &mut Bytes) -> Option<Taken> {
        let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
            self.begin(data);
            data.clear();
            return None;
        };
        self.begin(&data[..end]);
        data.advance(end + 1);
        Some(self.end())
    }

    /// The last line, if it has no end.
    pub(super) fn rest(&mut self) -> Option<Taken> {
        (self.is_too_long || !self.begun.is_empty()).then(|| self.end())
    }

    fn begin(&mut self, part: &[u8]) {
        if self.begun.len() + part.len() > MAX_LINE {
            self.is_too_long = true;
            self.begun = Vec::new();
        }
        if !self.is_too_long {
            self.begun.extend_from_slice(part);
        }
    }

    fn end(&mut self) -> Taken {
        self.before += 1;
        let line = std::mem::take(&mut self.begun);
        let line = if std::mem::take(&mut self.is_too_long) {
            let problem = format_args!("line {} has more than {MAX_LINE} bytes", self.before);
            Err(Error::invalid("data", problem))
        } else {
            Ok(line)
        };
        Taken { number: self.before, line }
    }
}
