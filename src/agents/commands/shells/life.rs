//! The life of a shell that is open: a task that gives it one text after the other, and ends it when it
//! is closed, when nobody uses it any more, or with the worker.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::kept::{Came, Kept};
use super::marker::Marker;
use super::table::{Entry, Place, gone};
use crate::agents::commands::record;
use crate::error::Error;
use crate::process::{Chunk, Ended, Exit};
use crate::proto::opdbus::agent::commands::v1::ShellRun;

/// What a shell is to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Run a text. The shell is claimed for it.
    Run(Text),
    /// End, and say how.
    Close(oneshot::Sender<Result<Ended, Error>>),
}

/// A text to run.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) script: String,
    /// When its time is over.
    pub(super) until: Option<Instant>,
    /// Who takes the output. If he does not any more, the text is interrupted.
    pub(super) to: mpsc::Sender<Chunk>,
    /// What came of it.
    pub(super) done: oneshot::Sender<Result<ShellRun, Error>>,
}

/// A shell that is open.
pub(super) struct Life {
    pub(super) kept: Kept,
    pub(super) entry: Arc<Entry>,
    pub(super) place: Place,
    pub(super) orders: mpsc::Receiver<Order>,
    /// After what time without a text it is ended.
    pub(super) idle: Duration,
}

/// What came of a text.
struct Ran {
    code: i32,
    directory: String,
    timed_out: bool,
    /// How the shell ended, if it did.
    ended: Option<Result<Ended, Error>>,
}

/// Who wants to know how the shell ended.
type Closers = Vec<oneshot::Sender<Result<Ended, Error>>>;

impl Life {
    /// Lives to the end of the shell.
    pub(super) async fn live(mut self) {
        let mut closers = Closers::new();
        let mut last = None;
        let ended = loop {
            let order = tokio::select! {
                order = self.orders.recv() => order,
                ended = self.kept.running.wait() => break ended,
                () = sleep(self.idle) => None,
            };
            let text = match order {
                Some(Order::Run(text)) => text,
                Some(Order::Close(tell)) => {
                    closers.push(tell);
                    break self.kept.end().await;
                }
                None => break self.kept.end().await,
            };
            let started = Instant::now();
            let ran = self.run(&text, &mut closers).await;
            let ran = match ran {
                Ok(ran) => ran,
                Err(error) => {
                    tracing::warn!(%error, shell = self.entry.id, "a shell that cannot be followed is ended");
                    last = Some((text.done, Err(error)));
                    break self.kept.kill(None).await.and_then(|ended| ended);
                }
            };
            let mut run = self.shown(&ran, started.elapsed());
            let ended = match ran.ended {
                Some(ended) => ended,
                None if closers.is_empty() => {
                    self.entry.free(&ran.directory);
                    // If he has left, nobody wants to know.
                    text.done.send(Ok(run)).ok();
                    continue;
                }
                None => self.kept.end().await,
            };
            run.shell_ended = true;
            run.ended = Some(record::outcome(&ended, &self.entry.limits));
            last = Some((text.done, Ok(run)));
            break ended;
        };
        self.leave(ended, closers, last);
    }

    /// Runs a text. A shell that is to be closed meanwhile is interrupted.
    async fn run(&mut self, text: &Text, closers: &mut Closers) -> Result<Ran, Error> {
        let to = Some(&text.to);
        let token = self.kept.begin(&text.script).await?;
        let came = tokio::select! {
            came = self.kept.follow(&token, text.until, to) => came?,
            () = closed(&mut self.orders, closers) => Came::Left,
        };
        let timed_out = matches!(came, Came::TimeOver);
        let came = match came {
            Came::Marked(_) | Came::Ended(_) => came,
            Came::TimeOver => self.kept.interrupt(&token, to).await?,
            Came::Left => self.kept.interrupt(&token, None).await?,
            Came::Mute => Came::Ended(self.kept.kill(to).await?),
        };
        let directory = self.entry.shown().directory;
        match came {
            Came::Marked(Marker { code, directory }) => {
                tokio::select! {
                    passed = self.kept.pass_on(to) => passed?,
                    () = closed(&mut self.orders, closers) => {}
                }
                Ok(Ran { code, directory, timed_out, ended: None })
            }
            Came::Ended(ended) => {
                let code = match ended.as_ref().map(|ended| ended.exit) {
                    Ok(Exit::Code(code)) => code,
                    Ok(Exit::Signal(signal)) => 128 + signal,
                    Err(_) => -1,
                };
                Ok(Ran { code, directory, timed_out, ended: Some(ended) })
            }
            Came::TimeOver | Came::Left | Came::Mute => {
                Err(Error::internal("a text was interrupted without an end"))
            }
        }
    }

    fn shown(&self, ran: &Ran, took: Duration) -> ShellRun {
        ShellRun {
            code: ran.code,
            directory: ran.directory.clone(),
            took: took.try_into().ok(),
            timed_out: ran.timed_out,
            shell_ended: false,
            ended: None,
        }
    }

    /// Leaves the table, and then tells everybody who wants to know.
    fn leave(self, ended: Result<Ended, Error>, closers: Closers, last: Option<Last>) {
        let Self { entry, place, mut orders, .. } = self;
        drop(place);
        orders.close();
        let mut closers = closers;
        while let Ok(order) = orders.try_recv() {
            match order {
                Order::Close(tell) => closers.push(tell),
                Order::Run(text) => {
                    text.done.send(Err(gone(&entry.id))).ok();
                }
            }
        }
        // Who has left does not want to know any more.
        for tell in closers {
            tell.send(ended.clone()).ok();
        }
        if let Some((done, run)) = last {
            done.send(run).ok();
        }
    }
}

/// Who ran the text with which the shell ended, and what he is told.
type Last = (oneshot::Sender<Result<ShellRun, Error>>, Result<ShellRun, Error>);

/// Waits until somebody closes the shell.
async fn closed(orders: &mut mpsc::Receiver<Order>, closers: &mut Closers) {
    match orders.recv().await {
        Some(Order::Close(tell)) => closers.push(tell),
        // A shell is claimed before it is ordered to run something, so this cannot be; dropping the text
        // tells its caller that there is no shell for it.
        Some(Order::Run(_)) => {}
        // The worker ends.
        None => {}
    }
}
