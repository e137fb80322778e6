//! What is done to a command that runs: its input, signals, and the size of its terminal.

use std::str::FromStr as _;

use nix::sys::signal::Signal;
use tokio::sync::MutexGuard;

use super::super::run;
use super::Programs;
use super::command::Command;
use super::time::{Times, until};
use crate::call::Context;
use crate::error::{Error, ErrorKind};
use crate::process::Input;
use crate::proto::opdbus::agent::commands::v1::{
    CloseInputRequest, CloseInputResponse, InputRequest, InputResponse, ResizeRequest,
    ResizeResponse, SignalRequest, SignalResponse,
};

impl Programs {
    /// Writes to a command's input, as much as it takes before the call must answer.
    ///
    /// # Cancel safety
    /// If the future is dropped, some of the bytes were written.
    pub(in crate::agents::commands) async fn input(
        &self,
        context: &Context,
        request: InputRequest,
    ) -> Result<InputResponse, Error> {
        let times = Times::of(context);
        let command = self.find(&request.id)?;
        let mut written = 0;
        let write = async {
            let mut held = open_input(&command).await?;
            while written < request.data.len() {
                let input = held.as_mut().ok_or_else(|| closed(&command))?;
                match input.write(&request.data[written..]).await {
                    Ok(count) => written += count,
                    Err(error) => {
                        *held = None;
                        command.input_is_closed();
                        return if written == 0 { Err(error) } else { Ok(()) };
                    }
                }
            }
            match request.close {
                true => close(&command, &mut held).await,
                false => Ok(()),
            }
        };
        tokio::select! {
            outcome = write => outcome?,
            () = until(times.answer) => {}
        }
        Ok(InputResponse { written_bytes: written as u64 })
    }

    /// Ends a command's input.
    ///
    /// # Cancel safety
    /// The input is open or closed.
    pub(in crate::agents::commands) async fn close_input(
        &self,
        _context: &Context,
        request: CloseInputRequest,
    ) -> Result<CloseInputResponse, Error> {
        let command = self.find(&request.id)?;
        let mut held = command.input.lock().await;
        // To end it twice is to have ended it.
        if held.is_some() {
            close(&command, &mut held).await?;
        }
        Ok(CloseInputResponse {})
    }

    /// Sends a signal to a command's process group, or ends its tree.
    ///
    /// # Errors
    /// `InvalidArgument` if there is no such signal, `Conflict` if the command has ended.
    pub(in crate::agents::commands) fn signal(
        &self,
        request: &SignalRequest,
    ) -> Result<SignalResponse, Error> {
        let command = self.find(&request.id)?;
        match request.signal.as_str() {
            "" => command.ask_to_end()?,
            name => {
                let name = name.strip_prefix("SIG").unwrap_or(name);
                let signal = Signal::from_str(&format!("SIG{name}")).map_err(|_| {
                    Error::invalid("signal", format!("{name:?} is no signal, as INT or HUP"))
                })?;
                command.signal(signal as i32)?;
            }
        }
        Ok(SignalResponse {})
    }

    /// Sets the size of a command's terminal.
    ///
    /// # Errors
    /// `Conflict` if it has none.
    pub(in crate::agents::commands) fn resize(
        &self,
        request: &ResizeRequest,
    ) -> Result<ResizeResponse, Error> {
        let command = self.find(&request.id)?;
        let size = request.size.ok_or_else(|| Error::invalid("size", "is missing"))?;
        if size.rows == 0 || size.columns == 0 {
            return Err(Error::invalid("size", "has at least one row and one column"));
        }
        command.resize(run::window(size, "size")?)?;
        Ok(ResizeResponse {})
    }
}

/// The input of a command when nobody else writes to it.
async fn open_input(command: &Command) -> Result<MutexGuard<'_, Option<Input>>, Error> {
    let held = command.input.lock().await;
    if held.is_none() { Err(closed(command)) } else { Ok(held) }
}

fn closed(command: &Command) -> Error {
    let text = match command.has_ended() {
        true => "the command has ended",
        false => {
            "the command has no input that could be written to: none was asked for, or it is closed"
        }
    };
    Error::new(ErrorKind::Conflict, text)
}

async fn close(command: &Command, held: &mut Option<Input>) -> Result<(), Error> {
    command.input_is_closed();
    match held.take() {
        Some(input) => input.close().await,
        None => Ok(()),
    }
}
