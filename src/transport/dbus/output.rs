//! The messages of a task as bytes on the client's descriptor (option `output-fd`). How fast they come
//! is decided by how fast the client reads.

use std::io;

use bytes::{Buf as _, Bytes};
use prost_reflect::MessageDescriptor;
use tokio::io::AsyncWriteExt as _;

use super::descriptor::Writer;
use super::options::Format;
use super::wire;
use crate::contract::message_to_json;
use crate::error::Error;

/// The bytes from which on they are written rather than more messages gathered.
const FULL_BYTES: usize = 64 * 1024;

/// The size from which on a message is written from where it is rather than copied.
const LARGE_BYTES: usize = 16 * 1024;

/// The descriptor and what is still to be written.
pub(super) struct Output {
    writer: Writer,
    format: Format,
    message: MessageDescriptor,
    waiting: Vec<u8>,
    /// A large message that comes after it.
    large: Bytes,
}

impl Output {
    pub(super) fn new(writer: Writer, format: Format, message: MessageDescriptor) -> Self {
        Self { writer, format, message, waiting: Vec::new(), large: Bytes::new() }
    }

    /// Takes a message, unless it is time to write.
    ///
    /// # Errors
    /// `Internal` if it has no JSON form; it is then not taken.
    pub(super) fn push(&mut self, payload: &Bytes) -> Result<(), Error> {
        match self.format {
            Format::Proto => {
                wire::push_varint(&mut self.waiting, payload.len() as u64);
                if payload.len() < LARGE_BYTES {
                    self.waiting.extend_from_slice(payload);
                } else {
                    self.large = payload.clone();
                }
            }
            Format::Json => {
                let json = message_to_json(&self.message, payload)?;
                self.waiting.extend_from_slice(json.as_bytes());
                self.waiting.push(b'\n');
            }
        }
        Ok(())
    }

    /// True if it is time to write.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= FULL_BYTES || !self.large.is_empty()
    }

    /// Writes what was taken.
    ///
    /// # Errors
    /// If the descriptor takes no more.
    pub(super) async fn write(&mut self) -> io::Result<()> {
        let mut all = self.waiting.as_slice().chain(std::mem::take(&mut self.large));
        self.writer.bytes.write_all_buf(&mut all).await?;
        self.waiting.clear();
        // One large message is no reason to hold so much for ever.
        self.waiting.shrink_to(2 * FULL_BYTES);
        // A file is written beside; only this says whether it was.
        self.writer.bytes.flush().await
    }
}
