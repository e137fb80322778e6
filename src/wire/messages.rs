//! Messages out of the bytes of a body and into them, each behind five bytes of flag and length, and
//! what a worker notes between them. What they mean is not known here.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};

use super::good;

/// The flag and the length before each message.
const PREFIX_BYTES: usize = 5;

/// The flag of a message of the call.
const MESSAGE: u8 = 0;

/// The flag of a compressed one.
const COMPRESSED: u8 = 1;

/// The flag of a note, which gRPC does not have: only workers write it, and only the front reads it.
const NOTE: u8 = 2;

/// The most bytes of a note.
const NOTE_BYTES: usize = 1024;

/// So many notes are read before others have their turn.
const NOTES_AT_ONCE: usize = 64;

/// The room that a claimed length alone gets; more comes with the bytes themselves.
const FIRST_ROOM_BYTES: usize = 64 * 1024;

/// A message up to this size is copied behind its prefix; a larger one travels as it is.
pub(crate) const COPIED_BYTES: usize = 16 * 1024;

/// What is no message.
#[derive(Debug)]
pub(crate) enum Malformed {
    /// It is compressed, which is not served.
    Compressed,
    /// It is longer than it may be, in bytes.
    TooLarge { length: usize, limit: usize },
    /// It is nothing that gRPC knows; the text says why.
    Broken(String),
}

/// Why there are no further messages in a body that has not come to its end.
#[derive(Debug)]
pub(crate) enum Lost {
    /// What came is no message.
    Malformed(Malformed),
    /// Whoever sent it has gone, or has given it up.
    BrokenOff,
}

impl From<Malformed> for Lost {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// A message that is too large to be sent, with its length in bytes.
#[derive(Debug)]
pub(crate) struct TooLarge(pub(crate) usize);

/// Puts a message behind its prefix into `buffer`. A large one is not copied but given back, to be
/// sent after the buffer.
///
/// # Errors
/// `TooLarge` if the message has more than `limit` bytes.
pub(crate) fn put_message(
    buffer: &mut BytesMut,
    message: Bytes,
    limit: usize,
) -> Result<Option<Bytes>, TooLarge> {
    let length = match u32::try_from(message.len()) {
        Ok(length) if message.len() <= limit => length,
        Ok(_) | Err(_) => return Err(TooLarge(message.len())),
    };
    let copied = if message.len() <= COPIED_BYTES { message.len() } else { 0 };
    buffer.reserve(PREFIX_BYTES + copied);
    buffer.put_u8(MESSAGE);
    buffer.put_u32(length);
    buffer.put_slice(&message[..copied]);
    Ok((copied < message.len()).then_some(message))
}

/// Puts a note into `buffer`. One that is longer than notes may be is left out.
pub(crate) fn put_note(buffer: &mut BytesMut, note: &[u8]) {
    if let Ok(length) = u32::try_from(note.len())
        && note.len() <= NOTE_BYTES
    {
        buffer.put_u8(NOTE);
        buffer.put_u32(length);
        buffer.put_slice(note);
    }
}

/// What is left to send of an answer: the message's prefix with or without it, it, the end of the call.
pub(crate) struct Parts {
    first: Option<Bytes>,
    second: Option<Bytes>,
    ended: bool,
}

impl Parts {
    /// All of `message`, followed by the trailers of a call that went well.
    ///
    /// # Errors
    /// `TooLarge` if it has more than `limit` bytes.
    pub(crate) fn of(message: Bytes, limit: usize) -> Result<Self, TooLarge> {
        let mut first = BytesMut::new();
        let second = put_message(&mut first, message, limit)?;
        Ok(Self { first: Some(first.freeze()), second, ended: false })
    }

    /// The same with another form of what is not copied.
    pub(crate) fn map_large(mut self, change: impl FnOnce(Bytes) -> Bytes) -> Self {
        self.second = self.second.map(change);
        self
    }

    /// What is to be sent next.
    pub(crate) fn next(&mut self) -> Option<Frame<Bytes>> {
        if let Some(data) = self.first.take().or_else(|| self.second.take()) {
            return Some(Frame::data(data));
        }
        if std::mem::replace(&mut self.ended, true) {
            return None;
        }
        Some(Frame::trailers(good()))
    }

    /// True if nothing more is to be sent.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended && self.first.is_none() && self.second.is_none()
    }
}

/// Hears the notes between messages.
///
/// # Errors
/// `Malformed` if one is none.
pub(crate) type Hear = Box<dyn FnMut(Bytes) -> Result<(), Malformed> + Send>;

/// The messages in a body, read from it as they are wanted.
pub(crate) struct Messages<B> {
    /// `None` after the end.
    body: Option<B>,
    deframer: Deframer,
    /// What came behind the last message.
    data: Bytes,
    trailers: Option<HeaderMap>,
    /// `None`: there must be no notes.
    hear: Option<Hear>,
}

impl<B: Body<Data = Bytes> + Unpin> Messages<B> {
    /// Reads messages of at most `limit` bytes.
    pub(crate) fn new(body: B, limit: usize) -> Self {
        let deframer = Deframer::new(limit);
        Self { body: Some(body), deframer, data: Bytes::new(), trailers: None, hear: None }
    }

    /// Has `hear` called with each note between the messages.
    pub(crate) fn hear(&mut self, hear: Hear) {
        self.deframer.takes_notes = true;
        self.hear = Some(hear);
    }

    /// The next message; `None` at the end of the body.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Lost>> {
        let mut notes = 0;
        loop {
            if !self.data.is_empty()
                && let Some(message) = self.deframer.take(&mut self.data)?
            {
                match &mut self.hear {
                    Some(hear) if self.deframer.took_note() => hear(message)?,
                    Some(_) | None => return Poll::Ready(Ok(Some(message))),
                }
                notes += 1;
                if notes == NOTES_AT_ONCE {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                continue;
            }
            let Some(body) = &mut self.body else { return Poll::Ready(Ok(None)) };
            match ready!(Pin::new(&mut *body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.data = data,
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
                // A client may reset its stream in a way that hyper takes for its end.
                None if body.is_end_stream() => {
                    self.close();
                    return Poll::Ready(Ok(self.deframer.end().map(|()| None)?));
                }
                Some(Err(_)) | None => return Poll::Ready(Err(Lost::BrokenOff)),
            }
        }
    }

    /// What came after the last message, once the end has come.
    pub(crate) fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    /// The bytes that have come of a message which is not whole.
    pub(crate) fn buffered(&self) -> usize {
        self.deframer.buffered()
    }

    /// Reads no more.
    pub(crate) fn close(&mut self) {
        self.body = None;
        self.data = Bytes::new();
    }
}

/// Finds the messages in the bytes of a body.
pub(crate) struct Deframer {
    limit: usize,
    /// True if there may be notes between the messages.
    takes_notes: bool,
    /// The prefix of the message; so many bytes of it have come.
    prefix: [u8; PREFIX_BYTES],
    met: usize,
    /// The message's length, once the prefix is whole.
    length: Option<usize>,
    message: Got,
}

/// What there is of the message.
enum Got {
    Nothing,
    /// All that came so far, as the one piece in which it came.
    Piece(Bytes),
    Pieces(BytesMut),
}

impl Got {
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Piece(piece) => piece.len(),
            Self::Pieces(pieces) => pieces.len(),
        }
    }

    /// The same with `data` after it; there will be `length` bytes in all.
    fn and(self, data: Bytes, length: usize) -> Self {
        match self {
            _ if data.is_empty() => self,
            Self::Nothing => Self::Piece(data),
            Self::Piece(first) => {
                let room = length.min(FIRST_ROOM_BYTES.max(first.len() + data.len()));
                let mut pieces = BytesMut::with_capacity(room);
                pieces.put(first);
                pieces.put(data);
                Self::Pieces(pieces)
            }
            Self::Pieces(mut pieces) => {
                pieces.put(data);
                Self::Pieces(pieces)
            }
        }
    }

    fn whole(self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::Piece(piece) => piece,
            Self::Pieces(pieces) => pieces.freeze(),
        }
    }
}

impl Deframer {
    /// Takes messages of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        let prefix = [MESSAGE; PREFIX_BYTES];
        Self { limit, takes_notes: false, prefix, met: 0, length: None, message: Got::Nothing }
    }

    /// True if what was taken last is a note.
    fn took_note(&self) -> bool {
        self.prefix[0] == NOTE
    }

    /// Takes out of `data` what belongs to the message that is coming, and gives it once it is whole.
    ///
    /// # Errors
    /// What is wrong with the prefix, as soon as it is there.
    pub(crate) fn take(&mut self, data: &mut Bytes) -> Result<Option<Bytes>, Malformed> {
        let length = match self.length {
            Some(length) => length,
            None => {
                let coming = data.split_to((PREFIX_BYTES - self.met).min(data.len()));
                self.prefix[self.met..self.met + coming.len()].copy_from_slice(&coming);
                self.met += coming.len();
                if self.met < PREFIX_BYTES {
                    return Ok(None);
                }
                *self.length.insert(self.prefix_read()?)
            }
        };
        let coming = data.split_to((length - self.message.len()).min(data.len()));
        let message = std::mem::replace(&mut self.message, Got::Nothing).and(coming, length);
        if message.len() < length {
            self.message = message;
            return Ok(None);
        }
        (self.met, self.length) = (0, None);
        Ok(Some(message.whole()))
    }

    /// The bytes that have come of a message which is not whole.
    pub(crate) fn buffered(&self) -> usize {
        self.message.len()
    }

    /// Checks that no message has come by half.
    ///
    /// # Errors
    /// `Broken` if one has.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        match self.length {
            None if self.met == 0 => Ok(()),
            None => Err(Malformed::Broken("the message ends within its length".to_owned())),
            Some(length) => {
                let got = self.message.len();
                Err(Malformed::Broken(format!("the message ends after {got} of {length} bytes")))
            }
        }
    }

    /// Reads the prefix: the length of the message.
    fn prefix_read(&self) -> Result<usize, Malformed> {
        let [flag, number @ ..] = self.prefix;
        let limit = match flag {
            MESSAGE => self.limit,
            COMPRESSED => return Err(Malformed::Compressed),
            NOTE if self.takes_notes => NOTE_BYTES,
            flag => {
                let problem = format!("the message begins with the unknown flag {flag}");
                return Err(Malformed::Broken(problem));
            }
        };
        let length = usize::try_from(u32::from_be_bytes(number)).unwrap_or(usize::MAX);
        if length > limit {
            return Err(Malformed::TooLarge { length, limit });
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deframer(takes_notes: bool) -> Deframer {
        Deframer { takes_notes, ..Deframer::new(usize::MAX) }
    }

    #[test]
    fn notes_are_told_from_messages() {
        let mut bytes = BytesMut::new();
        put_note(&mut bytes, b"note");
        put_message(&mut bytes, Bytes::from_static(b"message"), usize::MAX).unwrap();
        put_note(&mut bytes, &[0; NOTE_BYTES + 1]);
        let mut bytes = bytes.freeze();
        let mut deframer = deframer(true);
        assert_eq!(deframer.take(&mut bytes).unwrap().unwrap(), "note");
        assert!(deframer.took_note());
        assert_eq!(deframer.take(&mut bytes).unwrap().unwrap(), "message");
        assert!(!deframer.took_note() && bytes.is_empty(), "a note that is too long is left out");
    }

    #[test]
    fn notes_are_refused_where_there_are_none_and_when_they_are_too_long() {
        let mut bytes = BytesMut::new();
        put_note(&mut bytes, b"note");
        let refused = deframer(false).take(&mut bytes.freeze());
        assert!(matches!(refused, Err(Malformed::Broken(_))), "{refused:?}");
        let mut long = Bytes::from_static(&[NOTE, 0, 0, 4, 1]);
        let refused = deframer(true).take(&mut long);
        assert!(matches!(refused, Err(Malformed::TooLarge { length: 1025, limit: 1024 })));
    }
}
