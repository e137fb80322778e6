//! A task on its way to the bus client that started it: its messages as signals or on the client's
//! descriptor, its changes and its end as signals. It ends with the client, which is the client's reader
//! going away.

use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep_until};
use zbus::message::Message;

use super::input::Feed;
use super::outgoing::{Outgoing, Pace};
use super::output::Output;
use super::signals::Signals;
use crate::task::{self, Event, Reading, Subscription};

/// The shortest time between two signals about changes.
const CHANGES_EVERY: Duration = Duration::from_millis(100);

/// The properties that a change is told of.
const CHANGING: [&str; 4] = ["ExpectedEndTime", "Progress", "ProgressValid", "State"];

/// Those that the end is told of.
const ENDING: [&str; 11] = [
    "Bytes",
    "Cancelable",
    "EndTime",
    "ErrorMessage",
    "ErrorName",
    "ExpectedEndTime",
    "FirstSeq",
    "LastSeq",
    "Progress",
    "ProgressValid",
    "State",
];

/// Where messages go.
pub(super) enum Sink {
    Signals(Pace),
    Descriptor(Output),
    /// A descriptor that takes no more.
    Closed,
}

/// One task and its client.
pub(super) struct Delivery {
    pub(super) subscription: Subscription,
    pub(super) signals: Signals,
    pub(super) sink: Sink,
    /// What reads the client's messages from its descriptor.
    pub(super) feed: Option<Feed>,
}

impl Delivery {
    pub(super) fn client(&self) -> &str {
        self.signals.client()
    }

    /// Delivers until the end of the task or of the connection.
    pub(super) async fn run(mut self, outgoing: Outgoing) {
        let feed = self.feed.take();
        let feed = async {
            if let Some(feed) = feed {
                feed.run(&outgoing).await;
            }
        };
        tokio::join!(self.pump(&outgoing), feed);
    }

    /// `None` when the connection has ended.
    async fn pump(mut self, outgoing: &Outgoing) -> Option<()> {
        let mut changes = Changes::default();
        let mut next = None;
        loop {
            let event = match next.take() {
                Some(event) => event,
                None => tokio::select! {
                    biased;
                    () = changes.due() => Event::Changed,
                    event = self.subscription.next() => event?,
                },
            };
            match event {
                Event::Message(message) => next = self.message(message, outgoing).await?,
                Event::Gap { from, to } => {
                    send(self.signals.gap(from, to), outgoing).await?;
                }
                Event::Changed => {
                    if changes.may_be_told() {
                        send(self.signals.changed(&CHANGING), outgoing).await?;
                    }
                }
                Event::Ended(_) => {
                    // What the properties say is so before the end is told; and what was written has
                    // its end before it too.
                    self.sink = Sink::Closed;
                    send(self.signals.changed(&ENDING), outgoing).await?;
                    return send(self.signals.finished(), outgoing).await;
                }
            }
        }
    }

    /// Delivers a message; gives what came after it, if that was seen already.
    async fn message(
        &mut self,
        message: task::Message,
        outgoing: &Outgoing,
    ) -> Option<Option<Event>> {
        match &mut self.sink {
            Sink::Signals(pace) => match self.signals.message(&message) {
                Ok(signal) => {
                    let size = signal.data().len();
                    outgoing.signal(signal).await?;
                    pace.sent(outgoing, self.signals.client(), size).await?;
                }
                Err(problem) => {
                    send(self.signals.undelivered(&message, &problem), outgoing).await?;
                }
            },
            Sink::Descriptor(_) => return self.write(message, outgoing).await,
            Sink::Closed => {}
        }
        Some(None)
    }

    /// Writes a message and those that are there already.
    async fn write(&mut self, first: task::Message, outgoing: &Outgoing) -> Option<Option<Event>> {
        let Sink::Descriptor(output) = &mut self.sink else { return Some(None) };
        let mut message = first;
        let next = loop {
            if let Err(problem) = output.push(&message.payload) {
                send(self.signals.undelivered(&message, &problem), outgoing).await?;
            }
            if output.is_full() {
                break None;
            }
            match self.subscription.next().now_or_never() {
                Some(Some(Event::Message(next))) => message = next,
                Some(event) => break event,
                None => break None,
            }
        };
        if let Err(error) = output.write().await {
            tracing::debug!("{} reads no more: {error}", self.signals.client());
            self.leave();
        }
        Some(next)
    }

    /// The client has closed its descriptor: as a reader it is gone, but it may still want to know how
    /// the task ends.
    fn leave(&mut self) {
        self.sink = Sink::Closed;
        let task = self.subscription.task();
        let from = task.record().last_seq + 1;
        let reading = Reading { from, is_client: false, changes: true };
        match task.read(reading) {
            Ok(onlooker) => self.subscription = onlooker,
            Err(error) => tracing::error!("a task cannot be watched further: {error}"),
        }
    }
}

/// Sends a signal that hardly can fail to be built.
async fn send(signal: zbus::Result<Message>, outgoing: &Outgoing) -> Option<()> {
    match signal {
        Ok(signal) => outgoing.signal(signal).await,
        Err(error) => {
            tracing::error!("a signal cannot be sent: {error}");
            Some(())
        }
    }
}

/// Which changes are told, and when.
#[derive(Default)]
struct Changes {
    told: Option<Instant>,
    is_open: bool,
}

impl Changes {
    /// True if a change may be told at once; else it is told when it is due.
    fn may_be_told(&mut self) -> bool {
        let now = Instant::now();
        self.is_open = self.told.is_some_and(|told| now < told + CHANGES_EVERY);
        if !self.is_open {
            self.told = Some(now);
        }
        !self.is_open
    }

    /// Resolves when a change is to be told that was not told at once.
    async fn due(&self) {
        match self.told {
            Some(told) if self.is_open => sleep_until(told + CHANGES_EVERY).await,
            _ => std::future::pending().await,
        }
    }
}
