//! One command: what is known of it, what is kept of its output, and who waits for something to happen
//! with it. Who reads its output is `follow`'s.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use uuid::Uuid;

use super::super::record;
use crate::error::Error;
use crate::process::{
    Artifact, Chunk, Ended, Handle, Input, Keep, Kept, Limits, Running, Stream, WindowSize,
};
use crate::proto::opdbus::agent::commands::v1::{self as proto, CommandState, Mechanism};

/// What its caller says about a command.
pub(super) struct About {
    pub(super) argv: Vec<String>,
    pub(super) directory: String,
    pub(super) profile: &'static str,
    pub(super) session: Option<Arc<str>>,
    pub(super) is_terminal: bool,
    /// How much of each end of a stream is shown.
    pub(super) keep_bytes: usize,
    /// How much is kept.
    pub(super) keep: Keep,
    pub(super) limits: Limits,
    pub(super) tag: String,
    pub(super) after: After,
}

/// When a command is found by its id after its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Always,
    /// If its answer does not hold all that it has printed.
    IfCut,
    Never,
}

/// A command.
pub(super) struct Command {
    pub(super) id: Box<str>,
    /// Its place among all commands.
    pub(super) number: u64,
    pub(super) session: Option<Arc<str>>,
    argv: Vec<String>,
    program: String,
    directory: String,
    profile: &'static str,
    sandbox: Vec<Mechanism>,
    pid: u32,
    is_terminal: bool,
    started_at: SystemTime,
    limits: Limits,
    keep_bytes: usize,
    keep: Keep,
    handle: Handle,
    /// Who writes waits for who wrote before.
    pub(super) input: tokio::sync::Mutex<Option<Input>>,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

struct State {
    tag: String,
    stdout: Printed,
    stderr: Printed,
    end: Option<(proto::Ended, SystemTime)>,
    /// Its call had so much time, for which it was asked to end.
    deadline: Option<Duration>,
    after: After,
    is_input_open: bool,
}

/// What is kept of a stream.
#[derive(Default)]
pub(super) struct Printed {
    /// In memory.
    pub(super) kept: Kept,
    /// All from its beginning, unless memory has that.
    pub(super) artifact: Option<Artifact>,
    /// Why not all of it is in one of the two, if so.
    pub(super) problem: String,
}

impl Command {
    /// The command that `running` is.
    pub(super) fn new(number: u64, about: About, running: &Running, input: Option<Input>) -> Self {
        let state = State {
            tag: about.tag,
            stdout: Printed::default(),
            stderr: Printed::default(),
            end: None,
            deadline: None,
            after: about.after,
            is_input_open: input.is_some(),
        };
        Self {
            id: Uuid::now_v7().simple().to_string().into(),
            number,
            session: about.session,
            argv: about.argv,
            program: running.program().display().to_string(),
            directory: about.directory,
            profile: about.profile,
            sandbox: record::sandbox(running.report()),
            pid: running.pid().unsigned_abs(),
            is_terminal: about.is_terminal,
            started_at: SystemTime::now(),
            limits: about.limits,
            keep_bytes: about.keep_bytes,
            keep: about.keep,
            handle: running.handle(),
            input: tokio::sync::Mutex::new(input),
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
        }
    }

    /// The command as it is now.
    pub(super) fn describe(&self) -> proto::Command {
        let state = self.state();
        let command_state = match state.end {
            None => CommandState::Running,
            Some(_) => CommandState::Ended,
        };
        proto::Command {
            id: self.id.to_string(),
            argv: self.argv.clone(),
            program: self.program.clone(),
            directory: self.directory.clone(),
            tag: state.tag.clone(),
            state: command_state.into(),
            pid: self.pid,
            started_at: Some(self.started_at.into()),
            ended_at: state.end.as_ref().map(|(_, at)| (*at).into()),
            ended: state.end.as_ref().map(|(ended, _)| ended.clone()),
            stdout_bytes: state.stdout.kept.total(),
            stderr_bytes: state.stderr.kept.total(),
            profile: self.profile.to_owned(),
            sandbox: self.sandbox.clone(),
            terminal: self.is_terminal,
            input_open: state.is_input_open,
            session: self.session.as_deref().unwrap_or_default().to_owned(),
        }
    }

    /// What is kept of its output, and of its errors.
    pub(super) fn printed(&self) -> (proto::Printed, proto::Printed) {
        let state = self.state();
        let printed = |Printed { kept, artifact, problem }: &Printed| {
            let recorded = artifact.as_ref().map_or(0, Artifact::len);
            record::printed(kept, self.keep_bytes, recorded, problem)
        };
        (printed(&state.stdout), printed(&state.stderr))
    }

    /// What `look` sees in what is kept of a stream; with it whether the command has ended.
    pub(super) fn look<T>(&self, stream: Stream, look: impl FnOnce(&Printed, bool) -> T) -> T {
        let mut state = self.state();
        let has_ended = state.end.is_some();
        look(state.printed(stream), has_ended)
    }

    /// True if memory keeps all of the stream with this piece as well.
    pub(super) fn fits(&self, chunk: &Chunk) -> bool {
        let most = self.keep.head_bytes + self.keep.tail_bytes;
        chunk.offset + chunk.bytes.len() as u64 <= most as u64
    }

    /// Adds to what is kept in memory.
    pub(super) fn push(&self, chunk: &Chunk) {
        self.state().printed(chunk.stream).kept.push(&chunk.bytes, self.keep);
        self.announce();
    }

    /// Notes where all of a stream is.
    pub(super) fn is_recorded(&self, stream: Stream, artifact: Artifact) {
        self.state().printed(stream).artifact = Some(artifact);
    }

    /// Notes why no more of a stream than there is comes there.
    pub(super) fn is_not_recorded(&self, stream: Stream, problem: String) {
        self.state().printed(stream).problem = problem;
    }

    /// Notes the end, of which nobody hears before [`Command::announce`]. True if the command is to be
    /// found after it.
    pub(super) fn end(&self, outcome: Result<Ended, Error>) -> bool {
        let mut state = self.state();
        let mut ended = match outcome {
            Ok(ended) => record::ended(&ended, &self.limits),
            Err(error) => proto::Ended {
                problem: error.message().to_owned(),
                wall: self.started_at.elapsed().unwrap_or_default().try_into().ok(),
                ..proto::Ended::default()
            },
        };
        if let Some(time) = state.deadline.filter(|_| ended.stopped && ended.limit.is_empty()) {
            ended.stopped = false;
            ended.limit = "deadline".to_owned();
            ended.limit_value = format!("{time:?}");
        }
        state.end = Some((ended, SystemTime::now()));
        state.is_input_open = false;
        let is_cut = |printed: &Printed| record::is_cut(&printed.kept, self.keep_bytes);
        match state.after {
            After::Always => true,
            After::IfCut => is_cut(&state.stdout) || is_cut(&state.stderr),
            After::Never => false,
        }
    }

    /// Wakes who waits for something to happen.
    pub(super) fn announce(&self) {
        self.changed.send_replace(());
    }

    /// Who hears when something happens from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Waits until it and all that it started has ended, and that was announced.
    pub(super) async fn ended(&self) {
        let mut changes = self.changes();
        while !self.has_ended() && changes.changed().await.is_ok() {}
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state().end.is_some()
    }

    pub(super) fn ended_at(&self) -> Option<SystemTime> {
        self.state().end.as_ref().map(|(_, at)| *at)
    }

    /// Lets it go on apart from its call. False if it has ended.
    pub(super) fn go_on(&self) -> bool {
        let mut state = self.state();
        if state.end.is_none() {
            state.after = After::Always;
        }
        state.end.is_none()
    }

    /// Asks it to end; it is killed when its grace is over.
    pub(super) fn stop(&self) {
        // Who has ended need not be asked.
        self.handle.stop().ok();
    }

    /// The same because its call had only so much time.
    pub(super) fn stop_at_deadline(&self, time: Duration) {
        self.state().deadline = Some(time);
        self.stop();
    }

    /// How long it has between being asked to end and being killed.
    pub(super) fn grace(&self) -> Duration {
        self.limits.grace
    }

    /// Asks it to end because somebody wants that.
    ///
    /// # Errors
    /// `Conflict` if it has ended.
    pub(super) fn ask_to_end(&self) -> Result<(), Error> {
        self.handle.stop()
    }

    /// Sends a signal to its process group.
    ///
    /// # Errors
    /// `Conflict` if it has ended.
    pub(super) fn signal(&self, number: i32) -> Result<(), Error> {
        self.handle.signal(number)
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// `Conflict` if it has none, or has ended.
    pub(super) fn resize(&self, size: WindowSize) -> Result<(), Error> {
        self.handle.resize(size)
    }

    pub(super) fn tag(&self) -> String {
        self.state().tag.clone()
    }

    pub(super) fn set_tag(&self, tag: String) {
        self.state().tag = tag;
    }

    /// Notes that nothing can be written to its input any more.
    pub(super) fn input_is_closed(&self) {
        self.state().is_input_open = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change leaves a state that is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn printed(&mut self, stream: Stream) -> &mut Printed {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}
