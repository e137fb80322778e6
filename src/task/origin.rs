//! What a task is from its start on, and what it is given to live in. Nothing here changes.

use std::sync::Arc;
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use super::archive::Archive;
use super::life::Task;
use super::memory::Memory;
use super::ring::Bounds;
use super::state::Gauges;
use crate::call::{Caller, OnDisconnect, Transport};
use crate::contract::Operation;
use crate::metrics::StreamMetrics;

/// What a task is from its start on.
pub(super) struct Origin {
    pub(super) id: Arc<str>,
    /// Its number in the archive, which no other task ever has.
    pub(super) key: i64,
    pub(super) operation: Arc<Operation>,
    pub(super) caller: Arc<Caller>,
    pub(super) transport: Transport,
    pub(super) session: Option<Arc<str>>,
    pub(super) on_disconnect: OnDisconnect,
    pub(super) started_at: SystemTime,
    pub(super) deadline: Option<SystemTime>,
    /// True if it is a mere view that nobody attaches to again: what was read is dropped.
    pub(super) is_transient: bool,
}

/// What a task is given besides its origin.
pub(super) struct Surroundings {
    pub(super) bounds: Bounds,
    pub(super) memory: Arc<Memory>,
    /// Where it is recorded; none if it is not.
    pub(super) archive: Option<Arc<Archive>>,
    pub(super) gauges: Option<Arc<Gauges>>,
    pub(super) stream: Option<StreamMetrics>,
    /// Its cancellation cancels the task, because the service stops.
    pub(super) stopping: CancellationToken,
}

impl Task {
    /// Its id; empty for a view.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.origin.id
    }

    /// The operation that was called.
    #[must_use]
    pub fn operation(&self) -> &Arc<Operation> {
        &self.origin.operation
    }

    /// Who called.
    #[must_use]
    pub fn caller(&self) -> &Arc<Caller> {
        &self.origin.caller
    }

    /// Over which transport.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.origin.transport
    }

    /// The session that it was called in.
    #[must_use]
    pub fn session(&self) -> Option<&Arc<str>> {
        self.origin.session.as_ref()
    }

    /// What becomes of it when its client goes away.
    #[must_use]
    pub fn on_disconnect(&self) -> OnDisconnect {
        self.origin.on_disconnect
    }

    /// When it was started.
    #[must_use]
    pub fn started_at(&self) -> SystemTime {
        self.origin.started_at
    }

    /// True if it is a mere view that nobody attaches to again: it is in no list, and what its client
    /// has read is dropped.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.origin.is_transient
    }
}
