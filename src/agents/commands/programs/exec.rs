//! Programs that are run to their end, or for a while, and those that are started.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::super::{record, run};
use super::command::{After, Command};
use super::time::{Times, until};
use super::{Asked, EndUnlessWanted, Programs};
use crate::call::Context;
use crate::contract::Replies;
use crate::error::Error;
use crate::proto::opdbus::agent::commands::v1::{
    ExecRequest, ExecResponse, ExecShellRequest, ExecShellResponse, ExecStreamRequest,
    ExecStreamResponse, StartRequest, StartResponse,
};

/// After what time a call ends although the program does not, if it does not say.
const YIELD: Duration = Duration::from_secs(10);

impl Programs {
    /// Runs a program to its end, or until it is time to answer.
    ///
    /// # Cancel safety
    /// If the future is dropped, the program is ended.
    pub(in crate::agents::commands) async fn exec(
        &self,
        context: &Context,
        request: ExecRequest,
    ) -> Result<ExecResponse, Error> {
        let asked = Asked {
            argv: request.argv,
            directory: request.directory,
            run: request.run.unwrap_or_default(),
            tag: request.tag,
            is_text: false,
            after: After::IfCut,
        };
        self.run(context, asked, request.r#yield).await
    }

    /// Gives a text to a shell and runs that to its end.
    ///
    /// # Cancel safety
    /// As [`Programs::exec`].
    pub(in crate::agents::commands) async fn exec_shell(
        &self,
        context: &Context,
        request: ExecShellRequest,
    ) -> Result<ExecShellResponse, Error> {
        let shell = match request.shell.as_str() {
            "" | "sh" => "/bin/sh",
            "bash" => "bash",
            other => {
                return Err(Error::invalid("shell", format!("{other:?} is neither sh nor bash")));
            }
        };
        if request.script.is_empty() {
            return Err(Error::invalid("script", "is missing"));
        }
        let asked = Asked {
            // A text that begins with a dash is no option.
            argv: vec![shell.to_owned(), "-c".to_owned(), "--".to_owned(), request.script],
            directory: request.directory,
            run: request.run.unwrap_or_default(),
            tag: request.tag,
            is_text: true,
            after: After::IfCut,
        };
        let ExecResponse { command, stdout, stderr, running } =
            self.run(context, asked, request.r#yield).await?;
        Ok(ExecShellResponse { command, stdout, stderr, running })
    }

    /// Starts a program, which goes on as a command.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is done, nothing is left running.
    pub(in crate::agents::commands) async fn start(
        &self,
        context: &Context,
        request: StartRequest,
    ) -> Result<StartResponse, Error> {
        let asked = Asked {
            argv: request.argv,
            directory: request.directory,
            run: request.run.unwrap_or_default(),
            tag: request.tag,
            is_text: false,
            after: After::Always,
        };
        let command = self.begin(context, asked, None).await?;
        Ok(StartResponse { command: Some(command.describe()) })
    }

    /// Runs a program to its end and gives its output as it comes.
    ///
    /// # Cancel safety
    /// If the future is dropped, the program is ended.
    pub(in crate::agents::commands) async fn exec_stream(
        &self,
        context: &Context,
        request: ExecStreamRequest,
        replies: Replies<ExecStreamResponse>,
    ) -> Result<(), Error> {
        let times = Times::of(context);
        let asked = Asked {
            argv: request.argv,
            directory: request.directory,
            run: request.run.unwrap_or_default(),
            tag: String::new(),
            is_text: false,
            after: After::Never,
        };
        let (sink, mut chunks) = mpsc::channel(1);
        let command = self.begin(context, asked, Some(sink)).await?;
        let unless_wanted = EndUnlessWanted(Some(Arc::clone(&command)));
        let state = || ExecStreamResponse { command: Some(command.describe()), chunk: None };
        replies.send(state()).await?;
        let mut stop = times.stop(command.grace());
        loop {
            tokio::select! {
                chunk = chunks.recv() => {
                    let Some(chunk) = chunk else { break };
                    let chunk = Some(record::chunk(chunk));
                    replies.send(ExecStreamResponse { command: None, chunk }).await?;
                }
                () = until(stop) => {
                    command.stop_at_deadline(times.whole());
                    stop = None;
                }
            }
        }
        command.ended().await;
        unless_wanted.let_be();
        replies.send(state()).await
    }

    async fn run(
        &self,
        context: &Context,
        asked: Asked,
        pause: Option<prost_types::Duration>,
    ) -> Result<ExecResponse, Error> {
        let times = Times::of(context);
        let pause = run::time(pause, "yield")?;
        let command = self.begin(context, asked, None).await?;
        let unless_wanted = EndUnlessWanted(Some(Arc::clone(&command)));
        if self.goes_on(&command, &times, pause).await {
            unless_wanted.let_be();
        }
        let (stdout, stderr) = command.printed();
        let state = command.describe();
        Ok(ExecResponse {
            running: state.ended.is_none(),
            command: Some(state),
            stdout: Some(stdout),
            stderr: Some(stderr),
        })
    }

    /// Waits for the end of a command for as long as its call may: `pause`, or to its deadline, shortly
    /// before which the command is asked to end. True if it goes on after that.
    async fn goes_on(&self, command: &Command, times: &Times, pause: Option<Duration>) -> bool {
        let stop = times.stop(command.grace());
        let goes_on = match pause {
            None => times.after(Some(YIELD)),
            Some(pause) => {
                times.after(Some(pause)).filter(|at| stop.is_none_or(|stop| *at <= stop))
            }
        };
        tokio::select! {
            () = command.ended() => return false,
            () = until(goes_on.or(stop)) => {}
        }
        if goes_on.is_none() {
            command.stop_at_deadline(times.whole());
            tokio::select! {
                () = command.ended() => return false,
                () = until(times.answer) => {}
            }
        }
        command.go_on()
    }
}
