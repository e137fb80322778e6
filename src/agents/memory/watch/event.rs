//! What happens to a key, as it is told: encoded once for all who hear of it.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::agents::memory::change::Version;
use crate::agents::memory::fields::{Scope, stored_tags};
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
    /// A value was stored.
    pub(in super::super) fn put(
        scope: &Scope,
        key: &str,
        revision: i64,
        time: i64,
        new: &Version<'_>,
    ) -> Self {
        Self {
            revision,
            namespace: scope.namespace.clone(),
            key: key.to_owned(),
            kind: WatchEvent::Put,
            time,
            expires_at: new.expires_at,
            tags: new.tags.to_owned(),
            value: new.value.to_owned(),
            ..Self::default()
        }
    }

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
