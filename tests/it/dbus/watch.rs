//! A client's view of the signals of tasks, for the tests: in the order of their coming, with Ping
//! answered as D-Bus libraries do.

use std::collections::VecDeque;

use futures_util::StreamExt as _;
use op_dbus::contract::task_path;
use zbus::message::{Message, Type};
use zbus::{Connection, MessageStream};

use super::{NAME, Options, PROBE};
use crate::process::PATIENCE;

/// Everything that comes to one client.
pub struct Watch {
    client: Connection,
    stream: MessageStream,
    /// What came while a reply was awaited.
    before: VecDeque<Message>,
    is_mute: bool,
    /// How often it was asked whether it has taken what came.
    pub pings: usize,
}

impl Watch {
    pub fn new(client: &Connection) -> Self {
        Self {
            client: client.clone(),
            stream: MessageStream::from(client),
            before: VecDeque::new(),
            is_mute: false,
            pings: 0,
        }
    }

    /// The same client, which does not answer Ping.
    pub fn mute(mut self) -> Self {
        self.is_mute = true;
        self
    }

    /// The next message.
    pub async fn next(&mut self) -> Message {
        match self.before.pop_front() {
            Some(message) => message,
            None => self.receive().await,
        }
    }

    /// The next message that is neither of the bus itself nor a Ping, which is answered.
    async fn receive(&mut self) -> Message {
        let next = async {
            loop {
                let message = self.stream.next().await.unwrap().unwrap();
                let header = message.header();
                if header.sender().is_some_and(|sender| sender == "org.freedesktop.DBus") {
                    continue;
                }
                if message.message_type() != Type::MethodCall {
                    return message.clone();
                }
                assert_eq!(header.member().unwrap().as_str(), "Ping");
                self.pings += 1;
                if !self.is_mute {
                    self.client.reply(&header, &()).await.unwrap();
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("nothing more comes")
    }

    /// The next message that a task has sent: its signal's name and the message.
    pub async fn signal(&mut self, path: &str) -> (String, Message) {
        loop {
            let message = self.next().await;
            let header = message.header();
            if message.message_type() == Type::Signal && header.path().unwrap().as_str() == path {
                return (header.member().unwrap().to_string(), message.clone());
            }
        }
    }

    /// All signals of a task up to its end, but for those about changes.
    pub async fn until_end(&mut self, path: &str) -> Vec<(String, Message)> {
        let mut signals = Vec::new();
        loop {
            let (name, message) = self.signal(path).await;
            let is_end = name == "Finished";
            if name != "PropertiesChanged" {
                signals.push((name, message));
            }
            if is_end {
                return signals;
            }
        }
    }

    /// Calls a method of an object and gives the reply, or the name of the error. What comes before it
    /// is kept for later.
    pub async fn call<B>(&mut self, path: &str, method: &str, body: &B) -> Result<Message, String>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let call = Message::method_call(path, method).destination(NAME).build(body).unwrap();
        self.client.send(&call).await.unwrap();
        loop {
            let message = self.receive().await;
            match message.message_type() {
                Type::MethodReturn => return Ok(message),
                Type::Signal => self.before.push_back(message),
                Type::Error => return Err(message.header().error_name().unwrap().to_string()),
                Type::MethodCall => panic!("{message:?}"),
            }
        }
    }

    /// Calls a method of the probe that becomes a task, and gives the task's path. A signal of the task
    /// before the reply is an error.
    pub async fn begin<B>(&mut self, method: &str, body: &B) -> String
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let reply = self.call(PROBE, method, body).await.unwrap();
        let body = reply.body();
        let path = if body.signature().to_string() == "o" {
            body.deserialize::<zbus::ObjectPath<'_>>().unwrap().to_string()
        } else {
            let (path, extra): (zbus::ObjectPath<'_>, Options<'_>) = body.deserialize().unwrap();
            assert!(extra.is_empty());
            path.to_string()
        };
        for signal in &self.before {
            assert_ne!(signal.header().path().unwrap().as_str(), path, "{signal:?}");
        }
        path
    }

    /// True if nothing has come but what was asked for.
    pub fn is_quiet(&self) -> bool {
        self.before.is_empty()
    }

    /// The path of the task that this client names by `token`.
    pub fn path(&self, token: &str) -> String {
        let name = self.client.unique_name().unwrap().as_str();
        task_path(&format!("{}_{token}", name.trim_start_matches(':').replace('.', "_")))
    }
}

/// State, error name, error text and last number in a `Finished`.
pub fn finished(signals: &[(String, Message)]) -> (String, String, String, u64) {
    let (name, message) = signals.last().unwrap();
    assert_eq!(name, "Finished");
    message.body().deserialize().unwrap()
}

/// Number, offset and one field of each `Message`.
pub fn numbers(signals: &[(String, Message)]) -> Vec<(u64, u64, u32)> {
    let messages = signals.iter().filter(|(name, _)| name == "Message");
    messages
        .map(|(_, message)| {
            let body = message.body();
            let (seq, offset, fields): (u64, u64, Options<'_>) = body.deserialize().unwrap();
            (seq, offset, u32::try_from(&fields["number"]).unwrap())
        })
        .collect()
}
