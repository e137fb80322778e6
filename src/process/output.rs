//! What a program writes, in chunks that do not cut a character, and what is kept of it. It reads only
//! when it is asked to, so a program that writes faster than its reader waits.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::readiness::wait_on;

/// The most that one chunk holds.
const CHUNK_MAX: usize = 64 << 10;
/// Who has written so much by the time it is read writes much.
const LARGE_FROM: usize = CHUNK_MAX / 2;
/// What the pipe of a program that writes much is asked to hold: the most that the kernel gives to who
/// has no privileges.
const PIPE_BYTES: usize = 1 << 20;
/// A chunk smaller than this is copied, so that it does not hold the memory of a whole one.
const COPIED_BELOW: usize = CHUNK_MAX / 4;
/// A character of UTF-8 has at most four bytes, so at most three can be a beginning.
const BEGINNING_MAX: usize = 3;

/// Which stream a chunk is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The output; of a terminal also the errors.
    Stdout,
    /// The errors.
    Stderr,
}

/// A piece of output.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Which stream it is of.
    pub stream: Stream,
    /// How many bytes of the stream come before it.
    pub offset: u64,
    /// What the program wrote, unchanged. It ends within a character only if the stream does, or is
    /// not UTF-8 there.
    pub bytes: Bytes,
}

impl Chunk {
    /// The bytes as text; what is not UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

/// The reading end of a pipe or terminal.
#[derive(Debug)]
pub(super) struct Reader {
    descriptor: AsyncFd<OwnedFd>,
    stream: Stream,
    offset: u64,
    /// The beginning of a character whose rest is not read yet.
    beginning: Vec<u8>,
    at_end: bool,
    /// Nothing more is asked for it.
    is_large: bool,
}

impl Reader {
    /// Reads from `descriptor`, which does not block.
    pub(super) fn new(descriptor: OwnedFd, stream: Stream) -> io::Result<Self> {
        Ok(Self {
            descriptor: wait_on(descriptor)?,
            stream,
            offset: 0,
            beginning: Vec::new(),
            at_end: false,
            is_large: false,
        })
    }

    /// The next chunk, or `None` at the end, and again after it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped nothing is lost.
    pub(super) async fn next(&mut self) -> io::Result<Option<Chunk>> {
        loop {
            if self.at_end {
                return Ok(None);
            }
            let mut ready = self.descriptor.readable().await?;
            let mut buffer = space_after(&self.beginning);
            let Ok(read) = ready.try_io(|descriptor| read(descriptor.get_ref(), &mut buffer))
            else {
                continue;
            };
            if let Some(chunk) = self.take(buffer, read?) {
                return Ok(Some(chunk));
            }
        }
    }

    /// The next chunk if there is one at once.
    pub(super) fn next_at_once(&mut self) -> io::Result<Option<Chunk>> {
        while !self.at_end {
            let mut buffer = space_after(&self.beginning);
            let count = match read(self.descriptor.get_ref(), &mut buffer) {
                Ok(count) => count,
                // Somebody outside of the tree still holds the other end; nobody waits for him.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            if let Some(chunk) = self.take(buffer, count) {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    /// How many bytes were written until now, read or not.
    pub(super) fn written(&self) -> io::Result<u64> {
        Ok(self.taken() + rustix::io::ioctl_fionread(self.descriptor.get_ref())?)
    }

    /// The next chunk of the stream's first `end` bytes, if there is one at once. A character that is not
    /// whole by then comes as it is.
    pub(super) fn next_before(&mut self, end: u64) -> io::Result<Option<Chunk>> {
        while !self.at_end && self.taken() < end {
            let mut buffer = space_after(&self.beginning);
            let count = match read(self.descriptor.get_ref(), &mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            if let Some(chunk) = self.take(buffer, count) {
                return Ok(Some(chunk));
            }
        }
        let beginning = std::mem::take(&mut self.beginning);
        Ok(self.chunk(beginning))
    }

    /// How many bytes were read.
    fn taken(&self) -> u64 {
        self.offset + self.beginning.len() as u64
    }

    /// Makes a chunk of `buffer`, to which `count` bytes were read, but for a character that is not whole.
    fn take(&mut self, mut buffer: Vec<u8>, count: usize) -> Option<Chunk> {
        let whole = match count {
            0 => {
                self.at_end = true;
                buffer.len()
            }
            _ => whole_characters(&buffer),
        };
        self.grow(count);
        self.beginning = buffer.split_off(whole);
        self.chunk(buffer)
    }

    fn chunk(&mut self, buffer: Vec<u8>) -> Option<Chunk> {
        if buffer.is_empty() {
            return None;
        }
        let bytes = match buffer.len() < COPIED_BELOW {
            true => Bytes::copy_from_slice(&buffer),
            false => Bytes::from(buffer),
        };
        let offset = self.offset;
        self.offset += bytes.len() as u64;
        Some(Chunk { stream: self.stream, offset, bytes })
    }
}

impl Reader {
    /// Has the pipe of a program that writes much hold more, so that it need not be woken as often. A
    /// user's quota may refuse it; then it holds what it holds.
    fn grow(&mut self, count: usize) {
        if !self.is_large && count >= LARGE_FROM {
            rustix::pipe::fcntl_setpipe_size(self.descriptor.get_ref(), PIPE_BYTES).ok();
            self.is_large = true;
        }
    }
}

fn space_after(beginning: &[u8]) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(CHUNK_MAX);
    buffer.extend_from_slice(beginning);
    buffer
}

fn read(descriptor: &OwnedFd, buffer: &mut Vec<u8>) -> io::Result<usize> {
    match rustix::io::read(descriptor, rustix::buffer::spare_capacity(buffer)) {
        // A terminal whose last user has gone.
        Err(Errno::IO) => Ok(0),
        outcome => Ok(outcome?),
    }
}

/// How many of `bytes` there are before a character at the end that has begun and is not whole.
fn whole_characters(bytes: &[u8]) -> usize {
    let last = bytes.iter().rev().take(BEGINNING_MAX);
    for (back, byte) in last.enumerate() {
        let length = match byte {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => return bytes.len(),
        };
        return if back + 1 < length { bytes.len() - back - 1 } else { bytes.len() };
    }
    bytes.len()
}

/// How much of a stream is kept.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Bytes of its beginning.
    pub head_bytes: usize,
    /// Bytes of its end.
    pub tail_bytes: usize,
}

impl Default for Keep {
    fn default() -> Self {
        Self { head_bytes: 64 << 10, tail_bytes: 64 << 10 }
    }
}

/// The beginning and the end of a stream, and how long it was.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

impl Kept {
    /// Adds a piece.
    pub fn push(&mut self, mut bytes: &[u8], keep: Keep) {
        self.total += bytes.len() as u64;
        let for_head = keep.head_bytes.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..for_head]);
        bytes = &bytes[for_head..];
        bytes = &bytes[bytes.len().saturating_sub(keep.tail_bytes)..];
        let over = (self.tail.len() + bytes.len()).saturating_sub(keep.tail_bytes);
        self.tail.drain(..over);
        self.tail.extend(bytes);
    }

    /// How many bytes the stream had.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The bytes between head and tail that were not kept.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.total - self.head.len() as u64 - self.tail.len() as u64
    }

    /// The beginning.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The end, as far as it is not in the beginning.
    #[must_use]
    pub fn tail(&self) -> Vec<u8> {
        self.tail.iter().copied().collect()
    }

    /// True if what the stream has at `offset` and all after it is kept.
    #[must_use]
    pub fn has_all_from(&self, offset: u64) -> bool {
        self.left_out() == 0 || offset >= self.total - self.tail.len() as u64
    }

    /// The bytes from `offset` on, at most `max` of them, and how many bytes of the stream come before
    /// them: more than `offset` if what came there is not kept.
    #[must_use]
    pub fn since(&self, offset: u64, max: usize) -> (u64, Vec<u8>) {
        let tail_begins = self.total - self.tail.len() as u64;
        // What is kept has an index, so both fit into a usize.
        let index = |from: u64| usize::try_from(from).unwrap_or(usize::MAX);
        let mut bytes: Vec<u8> = self.head.iter().skip(index(offset)).take(max).copied().collect();
        if !bytes.is_empty() && self.left_out() > 0 {
            return (offset, bytes);
        }
        let begins = if bytes.is_empty() { offset.clamp(tail_begins, self.total) } else { offset };
        let in_tail = index((begins + bytes.len() as u64) - tail_begins);
        let room = max - bytes.len();
        bytes.extend(self.tail.range(in_tail.min(self.tail.len())..).take(room));
        (begins, bytes)
    }

    /// The same with at most `tail_bytes` of the end.
    #[must_use]
    pub fn shortened(&self, tail_bytes: usize) -> Self {
        let over = self.tail.len().saturating_sub(tail_bytes);
        let tail = self.tail.range(over..).copied().collect();
        Self { head: self.head.clone(), tail, total: self.total }
    }

    /// Head and tail as text, with a line between them that says how much was left out.
    #[must_use]
    pub fn text(&self) -> String {
        let tail = self.tail();
        if self.left_out() == 0 {
            return String::from_utf8_lossy(&[self.head.as_slice(), &tail].concat()).into_owned();
        }
        let (head, tail) = (String::from_utf8_lossy(&self.head), String::from_utf8_lossy(&tail));
        format!("{head}\n[{} bytes left out]\n{tail}", self.left_out())
    }
}

#[cfg(test)]
mod tests {
    use super::whole_characters;

    #[test]
    fn a_chunk_ends_before_a_character_that_is_not_whole() {
        let text = "aß€😀";
        let ends: Vec<_> = (0..=text.len()).filter(|end| text.is_char_boundary(*end)).collect();
        for end in 0..=text.len() {
            let expected = ends.iter().copied().filter(|whole| *whole <= end).max();
            assert_eq!(Some(whole_characters(&text.as_bytes()[..end])), expected, "{end}");
        }
    }

    #[test]
    fn what_is_not_utf8_is_not_held_back() {
        for bytes in [&b"a\xff"[..], b"\x80\x80\x80\x80", b"a\x80", b"\xc0", b"\xf8\x80"] {
            assert_eq!(whole_characters(bytes), bytes.len(), "{bytes:?}");
        }
    }
}
