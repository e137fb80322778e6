//! One call that must be approved: what it is, what has become of it, how clients are told of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prost_types::Timestamp;
use tokio::time::Instant;

use crate::audit::Hash;
use crate::contract::Operation;
use crate::proto::opdbus::v1::{Approval, ApprovalState};

/// The longest preview that is kept, in bytes. It travels in the trailers of gRPC, whose clients take
/// some 8 KiB.
const PREVIEW_BYTES: usize = 4096;

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The user who wants to make the call.
    pub(super) uid: u32,
    pub(super) operation: Arc<Operation>,
    /// Of the request.
    pub(super) digest: Hash,
    pub(super) preview: String,
}

/// What has become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Pending,
    Approved { by: u32 },
    Rejected { by: u32, reason: String },
    Used { by: u32 },
    Expired,
}

/// A call that must be approved.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// In the order of asking, from 1.
    pub(super) number: u64,
    pub(super) id: Box<str>,
    pub(super) wanted: Wanted,
    pub(super) state: State,
    pub(super) expires: Instant,
    truncated: bool,
    requested_at: SystemTime,
    expires_at: SystemTime,
}

impl Record {
    pub(super) fn new(number: u64, id: Box<str>, mut wanted: Wanted, keep: Duration) -> Self {
        let truncated = wanted.preview.len() > PREVIEW_BYTES;
        if truncated {
            let is_end = |at: &usize| wanted.preview.is_char_boundary(*at);
            let end = (0..=PREVIEW_BYTES).rev().find(is_end).unwrap_or_default();
            wanted.preview.truncate(end);
        }
        let now = SystemTime::now();
        Self {
            number,
            id,
            wanted,
            state: State::Pending,
            expires: Instant::now() + keep,
            truncated,
            requested_at: now,
            expires_at: now + keep,
        }
    }

    /// Begins its time anew.
    pub(super) fn renew(&mut self, keep: Duration) {
        self.expires = Instant::now() + keep;
        self.expires_at = SystemTime::now() + keep;
    }

    /// True if it is about this call.
    pub(super) fn is_for(&self, operation: &Operation, digest: Hash) -> bool {
        self.wanted.operation.grpc_path == operation.grpc_path && self.wanted.digest == digest
    }

    /// When it expires, as `2026-01-31T12:00:00Z`.
    pub(super) fn expiry(&self) -> String {
        let whole = Timestamp { nanos: 0, ..Timestamp::from(self.expires_at) };
        whole.to_string()
    }

    pub(super) fn describe(&self) -> Approval {
        let (state, decided_by_uid, reason) = match &self.state {
            State::Pending => (ApprovalState::Pending, None, ""),
            State::Approved { by } => (ApprovalState::Approved, Some(*by), ""),
            State::Rejected { by, reason } => (ApprovalState::Rejected, Some(*by), reason.as_str()),
            State::Used { by } => (ApprovalState::Used, Some(*by), ""),
            State::Expired => (ApprovalState::Expired, None, ""),
        };
        Approval {
            id: self.id.to_string(),
            state: state.into(),
            requested_by_uid: self.wanted.uid,
            agent: self.wanted.operation.agent.clone(),
            operation: self.wanted.operation.name.clone(),
            preview: self.wanted.preview.clone(),
            preview_truncated: self.truncated,
            request_sha256: self.wanted.digest.to_string(),
            requested_at: Some(self.requested_at.into()),
            expires_at: Some(self.expires_at.into()),
            decided_by_uid,
            reason: reason.to_owned(),
        }
    }
}
