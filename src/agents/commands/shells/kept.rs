//! A shell that runs: gives it texts, reads what it prints and says, and interrupts it. Whose shell it is
//! and when it may be used is not known here.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::fs::MemfdFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::mpsc::{Permit, Sender};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::kind::Kind;
use super::marker::{Marker, Markers, Token};
use crate::error::{Error, ErrorKind};
use crate::process::{
    Chunk, Ended, Exit, Input, Keep, Kept as KeptOutput, Runner, Running, Spec, Stdio,
};

/// How often a shell that has read all its orders, but does not say that the text has ended, is asked: an
/// interrupt makes it forget what it has read.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How long a shell may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// How long a shell whose descriptor 3 is closed may take to end.
const MUTE_FOR: Duration = Duration::from_secs(5);

/// A shell that runs. Dropping it ends it, with all that was started in it.
pub(super) struct Kept {
    kind: Kind,
    pub(super) running: Running,
    /// Until the shell is to end.
    input: Option<Input>,
    markers: Markers,
    /// What the shell sources.
    source: File,
    /// How long a text has after an interrupt.
    grace: Duration,
}

/// What happens to a text.
pub(super) enum Came {
    /// It has ended.
    Marked(Marker),
    /// The shell has ended.
    Ended(Result<Ended, Error>),
    /// Its time is over.
    TimeOver,
    /// Nobody takes the output any more.
    Left,
    /// The shell cannot say any more when it has ended.
    Mute,
}

/// Our ends of what a shell gets besides its streams.
struct Ends {
    markers: Markers,
    source: File,
}

impl Kept {
    /// Starts a shell and waits until it is ready; says where it is.
    ///
    /// # Errors
    /// The runner's; `BackendFailed` if the shell does not get ready.
    ///
    /// # Cancel safety
    /// If the future is dropped, nothing is left running.
    pub(super) async fn start(
        runner: &Runner,
        kind: Kind,
        mut spec: Spec,
    ) -> Result<(Self, String), Error> {
        let ours = kind.environment();
        spec.environment.retain(|(name, _)| !ours.iter().any(|(own, _)| own == name));
        spec.environment.extend(ours);
        spec.stdio = Stdio::Piped;
        let (ends, descriptors) = ends().map_err(|error| broken("is not to be had", &error))?;
        spec.descriptors = descriptors.into();
        let grace = spec.limits.grace;
        let mut running = runner.start(spec).await?;
        let input = running.take_input().ok_or_else(|| Error::internal("a shell has no input"))?;
        let Ends { markers, source } = ends;
        let mut kept = Self { kind, running, input: Some(input), markers, source, grace };
        let directory = kept.get_ready().await?;
        Ok((kept, directory))
    }

    /// Runs the first text. What the shell prints before its end is no text's output.
    async fn get_ready(&mut self) -> Result<String, Error> {
        let (chunks, mut printed) = tokio::sync::mpsc::channel(16);
        let token = self.begin(self.kind.first_text()).await?;
        let collect = async {
            let mut kept = KeptOutput::default();
            let keep = Keep { head_bytes: 2048, tail_bytes: 0 };
            while let Some(Chunk { bytes, .. }) = printed.recv().await {
                kept.push(&bytes, keep);
            }
            kept.text()
        };
        let follow = async {
            let until = Some(Instant::now() + READY_WITHIN);
            let came = self.follow(&token, until, Some(&chunks)).await?;
            drop(chunks);
            Ok::<_, Error>(came)
        };
        let (came, printed) = tokio::join!(follow, collect);
        let problem = match came? {
            Came::Marked(Marker { directory, .. }) => {
                self.pass_on(None).await?;
                return Ok(directory);
            }
            Came::Ended(_) => "ended before it was ready",
            Came::TimeOver => "did not get ready in time",
            Came::Left | Came::Mute => "cannot say when it is ready",
        };
        let text = format!("the shell {problem}: {}", printed.trim());
        Err(Error::new(ErrorKind::BackendFailed, text))
    }

    /// Lets the shell begin with a text.
    pub(super) async fn begin(&mut self, text: &str) -> Result<Token, Error> {
        let source = self.kind.source(text);
        let put = || {
            self.source.set_len(0)?;
            self.source.write_all_at(source.as_bytes(), 0)
        };
        put().map_err(|error| broken("cannot be given a text", &error))?;
        let token = Token::fresh();
        self.order(&self.kind.order(&token)).await?;
        Ok(token)
    }

    /// Passes on what the shell prints, as fast as it is taken, until something has come of the text; to
    /// nobody, it is thrown away.
    ///
    /// # Errors
    /// The runner's if the output cannot be read.
    ///
    /// # Cancel safety
    /// It can be called again.
    pub(super) async fn follow(
        &mut self,
        token: &Token,
        until: Option<Instant>,
        to: Option<&Sender<Chunk>>,
    ) -> Result<Came, Error> {
        let mut ask = interval(ASK_EVERY);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ask.reset();
        let mut place = None;
        let mut is_open = true;
        let mut mute = None;
        loop {
            // No place, no reading: a shell that prints faster than its reader takes it waits.
            let may_read = place.is_some() || to.is_none();
            tokio::select! {
                marker = self.markers.find(token), if mute.is_none() => match marker {
                    Ok(Some(marker)) => return Ok(Came::Marked(marker)),
                    // It is ending, as a rule.
                    Ok(None) | Err(_) => mute = Some(Instant::now() + MUTE_FOR),
                },
                () = at(mute) => return Ok(Came::Mute),
                reserved = reserve(to), if !may_read => match reserved {
                    Some(reserved) => place = Some(reserved),
                    None => return Ok(Came::Left),
                },
                printed = next(&mut self.running, is_open), if may_read => match printed? {
                    Printed::Chunk(chunk) => if let Some(place) = place.take() {
                        place.send(chunk);
                    },
                    Printed::Nothing => is_open = false,
                    Printed::Ended(ended) => return Ok(Came::Ended(ended)),
                },
                () = closed(to) => return Ok(Came::Left),
                () = at(until) => return Ok(Came::TimeOver),
                _ = ask.tick() => self.ask(token).await,
            }
        }
    }

    /// Asks the shell to say what came of the text, once it has read what it was asked before.
    async fn ask(&mut self, token: &Token) {
        let unread = self.input.as_ref().map(Input::unread);
        if let Some(Ok(0)) = unread {
            // If it does not take it, it has ended, which is seen elsewhere.
            self.order(&self.kind.report(token)).await.ok();
        }
    }

    async fn order(&mut self, order: &str) -> Result<(), Error> {
        match &mut self.input {
            Some(input) => input.write_all(order.as_bytes()).await,
            None => Err(Error::new(ErrorKind::Conflict, "the shell is ending")),
        }
    }

    /// Interrupts what runs in the shell, and gives it its grace; kills the shell if that is not heeded.
    ///
    /// # Errors
    /// As [`Kept::follow`].
    pub(super) async fn interrupt(
        &mut self,
        token: &Token,
        to: Option<&Sender<Chunk>>,
    ) -> Result<Came, Error> {
        // If it has ended, there is nothing to interrupt.
        self.running.handle().signal(Signal::SIGINT as i32).ok();
        let until = Instant::now() + self.grace;
        match self.follow_to_end(token, until, to).await? {
            Came::Marked(marker) => self.settle(marker, to).await,
            came @ Came::Ended(_) => Ok(came),
            Came::TimeOver | Came::Left | Came::Mute => self.kill(to).await.map(Came::Ended),
        }
    }

    /// As [`Kept::follow`], and goes on if nobody takes the output any more.
    async fn follow_to_end(
        &mut self,
        token: &Token,
        until: Instant,
        to: Option<&Sender<Chunk>>,
    ) -> Result<Came, Error> {
        match self.follow(token, Some(until), to).await? {
            Came::Left => self.follow(token, Some(until), None).await,
            came @ (Came::Marked(_) | Came::Ended(_) | Came::TimeOver | Came::Mute) => Ok(came),
        }
    }

    /// Makes sure that an interrupt is not still on its way to a text that has ended by itself: it would
    /// hit the next one.
    async fn settle(&mut self, marker: Marker, to: Option<&Sender<Chunk>>) -> Result<Came, Error> {
        sleep(ASK_EVERY).await;
        let token = Token::fresh();
        let until = Instant::now() + self.grace.max(MUTE_FOR);
        match self.follow_to_end(&token, until, to).await? {
            Came::Marked(_) => Ok(Came::Marked(marker)),
            came @ Came::Ended(_) => Ok(came),
            Came::TimeOver | Came::Left | Came::Mute => self.kill(to).await.map(Came::Ended),
        }
    }

    /// Kills the shell and all that was started in it, and says how it ended.
    ///
    /// # Errors
    /// As [`Kept::follow`].
    pub(super) async fn kill(
        &mut self,
        mut to: Option<&Sender<Chunk>>,
    ) -> Result<Result<Ended, Error>, Error> {
        let handle = self.running.handle();
        handle.signal(Signal::SIGKILL as i32).ok();
        handle.stop().ok();
        while let Some(chunk) = self.running.next().await? {
            pass(&mut to, chunk).await;
        }
        // It may be gone before it hears the second order, and has ended by the first all the same.
        let is_killed = |ended: &Ended| ended.exit == Exit::Signal(Signal::SIGKILL as i32);
        let ended = self.running.wait().await;
        Ok(ended.map(|ended| Ended { stopped: ended.stopped || is_killed(&ended), ..ended }))
    }

    /// Ends a shell in which nothing runs.
    ///
    /// # Errors
    /// The runner's, if nobody knows how it ended.
    pub(super) async fn end(&mut self) -> Result<Ended, Error> {
        // It ends with its orders, and all that was started in it with it.
        self.input = None;
        let end = async {
            while self.running.next().await?.is_some() {}
            self.running.wait().await
        };
        let ended = match timeout(self.grace, end).await {
            Ok(ended) => ended?,
            Err(_) => self.kill(None).await??,
        };
        // It was asked to, if by other means than the runner's.
        Ok(Ended { stopped: true, ..ended })
    }

    /// Passes on what was printed until now.
    ///
    /// # Errors
    /// As [`Kept::follow`].
    pub(super) async fn pass_on(&mut self, mut to: Option<&Sender<Chunk>>) -> Result<(), Error> {
        let mark = self.running.mark()?;
        while let Some(chunk) = self.running.next_before(mark)? {
            pass(&mut to, chunk).await;
        }
        Ok(())
    }
}

/// What a program prints, or that there is nothing more of that, and then how it ends.
enum Printed {
    Chunk(Chunk),
    Nothing,
    Ended(Result<Ended, Error>),
}

async fn next(running: &mut Running, is_open: bool) -> Result<Printed, Error> {
    if !is_open {
        return Ok(Printed::Ended(running.wait().await));
    }
    Ok(running.next().await?.map_or(Printed::Nothing, Printed::Chunk))
}

/// A place for a chunk, or `None` if nobody takes any more.
async fn reserve(to: Option<&Sender<Chunk>>) -> Option<Permit<'_, Chunk>> {
    match to {
        Some(to) => to.reserve().await.ok(),
        None => std::future::pending().await,
    }
}

async fn closed(to: Option<&Sender<Chunk>>) {
    match to {
        Some(to) => to.closed().await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Passes a chunk on, and notices if nobody takes any more.
async fn pass(to: &mut Option<&Sender<Chunk>>, chunk: Chunk) {
    if let Some(open) = to
        && open.send(chunk).await.is_err()
    {
        *to = None;
    }
}

/// Makes what a shell gets as its descriptors 3 and 4, and our ends of them.
fn ends() -> io::Result<(Ends, [OwnedFd; 2])> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    let file = File::from(rustix::fs::memfd_create("op-dbus-text", MemfdFlags::CLOEXEC)?);
    // The shell may read it and not write.
    let theirs = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok((Ends { markers: Markers::new(reader)?, source: file }, [writer, theirs.into()]))
}

fn broken(what: &str, error: &io::Error) -> Error {
    Error::new(ErrorKind::BackendUnavailable, format!("the shell {what}: {error}"))
}
