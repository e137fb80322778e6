//! The agent as workers serve it: each operation goes to the part that has it.

use std::sync::Arc;

use super::programs::Programs;
use super::shells::Shells;
use crate::agents::InWorker;
use crate::call::{Context, SessionScope};
use crate::contract::{Agent, Replies};
use crate::error::Error;
use crate::process::Runner;
use crate::proto::opdbus::agent::commands::v1::{
    CloseInputRequest, CloseInputResponse, CloseShellRequest, CloseShellResponse, CommandsService,
    CommandsServiceAgent, ExecRequest, ExecResponse, ExecShellRequest, ExecShellResponse,
    ExecStreamRequest, ExecStreamResponse, InputRequest, InputResponse, ListRequest, ListResponse,
    ListShellsRequest, ListShellsResponse, OpenShellRequest, OpenShellResponse, OutputRequest,
    OutputResponse, ResizeRequest, ResizeResponse, RunInShellRequest, RunInShellResponse,
    SignalRequest, SignalResponse, StartRequest, StartResponse, TagRequest, TagResponse,
    WaitRequest, WaitResponse,
};

/// The part of the agent that runs in workers.
pub(super) struct Commands {
    programs: Programs,
    shells: Shells,
}

/// The agent in a worker, which starts programs by `runner`.
#[must_use]
pub fn at_caller(worker: &InWorker, runner: &Runner) -> Arc<dyn Agent> {
    Arc::new(CommandsServiceAgent(Arc::new(Commands {
        programs: Programs::new(runner.clone(), Arc::clone(&worker.settings)),
        shells: Shells::new(runner.clone(), Arc::clone(&worker.settings)),
    })))
}

impl CommandsService for Commands {
    async fn exec(&self, context: &Context, request: ExecRequest) -> Result<ExecResponse, Error> {
        self.programs.exec(context, request).await
    }

    async fn exec_stream(
        &self,
        context: &Context,
        request: ExecStreamRequest,
        replies: Replies<ExecStreamResponse>,
    ) -> Result<(), Error> {
        self.programs.exec_stream(context, request, replies).await
    }

    async fn start(
        &self,
        context: &Context,
        request: StartRequest,
    ) -> Result<StartResponse, Error> {
        self.programs.start(context, request).await
    }

    async fn output(
        &self,
        context: &Context,
        request: OutputRequest,
    ) -> Result<OutputResponse, Error> {
        self.programs.output(context, request).await
    }

    async fn input(
        &self,
        context: &Context,
        request: InputRequest,
    ) -> Result<InputResponse, Error> {
        self.programs.input(context, request).await
    }

    async fn close_input(
        &self,
        context: &Context,
        request: CloseInputRequest,
    ) -> Result<CloseInputResponse, Error> {
        self.programs.close_input(context, request).await
    }

    async fn signal(
        &self,
        _context: &Context,
        request: SignalRequest,
    ) -> Result<SignalResponse, Error> {
        self.programs.signal(&request)
    }

    async fn resize(
        &self,
        _context: &Context,
        request: ResizeRequest,
    ) -> Result<ResizeResponse, Error> {
        self.programs.resize(&request)
    }

    async fn wait(&self, context: &Context, request: WaitRequest) -> Result<WaitResponse, Error> {
        self.programs.wait(context, request).await
    }

    async fn list(&self, _context: &Context, request: ListRequest) -> Result<ListResponse, Error> {
        self.programs.list(&request)
    }

    async fn tag(&self, _context: &Context, request: TagRequest) -> Result<TagResponse, Error> {
        self.programs.tag(request)
    }

    async fn exec_shell(
        &self,
        context: &Context,
        request: ExecShellRequest,
    ) -> Result<ExecShellResponse, Error> {
        self.programs.exec_shell(context, request).await
    }

    async fn open_shell(
        &self,
        context: &Context,
        request: OpenShellRequest,
    ) -> Result<OpenShellResponse, Error> {
        self.shells.open(context, request).await
    }

    async fn run_in_shell(
        &self,
        context: &Context,
        request: RunInShellRequest,
        replies: Replies<RunInShellResponse>,
    ) -> Result<(), Error> {
        self.shells.run(context, request, replies).await
    }

    async fn close_shell(
        &self,
        context: &Context,
        request: CloseShellRequest,
    ) -> Result<CloseShellResponse, Error> {
        self.shells.close(context, request).await
    }

    async fn list_shells(
        &self,
        context: &Context,
        request: ListShellsRequest,
    ) -> Result<ListShellsResponse, Error> {
        self.shells.list(context, request).await
    }

    async fn session_ended(&self, session: &SessionScope) -> Result<(), Error> {
        tokio::join!(self.programs.session_ended(session), self.shells.session_ended(session));
        Ok(())
    }

    fn going_on(&self) -> usize {
        self.programs.running() + self.shells.count()
    }
}
