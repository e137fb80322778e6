//! The programs that a worker runs.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::agents::WorkerSettings;
use crate::call::{Context, SessionScope};
use crate::contract::Replies;
use crate::error::{Error, ErrorKind};
use crate::process::Runner;
use crate::proto::opdbus::agent::commands::v1::*;

pub(super) struct Programs {}
fn unavailable() -> Error {
    Error::new(ErrorKind::Unavailable, "not yet")
}
impl Programs {
    pub(super) fn new(_runner: Runner, _settings: Arc<ArcSwap<WorkerSettings>>) -> Self {
        Self {}
    }
    pub(super) async fn exec(
        &self,
        _context: &Context,
        _request: ExecRequest,
    ) -> Result<ExecResponse, Error> {
        std::future::ready(Err(unavailable())).await
    }
    pub(super) async fn start(
        &self,
        _context: &Context,
        _request: StartRequest,
    ) -> Result<StartResponse, Error> {
        std::future::ready(Err(unavailable())).await
    }
    pub(super) async fn output(
        &self,
        _context: &Context,
        _request: OutputRequest,
    ) -> Result<OutputResponse, Error> {
        std::future::ready(Err(unavailable())).await
    }
    pub(super) async fn input(
        &self,
        _context: &Context,
        _request: InputRequest,
    ) -> Result<InputResponse, Error> {
        std::future::ready(Err(unavailable())).await
    }
    pub(super) async fn close_input(
        &self,
        _context: &Context,
        _request: CloseInputRequest,
    ) -> Result<CloseInputResponse, Error> {
        std::future::ready(Err(unavailable())).await
    }
    pub(super) async fn wait(
        &self,
        _context: &Context,
        _request: WaitRequest,
    ) -> Result<WaitResponse, Error> {
        std::future::ready(Err(unavailable())).await
    }
    pub(super) async fn exec_shell(
        &self,
        _context: &Context,
        _request: ExecShellRequest,
    ) -> Result<ExecShellResponse, Error> {
        std::future::ready(Err(unavailable())).await
    }
    pub(super) async fn exec_stream(
        &self,
        _context: &Context,
        _request: ExecStreamRequest,
        _replies: Replies<ExecStreamResponse>,
    ) -> Result<(), Error> {
        std::future::ready(Err(unavailable())).await
    }
    pub(super) fn signal(&self, _request: &SignalRequest) -> Result<SignalResponse, Error> {
        Err(unavailable())
    }
    pub(super) fn resize(&self, _request: &ResizeRequest) -> Result<ResizeResponse, Error> {
        Err(unavailable())
    }
    pub(super) fn list(&self, _request: &ListRequest) -> Result<ListResponse, Error> {
        Err(unavailable())
    }
    pub(super) fn tag(&self, _request: TagRequest) -> Result<TagResponse, Error> {
        Err(unavailable())
    }
    pub(super) async fn session_ended(&self, _session: &SessionScope) {
        std::future::ready(()).await;
    }
    pub(super) fn running(&self) -> usize {
        0
    }
}
