//! What leaves for clients unasked: a bounded queue into the loop, which is the one writer. What is in
//! the signals is not its business.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use zbus::message::Message;

use super::pings::Pong;

/// How many signals of all tasks wait for the loop. With the largest messages they are 32 MiB.
const MAX_WAITING: usize = 32;

/// How many signals, and how many bytes of them, a client gets before it is asked whether it has taken
/// them.
const WINDOW: (usize, usize) = (64, 256 * 1024);

/// How long a client may take to answer before it counts as one whose D-Bus library does not.
const PATIENCE: Duration = Duration::from_secs(1);

/// The pause after each window for a client that does not answer or must not be asked.
const PAUSE: Duration = Duration::from_millis(200);

/// How many bytes a client that does not answer gets. The bus holds them all if it does not read.
const MAX_UNANSWERED_BYTES: usize = 8 * 1024 * 1024;

/// Something to send.
pub(super) enum Sending {
    Signal(Message),
    /// Asks a client whether it has taken what was sent to it before.
    Ping {
        client: Box<str>,
        taken: oneshot::Sender<Pong>,
    },
}

/// The queue. All methods give `None` when the connection has ended.
#[derive(Clone)]
pub(super) struct Outgoing(mpsc::Sender<Sending>);

impl Outgoing {
    pub(super) fn new() -> (Self, mpsc::Receiver<Sending>) {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        (Self(sender), receiver)
    }

    /// Sends a signal as soon as there is room.
    pub(super) async fn signal(&self, signal: Message) -> Option<()> {
        self.0.send(Sending::Signal(signal)).await.ok()
    }

    /// Waits until a client has shown that it lives, or that it has gone. One that does neither, or must
    /// not be asked, is given so long that the bus has seen it go if it was going.
    pub(super) async fn until_settled(&self, client: &str) {
        let Some(pong) = self.ping(client).await else { return };
        if let Ok(Ok(Pong::Refused)) = timeout(PATIENCE, pong).await {
            sleep(PAUSE).await;
        }
    }

    async fn ping(&self, client: &str) -> Option<oneshot::Receiver<Pong>> {
        let (taken, pong) = oneshot::channel();
        self.0.send(Sending::Ping { client: client.into(), taken }).await.ok()?;
        Some(pong)
    }
}

/// How fast one client takes the signals of one task.
#[derive(Default)]
pub(super) struct Pace {
    /// Sent since the last pause.
    signals: usize,
    bytes: usize,
    /// The question that is open.
    open: Option<oneshot::Receiver<Pong>>,
    /// Sent after the question.
    bytes_after: usize,
    /// True if the last question had no answer in time.
    is_slow: bool,
}

impl Pace {
    /// Notes a signal that was sent, and waits where the client is to catch up first.
    pub(super) async fn sent(
        &mut self,
        outgoing: &Outgoing,
        client: &str,
        bytes: usize,
    ) -> Option<()> {
        self.signals += 1;
        self.bytes += bytes;
        if self.signals < WINDOW.0 && self.bytes < WINDOW.1 {
            return Some(());
        }
        if self.open.is_some() {
            self.bytes_after += self.bytes;
        } else {
            self.open = Some(outgoing.ping(client).await?);
            self.bytes_after = 0;
        }
        (self.signals, self.bytes) = (0, 0);
        self.wait().await
    }

    async fn wait(&mut self) -> Option<()> {
        let pong = self.open.as_mut()?;
        let answer = if self.bytes_after > MAX_UNANSWERED_BYTES {
            pong.await
        } else {
            let patience = if self.is_slow { PAUSE } else { PATIENCE };
            match timeout(patience, pong).await {
                Ok(answer) => answer,
                Err(_) => {
                    self.is_slow = true;
                    return Some(());
                }
            }
        };
        self.open = None;
        match answer.ok()? {
            Pong::Taken => self.is_slow = false,
            Pong::Refused => sleep(PAUSE).await,
        }
        Some(())
    }
}
