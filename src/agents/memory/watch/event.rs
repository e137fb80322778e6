//! What happens to a key, as it is told: encoded once for all who hear of it.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::agents::memory::fields::stored_tags;
use crate::agents::memory::time::timestamp;
use crate::agents::memory::value;
use crate::contract::encode;
use crate::error::Error;
use crate::proto::opdbus::agent::memory::v1::{WatchEvent, WatchResponse};

/// What each event counts beside its key, labels and value, in bytes.
const EVENT_BYTES: usize = 128;

/// Something that happened to a key.
#[derive(Debug, Default)]
pub(in super::super) struct Event {
    pub(in super::super) revision: i64,
    /// As it is stored.
    pub(in super::super) namespace: String,
    pub(in super::super) key: String,
    pub(in super::super) kind: WatchEvent,
    pub(in super::super) time: i64,
    pub(in super::super) expires_at: Option<i64>,
    pub(in super::super) tags: Vec<u8>,
    /// Empty if there is none.
    pub(in super::super) value: Vec<u8>,
    /// Without the value, and with it.
    pub(in super::super) encoded: [OnceLock<Bytes>; 2],
}

impl Event {
    /// About what it takes.
    pub(super) fn size(&self) -> usize {
        EVENT_BYTES + self.key.len() + self.tags.len() + self.value.len()
    }

    /// The message that tells it.
    pub(super) fn message(&self, with_value: bool) -> Result<Bytes, Error> {
        let cell = &self.encoded[usize::from(with_value)];
        if let Some(encoded) = cell.get() {
            return Ok(encoded.clone());
        }
        let value = (with_value && !self.value.is_empty()).then(|| value::decode(&self.value));
        let message = WatchResponse {
            event: self.kind.into(),
            revision: self.revision.unsigned_abs(),
            key: self.key.clone(),
            value: value.transpose()?,
            tags: stored_tags(&self.tags),
            time: Some(timestamp(self.time)),
            expires_at: self.expires_at.map(timestamp),
            from_revision: 0,
        };
        let encoded = encode(&message)?;
        Ok(cell.get_or_init(|| encoded).clone())
    }
}
