//! Finds the header blocks in what a client sends. What is in them is `headers`' matter.

use super::headers::Headers;

/// What an HTTP/2 client sends first.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const TYPE_HEADERS: u8 = 1;
const TYPE_CONTINUATION: u8 = 9;
const FLAG_END_HEADERS: u8 = 0x4;
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;
const FRAME_HEADER_BYTES: u8 = 9;
/// The stream dependency and the weight.
const PRIORITY_BYTES: u32 = 5;

/// The position in one connection's bytes from the client.
#[derive(Debug)]
pub(in super::super) struct Authority {
    state: State,
    /// The frame whose bytes come.
    frame: Frame,
    headers: Headers,
    /// True between a header block's first frame and the one that ends it.
    in_block: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In the preface; so many bytes of it were seen.
    Preface(u8),
    /// In a frame's header; so many bytes of it were seen.
    FrameHeader(u8),
    /// At the byte that tells how long the padding is.
    PadLength,
    /// In the priority fields; so many bytes are left.
    Priority(u32),
    /// In a part of a header block; so many bytes of it are left.
    Block(u32),
    /// In bytes that are of no interest; so many are left.
    Skip(u32),
    /// The client does not speak HTTP/2. Nothing is touched any more; the server's parser answers.
    Lost,
}

#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    length: u32,
    kind: u8,
    flags: u8,
    padding: u32,
}

impl Authority {
    /// At the begin of a connection.
    pub(in super::super) fn new() -> Self {
        Self {
            state: State::Preface(0),
            frame: Frame::default(),
            headers: Headers::new(),
            in_block: false,
        }
    }

    /// Takes the next bytes of the connection, however they are cut, and makes them legal.
    pub(in super::super) fn follow(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            at += match self.state {
                State::Skip(left) => self.skip(left, bytes.len() - at),
                State::Lost => return,
                State::Preface(_)
                | State::FrameHeader(_)
                | State::PadLength
                | State::Priority(_)
                | State::Block(_) => {
                    self.byte(&mut bytes[at]);
                    1
                }
            };
        }
    }

    /// Passes over bytes of no interest; gives how many.
    fn skip(&mut self, left: u32, available: usize) -> usize {
        let available = u32::try_from(available).unwrap_or(u32::MAX);
        let passed = left.min(available);
        self.state = self.after(left - passed, State::Skip);
        passed as usize
    }

    fn byte(&mut self, byte: &mut u8) {
        self.state = match self.state {
            State::Preface(seen) if *byte != PREFACE[usize::from(seen)] => State::Lost,
            State::Preface(seen) if usize::from(seen) + 1 == PREFACE.len() => State::FrameHeader(0),
            State::Preface(seen) => State::Preface(seen + 1),
            State::FrameHeader(seen) => self.frame_header(seen, *byte),
            State::PadLength => {
                self.frame.padding = u32::from(*byte);
                self.frame.length -= 1;
                self.payload(self.frame.flags & FLAG_PRIORITY != 0)
            }
            State::Priority(1) => self.payload(false),
            State::Priority(left) => State::Priority(left - 1),
            State::Block(left) => match self.headers.byte(byte) {
                Ok(()) => self.block_left(left - 1),
                Err(_) => State::Lost,
            },
            State::Skip(_) | State::Lost => self.state,
        };
    }

    fn frame_header(&mut self, seen: u8, byte: u8) -> State {
        match seen {
            0..=2 => self.frame.length = (self.frame.length << 8) | u32::from(byte),
            3 => self.frame.kind = byte,
            4 => self.frame.flags = byte,
            _ => {}
        }
        if seen + 1 < FRAME_HEADER_BYTES {
            return State::FrameHeader(seen + 1);
        }
        match self.frame.kind {
            TYPE_HEADERS if !self.in_block => {
                self.in_block = true;
                self.headers = Headers::new();
                if self.frame.flags & FLAG_PADDED == 0 {
                    self.payload(self.frame.flags & FLAG_PRIORITY != 0)
                } else if self.frame.length == 0 {
                    State::Lost
                } else {
                    State::PadLength
                }
            }
            TYPE_CONTINUATION if self.in_block => self.payload(false),
            // Between the frames of a header block there must be no other.
            _ if self.in_block || self.frame.kind == TYPE_CONTINUATION => State::Lost,
            _ => self.after(self.frame.length, State::Skip),
        }
    }

    /// Where the payload goes on, once the padding is known.
    fn payload(&mut self, priority: bool) -> State {
        let fields = if priority { PRIORITY_BYTES } else { 0 };
        match self.frame.length.checked_sub(fields) {
            Some(rest) if rest >= self.frame.padding => {
                self.frame.length = rest;
                if priority {
                    State::Priority(PRIORITY_BYTES)
                } else {
                    self.block_left(rest - self.frame.padding)
                }
            }
            _ => State::Lost,
        }
    }

    /// In a header block with so many bytes left in this frame.
    fn block_left(&mut self, left: u32) -> State {
        if left > 0 {
            return State::Block(left);
        }
        if self.frame.flags & FLAG_END_HEADERS != 0 {
            self.in_block = false;
        }
        self.after(self.frame.padding, State::Skip)
    }

    /// `state` with so many bytes left, or the next frame if there are none.
    fn after(&mut self, left: u32, state: fn(u32) -> State) -> State {
        if left > 0 {
            return state(left);
        }
        self.frame = Frame::default();
        State::FrameHeader(0)
    }
}
