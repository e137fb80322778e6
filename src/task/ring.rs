//! The last messages of a task, each with its number and the bytes before it, within bounds. It wakes
//! nobody.

use std::collections::VecDeque;

use bytes::Bytes;

/// How much a task keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How many messages (`[tasks] ring_messages`).
    pub messages: usize,
    /// How many bytes; the newest message is kept whatever its size (`[tasks] ring_bytes`).
    pub bytes: usize,
}

/// One message of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number, from 1.
    pub seq: u64,
    /// The bytes of all messages before it.
    pub offset: u64,
    /// The message, encoded.
    pub payload: Bytes,
}

/// The messages.
#[derive(Debug)]
pub(super) struct Ring {
    kept: VecDeque<Message>,
    bytes_kept: usize,
    /// The number that the next message gets.
    next: u64,
    /// The bytes of all messages so far.
    total: u64,
    bounds: Bounds,
}

impl Ring {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { kept: VecDeque::new(), bytes_kept: 0, next: 1, total: 0, bounds }
    }

    /// The number of the oldest message that is kept; that of the next one if none is.
    pub(super) fn first(&self) -> u64 {
        self.kept.front().map_or(self.next, |message| message.seq)
    }

    /// The number that the next message gets.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The bytes of all messages so far.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The message with the number `seq`, if it is kept.
    pub(super) fn get(&self, seq: u64) -> Option<&Message> {
        let index = seq.checked_sub(self.first())?;
        self.kept.get(usize::try_from(index).ok()?)
    }

    /// The number of the oldest message that would still be kept after one of `length` bytes came.
    pub(super) fn first_after(&self, length: usize) -> u64 {
        let (mut messages, mut bytes) = (self.kept.len() + 1, self.bytes_kept + length);
        let mut first = self.first();
        for message in &self.kept {
            if messages <= self.bounds.messages && bytes <= self.bounds.bytes {
                break;
            }
            messages -= 1;
            bytes -= message.payload.len();
            first = message.seq + 1;
        }
        first
    }

    pub(super) fn push(&mut self, payload: Bytes) {
        self.discard_before(self.first_after(payload.len()));
        self.bytes_kept += payload.len();
        let length = payload.len() as u64;
        self.kept.push_back(Message { seq: self.next, offset: self.total, payload });
        self.next += 1;
        self.total += length;
    }

    /// Drops the messages with numbers below `seq`.
    pub(super) fn discard_before(&mut self, seq: u64) {
        while self.kept.front().is_some_and(|message| message.seq < seq) {
            let dropped = self.kept.pop_front();
            self.bytes_kept -= dropped.map_or(0, |message| message.payload.len());
        }
    }
}
