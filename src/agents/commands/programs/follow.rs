//! Follows a command from its start to its end, apart from the calls that have to do with it: reads what
//! it prints, feeds it the input that it was given, and lets it be forgotten.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::command::Command;
use super::recorder::Recorder;
use super::table::{Place, Table};
use crate::process::{Chunk, Input, Running};

/// What is to happen when a command ends.
pub(super) struct Ending {
    pub(super) table: Arc<Table>,
    pub(super) place: Place,
    /// How long it is kept.
    pub(super) keep: Duration,
    /// How many are kept.
    pub(super) max_kept: usize,
}

/// Reads all that a command prints, and has the `recorder` write it down. With a `sink` it reads no faster
/// than that is read; if nobody reads it any more, the command is asked to end.
pub(super) async fn follow(
    mut running: Running,
    command: Arc<Command>,
    mut sink: Option<mpsc::Sender<Chunk>>,
    mut recorder: Option<Recorder>,
    ending: Ending,
) {
    let outcome = loop {
        match running.next().await {
            Ok(Some(chunk)) => {
                match &mut recorder {
                    Some(recorder) => recorder.push(&command, &chunk).await,
                    None => command.push(&chunk),
                }
                if let Some(reader) = &sink
                    && reader.send(chunk).await.is_err()
                {
                    command.stop();
                    sink = None;
                }
            }
            Ok(None) => break running.wait().await,
            Err(error) => break Err(error),
        }
    };
    // What cannot be followed must not go on.
    drop(running);
    let Ending { table, place, keep, max_kept } = ending;
    let is_kept = command.end(outcome);
    drop(place);
    match is_kept {
        true => table.trim(max_kept),
        false => table.forget(&command.id),
    }
    command.announce();
    drop(sink);
    *command.input.lock().await = None;
    if is_kept {
        if let Some(recorder) = recorder {
            recorder.finish(&command).await;
        }
        let id = command.id.clone();
        drop(command);
        tokio::time::sleep(keep).await;
        table.forget(&id);
    }
}

/// Writes `bytes` to a command's input, and ends that.
pub(super) async fn feed(command: Arc<Command>, mut input: Input, bytes: Bytes) {
    let written = async {
        input.write_all(&bytes).await?;
        input.close().await
    };
    // A program need not read its input, nor all of it.
    tokio::select! {
        outcome = written => outcome.unwrap_or_default(),
        () = command.ended() => {}
    }
}
