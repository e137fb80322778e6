//! Calls of a caller of whom some have held up the thread of all others for long: they go on in a thread
//! of their own, until he has held up nobody for a while. What the calls are, and whether they may be made,
//! is not known here.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};

use super::Executor;
use super::share::Share;
use crate::call::Caller;
use crate::error::Error;

/// How many times as long as they have held up others a caller's calls go on apart: so he holds them up for
/// no more than a fiftieth of the time.
const TIMES_APART: u32 = 50;

/// The longest time for which they go on apart after the last one that took long.
const APART_MAX: Duration = Duration::from_secs(10);

/// How long a reading of a thread's processor time serves, so that not every call costs one.
const READING_SERVES: Duration = Duration::from_micros(100);

/// Whether a caller's calls go on apart.
pub(super) struct Pace {
    /// The processor time from which on a call holds up others; none if they may for ever.
    stretch: Option<Duration>,
    began: Instant,
    /// Until when, in nanoseconds after `began`.
    until: AtomicU64,
}

impl Pace {
    pub(super) fn new(stretch: Duration) -> Self {
        let stretch = Some(stretch).filter(|stretch| !stretch.is_zero());
        Self { stretch, began: Instant::now(), until: AtomicU64::new(0) }
    }

    fn is_apart(&self, now: Instant) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until != 0 && self.after_beginning(now) < until
    }

    /// Polls, and takes note if that took long.
    fn poll<T>(&self, work: &mut Work<T>, context: &mut Context<'_>) -> Poll<T> {
        let Some(stretch) = self.stretch else { return work.as_mut().poll(context) };
        let clock = Clock::start();
        let polled = work.as_mut().poll(context);
        if let Some(took) = clock.took(stretch) {
            let now = self.after_beginning(Instant::now());
            let apart = nanoseconds(took.saturating_mul(TIMES_APART).min(APART_MAX));
            self.until.fetch_max(now.saturating_add(apart), Ordering::Relaxed);
        }
        polled
    }

    fn after_beginning(&self, time: Instant) -> u64 {
        nanoseconds(time.saturating_duration_since(self.began))
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Tells how much processor time of this thread something takes. The time that passes is no measure: on a
/// busy machine the thread may be made to wait in it.
struct Clock {
    started: Instant,
}

thread_local! {
    /// When this thread's processor time was last read, and that.
    static READING: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

impl Clock {
    fn start() -> Self {
        let started = Instant::now();
        let serves = |at: Instant| started.saturating_duration_since(at) < READING_SERVES;
        if !READING.get().is_some_and(|(at, _)| serves(at)) {
            READING.set(processor_time().map(|used| (started, used)));
        }
        Self { started }
    }

    /// The time since the start, if it is `least` for certain.
    fn took(&self, least: Duration) -> Option<Duration> {
        if self.started.elapsed() < least {
            return None;
        }
        let (at, before) = READING.get()?;
        // Of what was used since the reading, no more than the time until the start is not ours.
        let not_ours = self.started.saturating_duration_since(at);
        let took = processor_time()?.saturating_sub(before).saturating_sub(not_ours);
        (took >= least).then_some(took)
    }
}

/// What this thread has had of a processor; none if the kernel does not say.
fn processor_time() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok().map(Duration::from)
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The thread in which calls go on apart. It begins with the first of them and ends with the runtime.
#[derive(Default)]
pub(super) struct Lane(OnceLock<Option<mpsc::WeakUnboundedSender<Work<()>>>>);

impl Lane {
    /// Where jobs go; none if there can be no such thread. How many there are at once is bounded by
    /// `limits.max_streams` of each caller.
    fn jobs(&self) -> Option<mpsc::UnboundedSender<Work<()>>> {
        let start = || {
            Self::start()
                .inspect_err(|error| tracing::error!(%error, "there is no thread for long calls"))
                .ok()
        };
        self.0.get_or_init(start).as_ref()?.upgrade()
    }

    fn start() -> std::io::Result<mpsc::WeakUnboundedSender<Work<()>>> {
        let (jobs, mut coming) = mpsc::unbounded_channel::<Work<()>>();
        let runtime = Handle::current();
        // What the jobs start, and their timers, stay with the runtime.
        thread::Builder::new().name("long-calls".to_owned()).spawn({
            let runtime = runtime.clone();
            move || {
                runtime.block_on(LocalSet::new().run_until(async {
                    while let Some(job) = coming.recv().await {
                        spawn_local(job);
                    }
                }));
            }
        })?;
        let weak = jobs.downgrade();
        // The runtime drops this when it ends, and with the last sender the thread ends.
        runtime.spawn(async move { jobs.closed().await });
        Ok(weak)
    }
}

/// Work of a caller, at its place.
struct Placed<T> {
    executor: Arc<Executor>,
    share: Arc<Share>,
    at: Place<T>,
}

enum Place<T> {
    Here(Work<T>),
    Apart(oneshot::Receiver<T>),
}

impl Executor {
    /// Carries out `work` of `caller`: here, or apart if work of his has held up others for long
    /// (`[limits] stretch_us`). It may go apart in its midst.
    ///
    /// # Errors
    /// `Internal` if the work went apart and panicked there.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work, which may be a moment later if it goes on apart.
    pub fn in_its_place<T: Send + 'static>(
        self: &Arc<Self>,
        caller: &Caller,
        work: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send + 'static {
        let share = self.shares.load().of(caller);
        Placed { executor: Arc::clone(self), share, at: Place::Here(Box::pin(work)) }
    }
}

impl<T: Send + 'static> Placed<T> {
    /// Sends the work to the thread of its own, if there is one.
    fn go_apart(&mut self) {
        let Place::Here(_) = &self.at else { return };
        let Some(jobs) = self.executor.lane.jobs() else { return };
        let (answer, answered) = oneshot::channel();
        let Place::Here(work) = std::mem::replace(&mut self.at, Place::Apart(answered)) else {
            return;
        };
        self.executor.metrics.went_apart();
        let job = apart(Arc::clone(&self.share), work, answer);
        // The thread has ended only if the runtime ends, and with it whoever waits.
        jobs.send(Box::pin(job)).ok();
    }
}

/// Carries out work in the thread that it has come to, as long as somebody waits for it.
async fn apart<T>(share: Arc<Share>, mut work: Work<T>, mut answer: oneshot::Sender<T>) {
    let work = std::future::poll_fn(|context| share.pace.poll(&mut work, context));
    tokio::select! {
        biased;
        () = answer.closed() => {}
        outcome = work => {
            // Nobody may wait any more.
            answer.send(outcome).ok();
        }
    }
}

impl<T: Send + 'static> Future for Placed<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.share.pace.is_apart(Instant::now()) {
            this.go_apart();
        }
        match &mut this.at {
            Place::Here(work) => this.share.pace.poll(work, context).map(Ok),
            Place::Apart(answered) => {
                Poll::Ready(ready!(Pin::new(answered).poll(context)).map_err(|_gone| {
                    Error::internal("the call broke; the service's log says where")
                }))
            }
        }
    }
}
