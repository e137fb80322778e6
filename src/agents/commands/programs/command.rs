//! One command: what is known of it, what is kept of its output, and who waits for something to happen
//! with it. Who reads its output is `follow`'s.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use uuid::Uuid;

use super::super::record;
use crate::error::Error;
use crate::process::{
    Chunk, Ended, Handle, Input, Keep, Kept, Limits, Running, Stream, WindowSize,
};
use crate::proto::opdbus::agent::commands::v1::{self as proto, CommandState, Mechanism, Printed};

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
    /// True if it is found after its end.
    pub(super) is_kept: bool,
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
    stdout: Kept,
    stderr: Kept,
    end: Option<(proto::Ended, SystemTime)>,
    /// Its call had so much time, for which it was asked to end.
    deadline: Option<Duration>,
    is_kept: bool,
    is_input_open: bool,
}

impl Command {
    /// The command that `running` is.
    pub(super) fn new(number: u64, about: About, running: &Running, input: Option<Input>) -> Self {
        let state = State {
            tag: about.tag,
            stdout: Kept::default(),
            stderr: Kept::default(),
            end: None,
            deadline: None,
            is_kept: about.is_kept,
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
            stdout_bytes: state.stdout.total(),
            stderr_bytes: state.stderr.total(),
            profile: self.profile.to_owned(),
            sandbox: self.sandbox.clone(),
            terminal: self.is_terminal,
            input_open: state.is_input_open,
            session: self.session.as_deref().unwrap_or_default().to_owned(),
        }
    }

    /// What is kept of its output, and of its errors.
    pub(super) fn printed(&self) -> (Printed, Printed) {
        let state = self.state();
        let printed = |kept| record::printed(kept, self.keep_bytes);
        (printed(&state.stdout), printed(&state.stderr))
    }

    /// What `look` sees in what is kept of a stream; with it whether the command has ended.
    pub(super) fn look<T>(&self, stream: Stream, look: impl FnOnce(&Kept, bool) -> T) -> T {
        let state = self.state();
        let kept = match stream {
            Stream::Stdout => &state.stdout,
            Stream::Stderr => &state.stderr,
        };
        look(kept, state.end.is_some())
    }

    /// Adds to what is kept.
    pub(super) fn push(&self, chunk: &Chunk) {
        let mut state = self.state();
        match chunk.stream {
            Stream::Stdout => state.stdout.push(&chunk.bytes, self.keep),
            Stream::Stderr => state.stderr.push(&chunk.bytes, self.keep),
        }
        drop(state);
        self.announce();
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
        state.is_kept
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
        state.is_kept |= state.end.is_none();
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
