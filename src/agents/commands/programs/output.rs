//! What commands have printed, from an offset on, for who waits for more of it, for a pattern, or for
//! the end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use regex::bytes::{Regex, RegexBuilder};
use tokio::time::Instant;

use super::super::run;
use super::Programs;
use super::command::Command;
use super::time::{Times, until};
use crate::call::Context;
use crate::error::Error;
use crate::process::Stream;
use crate::proto::opdbus::agent::commands::v1::{
    self as proto, OutputRequest, OutputResponse, WaitRequest, WaitResponse, WaitUntil,
};

/// How much is given if nothing is said, and at most.
const BYTES: u32 = 256 << 10;
const BYTES_MAX: u32 = 1 << 20;
/// The longest pattern, and the most memory that it may be compiled to.
const PATTERN_MAX: usize = 4096;
const COMPILED_MAX: usize = 1 << 20;
/// How long a search rests at least before the next, so that many small pieces are searched together.
const SEARCH_AGAIN: Duration = Duration::from_millis(10);

/// What a call waits for.
enum Wanted {
    Output,
    Exit,
    Pattern(Arc<Regex>),
}

/// What a call that waits has found.
enum Found {
    Nothing,
    /// What was waited for.
    It,
    /// A match from here to there.
    Match(u64, u64),
}

impl Programs {
    /// Gives what a command has printed, if need be after a wait.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub(in crate::agents::commands) async fn output(
        &self,
        context: &Context,
        request: OutputRequest,
    ) -> Result<OutputResponse, Error> {
        let times = Times::of(context);
        let command = self.find(&request.id)?;
        let stream = match request.stream() {
            proto::Stream::Unspecified | proto::Stream::Stdout => Stream::Stdout,
            proto::Stream::Stderr => Stream::Stderr,
        };
        let max = match request.max_bytes {
            0 => BYTES,
            asked if asked > BYTES_MAX => {
                return Err(Error::invalid("max_bytes", format!("is more than {BYTES_MAX}")));
            }
            asked => asked,
        };
        let from = request.from_offset;
        let total = command.look(stream, |printed, _| printed.kept.total());
        if from > total {
            let problem = format!("the command has printed only {total} bytes to this stream");
            return Err(Error::invalid("from_offset", problem));
        }
        let wanted = wanted(&request)?;
        let wait = run::time(request.wait, "wait")?.unwrap_or_default();
        let found = wait_for(&command, stream, from, &wanted, times.after(Some(wait))).await?;
        let Read { offset, data, is_last } = read(&command, stream, from, max as usize).await?;
        let (match_offset, match_end) = match found {
            Found::Match(begin, end) => (begin, end),
            Found::It | Found::Nothing => (0, 0),
        };
        Ok(OutputResponse {
            offset,
            next_offset: offset + data.len() as u64,
            data,
            at_end: is_last,
            matched: matches!(found, Found::Match(..)),
            match_offset,
            match_end,
            timed_out: matches!(found, Found::Nothing) && !wait.is_zero(),
            command: Some(command.describe()),
        })
    }

    /// Waits until a command has ended.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub(in crate::agents::commands) async fn wait(
        &self,
        context: &Context,
        request: WaitRequest,
    ) -> Result<WaitResponse, Error> {
        let times = Times::of(context);
        let command = self.find(&request.id)?;
        let wait = run::time(request.wait, "wait")?;
        tokio::select! {
            () = command.ended() => {}
            () = until(times.after(wait)) => {}
        }
        let (stdout, stderr) = command.printed();
        let state = command.describe();
        Ok(WaitResponse {
            running: state.ended.is_none(),
            command: Some(state),
            stdout: Some(stdout),
            stderr: Some(stderr),
        })
    }
}

/// A piece of what a command has printed.
struct Read {
    offset: u64,
    data: Bytes,
    /// True if there is nothing after it, and never will be.
    is_last: bool,
}

/// Reads from `from` on at most `max` bytes, from memory if it has them, else from the file; from where
/// there is something again, if neither has them.
async fn read(command: &Command, stream: Stream, from: u64, max: usize) -> Result<Read, Error> {
    let (offset, data, artifact, end) = command.look(stream, |printed, has_ended| {
        let artifact = printed
            .artifact
            .clone()
            .filter(|artifact| !printed.kept.has_all_from(from) && artifact.len() > from);
        // What is in the file need not be copied from memory.
        let max = if artifact.is_some() { 0 } else { max };
        let (offset, data) = printed.kept.since(from, max);
        (offset, Bytes::from(data), artifact, has_ended.then(|| printed.kept.total()))
    });
    let (offset, data) = match artifact {
        Some(artifact) => (from, artifact.read(from, max).await?),
        None => (offset, data),
    };
    let is_last = end == Some(offset + data.len() as u64);
    Ok(Read { offset, data, is_last })
}

fn wanted(request: &OutputRequest) -> Result<Wanted, Error> {
    let until = request.until();
    if until != WaitUntil::Pattern && !request.pattern.is_empty() {
        return Err(Error::invalid("pattern", "has no meaning unless `until` is the pattern"));
    }
    match until {
        WaitUntil::Unspecified | WaitUntil::Output => Ok(Wanted::Output),
        WaitUntil::Exit => Ok(Wanted::Exit),
        WaitUntil::Pattern if request.pattern.is_empty() => {
            Err(Error::invalid("pattern", "is missing"))
        }
        WaitUntil::Pattern if request.pattern.len() > PATTERN_MAX => {
            Err(Error::invalid("pattern", format!("has more than {PATTERN_MAX} bytes")))
        }
        WaitUntil::Pattern => {
            let mut builder = RegexBuilder::new(&request.pattern);
            let pattern = builder.size_limit(COMPILED_MAX).dfa_size_limit(COMPILED_MAX).build();
            let pattern = pattern.map_err(|error| Error::invalid("pattern", error))?;
            Ok(Wanted::Pattern(Arc::new(pattern)))
        }
    }
}

async fn wait_for(
    command: &Command,
    stream: Stream,
    from: u64,
    wanted: &Wanted,
    end: Option<Instant>,
) -> Result<Found, Error> {
    let mut changes = command.changes();
    loop {
        // Before the search, so that what comes while it is on is searched again.
        changes.mark_unchanged();
        let has_ended = command.has_ended();
        let begun = Instant::now();
        let found = match wanted {
            Wanted::Output if command.look(stream, |printed, _| printed.kept.total() > from) => {
                Found::It
            }
            Wanted::Output | Wanted::Exit => Found::Nothing,
            Wanted::Pattern(pattern) => search(command, stream, from, pattern).await?,
        };
        match found {
            Found::Nothing if has_ended => return Ok(Found::It),
            Found::Nothing => {}
            Found::It | Found::Match(..) => return Ok(found),
        }
        let rest = match wanted {
            Wanted::Pattern(_) => begun.elapsed().max(SEARCH_AGAIN),
            Wanted::Output | Wanted::Exit => Duration::ZERO,
        };
        let again = async {
            tokio::time::sleep(rest).await;
            changes.changed().await
        };
        tokio::select! {
            // Before the end of the time: what is there is looked at once more.
            biased;
            changed = again => if changed.is_err() { return Ok(Found::Nothing) },
            () = until(end) => return Ok(Found::Nothing),
        }
    }
}

/// Searches what memory keeps since `from`, apart from the thread of all calls.
async fn search(
    command: &Command,
    stream: Stream,
    from: u64,
    pattern: &Arc<Regex>,
) -> Result<Found, Error> {
    let (begin, text) = command.look(stream, |printed, _| printed.kept.since(from, usize::MAX));
    let pattern = Arc::clone(pattern);
    let found = tokio::task::spawn_blocking(move || {
        pattern.find(&text).map(|found| (begin + found.start() as u64, begin + found.end() as u64))
    });
    let found = found.await.map_err(|_| Error::internal("the search broke off"))?;
    Ok(found.map_or(Found::Nothing, |(begin, end)| Found::Match(begin, end)))
}
