//! The questions to clients whether they have taken what was sent to them: calls of
//! `org.freedesktop.DBus.Peer.Ping`, which D-Bus libraries answer by themselves. A client has one at a
//! time, because the bus lets a service have few calls open.

use std::collections::HashMap;
use std::num::NonZeroU32;

use tokio::sync::oneshot;
use zbus::message::{Message, Type};

/// The bus itself as a sender.
const BUS: &str = "org.freedesktop.DBus";

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pong {
    /// The client has read it, and so all that was sent before.
    Taken,
    /// The bus does not pass such questions on.
    Refused,
}

/// The open questions by client.
#[derive(Default)]
pub(super) struct Pings(HashMap<Box<str>, Open>);

struct Open {
    serial: NonZeroU32,
    waiting: Vec<oneshot::Sender<Pong>>,
    /// Who asked later: for them it will be asked again.
    later: Vec<oneshot::Sender<Pong>>,
}

impl Pings {
    /// Asks `client` for `taken`; gives what is to be sent, if anything.
    pub(super) fn ask(&mut self, client: &str, taken: oneshot::Sender<Pong>) -> Option<Message> {
        if let Some(open) = self.0.get_mut(client) {
            open.later.retain(|later| !later.is_closed());
            open.later.push(taken);
            return None;
        }
        self.open(client.into(), vec![taken])
    }

    /// Takes a reply, if it is one to a question; gives what is to be sent next, if anything.
    pub(super) fn answered(&mut self, reply: &Message) -> Option<Message> {
        let header = reply.header();
        let sender = header.sender()?.as_str();
        let serial = header.reply_serial()?;
        let is_meant = |client: &str, open: &Open| {
            open.serial == serial && (sender == client || sender == BUS)
        };
        let client = self.0.iter().find(|(client, open)| is_meant(client, open))?.0.clone();
        let open = self.0.remove(&client)?;
        let refused = sender == BUS
            && header.message_type() == Type::Error
            && header.error_name().is_some_and(|name| {
                name.ends_with(".AccessDenied") || name.ends_with(".LimitsExceeded")
            });
        let pong = if refused { Pong::Refused } else { Pong::Taken };
        for waiting in open.waiting {
            // Who has ceased to wait does not mind.
            waiting.send(pong).ok();
        }
        let later: Vec<_> = open.later.into_iter().filter(|later| !later.is_closed()).collect();
        if later.is_empty() { None } else { self.open(client, later) }
    }

    /// Forgets a client that has gone.
    pub(super) fn gone(&mut self, client: &str) {
        self.0.remove(client);
    }

    fn open(&mut self, client: Box<str>, waiting: Vec<oneshot::Sender<Pong>>) -> Option<Message> {
        let ping = Message::method_call("/", "Ping")
            .interface("org.freedesktop.DBus.Peer")
            .destination(&*client)
            .build(&());
        let ping =
            ping.inspect_err(|error| tracing::error!("{client} cannot be asked: {error}")).ok()?;
        let serial = ping.primary_header().serial_num();
        self.0.insert(client, Open { serial, waiting, later: Vec::new() });
        Some(ping)
    }
}
