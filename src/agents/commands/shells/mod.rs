//! Shells that are kept open, with their folder, variables and functions, for one text after the other.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::agents::WorkerSettings;
use crate::call::{Context, SessionScope};
use crate::contract::Replies;
use crate::error::{Error, ErrorKind};
use crate::process::Runner;
use crate::proto::opdbus::agent::commands::v1::{
    CloseShellRequest, CloseShellResponse, ListShellsRequest, ListShellsResponse, OpenShellRequest,
    OpenShellResponse, RunInShellRequest, RunInShellResponse,
};

/// The shells of a worker.
pub(super) struct Shells {}

fn unavailable() -> Error {
    Error::new(ErrorKind::Unavailable, "this build keeps no shells")
}

impl Shells {
    pub(super) fn new(_runner: Runner, _settings: Arc<ArcSwap<WorkerSettings>>) -> Self {
        Self {}
    }

    pub(super) async fn open(
        &self,
        _context: &Context,
        _request: OpenShellRequest,
    ) -> Result<OpenShellResponse, Error> {
        std::future::ready(Err(unavailable())).await
    }

    pub(super) async fn run(
        &self,
        _context: &Context,
        _request: RunInShellRequest,
        _replies: Replies<RunInShellResponse>,
    ) -> Result<(), Error> {
        std::future::ready(Err(unavailable())).await
    }

    pub(super) async fn close(
        &self,
        _context: &Context,
        _request: CloseShellRequest,
    ) -> Result<CloseShellResponse, Error> {
        std::future::ready(Err(unavailable())).await
    }

    pub(super) async fn list(
        &self,
        _context: &Context,
        _request: ListShellsRequest,
    ) -> Result<ListShellsResponse, Error> {
        std::future::ready(Err(unavailable())).await
    }

    /// Ends the shells of a session.
    pub(super) async fn session_ended(&self, _session: &SessionScope) {
        std::future::ready(()).await;
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        0
    }
}
