//! Long texts as streams of pieces: cut to be sent, gathered up to a limit. It knows no format and
//! decides nothing about what is in a text.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

use crate::call::Context;
use crate::error::Error;

/// The size of a piece that is sent, in bytes; only the last may have less.
const PIECE_BYTES: usize = 64 * 1024;

/// How many texts an intake gathers at the same time, for all users together.
const MAX_GATHERED: usize = 8;

/// A text on its way out, as much of it as is there and was not taken yet.
#[derive(Debug, Default)]
pub struct Outgoing(BytesMut);

impl Outgoing {
    /// Adds to the end.
    pub fn push(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// The next piece, if it is there and more follows it.
    pub fn next_piece(&mut self) -> Option<Bytes> {
        (self.0.len() > PIECE_BYTES).then(|| self.0.split_to(PIECE_BYTES).freeze())
    }

    /// The last piece, after all the others were taken.
    #[must_use]
    pub fn last_piece(self) -> Bytes {
        self.0.freeze()
    }
}

/// Gathers texts that come in pieces. What was gathered is kept in memory, so a user has one text at a
/// time, and all users together have few.
#[derive(Debug)]
pub struct Intake {
    /// The name and the value of the limit on the bytes of a text.
    limit: (&'static str, usize),
    /// The name of the limit on how many are gathered at the same time.
    places: &'static str,
    users: Mutex<HashSet<u32>>,
}

impl Intake {
    /// Gathers texts of `most` bytes at most, the limit called `limit`; `places` is what the limit on
    /// how many at a time is called.
    #[must_use]
    pub fn new(limit: &'static str, most: usize, places: &'static str) -> Arc<Self> {
        Arc::new(Self { limit: (limit, most), places, users: Mutex::default() })
    }

    /// Begins to gather a text of the user `uid`, which has `size` bytes if that is known.
    ///
    /// # Errors
    /// `LimitExceeded` if the user has begun another one, if too many are gathered, or if `size` is
    /// beyond the limit.
    pub fn begin(self: &Arc<Self>, uid: u32, size: Option<u64>) -> Result<Incoming, Error> {
        let (limit, most) = self.limit;
        if size.is_some_and(|size| size > most as u64) {
            let problem = "size_bytes: the text is too long; split it";
            return Err(Error::limit(limit, most, problem).with_fact("field", "size_bytes"));
        }
        let mut users = self.lock();
        if users.contains(&uid) {
            let problem = "another text of yours is being read; wait for its end";
            return Err(Error::limit(self.places, 1, problem));
        }
        if users.len() >= MAX_GATHERED {
            let problem = "too many texts are being read; try again later";
            return Err(Error::limit(self.places, MAX_GATHERED, problem));
        }
        users.insert(uid);
        Ok(Incoming { intake: Arc::clone(self), uid, size, bytes: Vec::new() })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<u32>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A text that is being gathered. Its user may begin another one when it is dropped.
pub struct Incoming {
    intake: Arc<Intake>,
    uid: u32,
    size: Option<u64>,
    bytes: Vec<u8>,
}

impl Incoming {
    /// Adds a piece, and tells how far the text is if its size is known.
    ///
    /// # Errors
    /// `LimitExceeded` if the text is longer than the limit, `InvalidArgument` if it is longer than it
    /// was said to be.
    pub fn add(&mut self, context: &Context, piece: &[u8]) -> Result<(), Error> {
        let (limit, most) = self.intake.limit;
        let length = self.bytes.len() + piece.len();
        if length > most {
            let problem = "data: the text is too long; split it";
            return Err(Error::limit(limit, most, problem).with_fact("field", "data"));
        }
        self.bytes.extend_from_slice(piece);
        match self.size {
            Some(size) if length as u64 > size => Err(self.wrong_size(size)),
            Some(size) => {
                context.progress(length as u64, size, "bytes");
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The whole text, after its last piece. The user's place is kept for as long as the second value
    /// lives.
    ///
    /// # Errors
    /// `InvalidArgument` if it is shorter than it was said to be, or not UTF-8.
    pub fn finish(mut self) -> Result<(String, impl Send + 'static), Error> {
        match self.size {
            Some(size) if self.bytes.len() as u64 != size => Err(self.wrong_size(size)),
            Some(_) | None => String::from_utf8(std::mem::take(&mut self.bytes))
                .map(|text| (text, self))
                .map_err(|error| Error::invalid("data", error.utf8_error())),
        }
    }

    fn wrong_size(&self, size: u64) -> Error {
        let problem = format!("the text has {} bytes, not the {size} of size_bytes", self.len());
        Error::invalid("data", problem)
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("bytes", &self.len()).finish_non_exhaustive()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.intake.lock().remove(&self.uid);
    }
}
