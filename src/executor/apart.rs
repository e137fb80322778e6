//! Calls of a caller of whom some have held up the thread of all others for long: they go on in a thread
//! of their own, until he has held up nobody for a while. What the calls are, and whether they may be made,
//! is not known here.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};

use super::Executor;
use super::share::Share;
use crate::call::Caller;
use crate::error::Error;

/// How many times as long as they have held up others a caller's calls go on apart: so he holds them up for
/// no more than one part in so many of the time.
const TIMES_APART: u32 = 200;

/// The longest time for which they go on apart after the last one that took long.
const APART_MAX: Duration = Duration::from_secs(10);

/// How long they go on apart after one that seemed to take long. If they do, that is seen meanwhile.
const APART_ON_SUSPICION: Duration = Duration::from_millis(20);

/// How long the calls of one who was suspected are measured exactly.
const EXACT: Duration = Duration::from_secs(1);

/// Whether a caller's calls go on apart.
///
/// What counts is processor time: on a busy machine a thread may be made to wait in the midst of any call.
/// To read it is a system call of half a microsecond, so it is read for those alone of whom a call took long
/// by the clock.
pub(super) struct Pace {
    /// The time from which on a call holds up others; none if it may for ever.
    stretch: Option<Duration>,
    began: Instant,
    /// Until when calls go on apart, in nanoseconds after `began`.
    apart: AtomicU64,
    /// Until when they are measured exactly.
    exact: AtomicU64,
    /// The turn to begin apart. Each caller has one, so that nobody waits there for all calls of another.
    turn: Mutex<()>,
}

impl Pace {
    pub(super) fn new(stretch: Duration) -> Self {
        let stretch = Some(stretch).filter(|stretch| !stretch.is_zero());
        let never = || AtomicU64::new(0);
        Self {
            stretch,
            began: Instant::now(),
            apart: never(),
            exact: never(),
            turn: Mutex::new(()),
        }
    }

    fn is_apart(&self, now: Instant) -> bool {
        self.is_before(&self.apart, now)
    }

    /// Polls, and takes note if that takes long.
    fn poll<T>(&self, work: &mut Work<T>, now: Instant, context: &mut Context<'_>) -> Poll<T> {
        let Some(stretch) = self.stretch else { return work.as_mut().poll(context) };
        let is_exact = self.is_apart(now) || self.is_before(&self.exact, now);
        let used = if is_exact { processor_time() } else { None };
        let polled = work.as_mut().poll(context);
        let end = Instant::now();
        if end.saturating_duration_since(now) >= stretch {
            match used.zip(processor_time()) {
                None => self.extend(APART_ON_SUSPICION, end),
                Some((before, after)) => {
                    let took = after.saturating_sub(before);
                    if took >= stretch {
                        self.extend(took.saturating_mul(TIMES_APART).min(APART_MAX), end);
                    }
                }
            }
        }
        polled
    }

    /// Has the calls go on apart for so long, and measures them.
    fn extend(&self, apart: Duration, now: Instant) {
        let now = self.since_beginning(now);
        self.apart.fetch_max(now.saturating_add(nanoseconds(apart)), Ordering::Relaxed);
        self.exact.fetch_max(now.saturating_add(nanoseconds(apart + EXACT)), Ordering::Relaxed);
    }

    fn is_before(&self, end: &AtomicU64, now: Instant) -> bool {
        let end = end.load(Ordering::Relaxed);
        end != 0 && self.since_beginning(now) < end
    }

    fn since_beginning(&self, time: Instant) -> u64 {
        nanoseconds(time.saturating_duration_since(self.began))
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
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
    let mut go_on = |context: &mut Context<'_>| {
        let polled = share.pace.poll(&mut work, Instant::now(), context);
        // What waits for this processor, as the other thread may, shall not wait for the next call too.
        thread::yield_now();
        polled
    };
    let work = async {
        let first = {
            let _turn = share.pace.turn.lock().await;
            poll_fn(|context| Poll::Ready(go_on(context))).await
        };
        match first {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => poll_fn(go_on).await,
        }
    };
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
        let now = Instant::now();
        if this.share.pace.is_apart(now) {
            this.go_apart();
        }
        match &mut this.at {
            Place::Here(work) => this.share.pace.poll(work, now, context).map(Ok),
            Place::Apart(answered) => {
                Poll::Ready(ready!(Pin::new(answered).poll(context)).map_err(|_gone| {
                    Error::internal("the call broke; the service's log says where")
                }))
            }
        }
    }
}
