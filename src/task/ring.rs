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

impl Bounds {
    /// So much that the newest message is kept and no other.
    pub(super) const NEWEST: Self = Self { messages: 1, bytes: 0 };
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
    loaded: VecDeque<Message>,
    bytes_loaded: usize,
    /// The number of the oldest message that is kept, be it here or on disk.
    first: u64,
    /// The number that the next message gets.
    next: u64,
    /// The bytes of all messages so far.
    total: u64,
}

impl Default for Ring {
    fn default() -> Self {
        Self::on_disk(1, 1, 0)
    }
}

impl Ring {
    /// A ring whose messages from `first` on are on disk; `next` and `total` as for [`Ring::next`] and
    /// [`Ring::total`].
    pub(super) fn on_disk(first: u64, next: u64, total: u64) -> Self {
        Self { loaded: VecDeque::new(), bytes_loaded: 0, first, next, total }
    }

    /// The number of the oldest message that is kept; that of the next one if none is.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The number that the next message gets.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The bytes of all messages so far.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// What it takes of memory, about, in bytes.
    pub(super) fn cost(&self) -> usize {
        self.bytes_loaded + self.loaded.len() * size_of::<Message>()
    }

    /// The message with the number `seq`, if it is in memory.
    pub(super) fn get(&self, seq: u64) -> Option<&Message> {
        let index = seq.checked_sub(self.loaded.front()?.seq)?;
        self.loaded.get(usize::try_from(index).ok()?)
    }

    /// The messages in memory, from the oldest.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Message> {
        self.loaded.iter()
    }

    /// The number of the oldest message that would still be kept within `bounds` after one of `length`
    /// bytes came.
    pub(super) fn first_after(&self, length: usize, bounds: Bounds) -> u64 {
        let mut messages = self.loaded.len() + 1;
        let mut bytes = self.bytes_loaded.saturating_add(length);
        let mut first = self.first;
        for message in &self.loaded {
            if messages <= bounds.messages && bytes <= bounds.bytes {
                break;
            }
            messages -= 1;
            bytes -= message.payload.len();
            first = message.seq + 1;
        }
        first
    }

    /// Adds the next message. What it pushes out goes before: [`Ring::discard_before`].
    pub(super) fn push(&mut self, payload: Bytes) {
        let length = payload.len();
        self.loaded.push_back(Message { seq: self.next, offset: self.total, payload });
        self.bytes_loaded += length;
        self.next += 1;
        self.total += length as u64;
    }

    /// Drops the messages with numbers below `seq`.
    pub(super) fn discard_before(&mut self, seq: u64) {
        while self.loaded.front().is_some_and(|message| message.seq < seq) {
            let dropped = self.loaded.pop_front();
            self.bytes_loaded -= dropped.map_or(0, |message| message.payload.len());
        }
        self.first = self.first.max(seq.min(self.next));
    }

    /// Takes the messages out of memory; those on disk are still kept.
    pub(super) fn unload(&mut self) {
        self.loaded = VecDeque::new();
        self.bytes_loaded = 0;
    }

    /// Gives back room for more messages than there are.
    pub(super) fn shrink(&mut self) {
        self.loaded.shrink_to_fit();
    }
}
