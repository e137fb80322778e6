//! An authority on a private bus that answers as the test says, in the place of polkit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::task::JoinHandle;
use zbus::message::{Message, Type};
use zbus::{Connection, MessageStream, OwnedVariant};

use crate::process::PATIENCE;

/// What the authority says to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    Yes,
    No,
    /// Yes if it may ask somebody, else that it must.
    YesIfAsked,
    /// That it must ask somebody, who cannot be asked.
    NobodyToAsk,
    /// That somebody was asked and did not want to.
    Dismissed,
    /// That it knows no such action.
    NotRegistered,
    /// Nothing.
    Nothing,
    /// Nothing, and leaves the bus.
    Dies,
}

/// A question.
#[derive(Debug)]
pub struct Asked {
    pub kind: String,
    pub subject: HashMap<String, OwnedVariant>,
    pub action: String,
    pub details: HashMap<String, String>,
    pub flags: u32,
    pub id: String,
}

#[derive(Default)]
struct Seen {
    asked: Vec<Asked>,
    cancelled: Vec<String>,
}

/// The authority. It leaves the bus when it is dropped.
pub struct Mock {
    seen: Arc<Mutex<Seen>>,
    says: Arc<Mutex<Says>>,
    serving: JoinHandle<()>,
}

impl Mock {
    pub async fn start(bus: &str, says: Says) -> Self {
        let connection = zbus::connection::Builder::address(bus).build().await.unwrap();
        let stream = MessageStream::from(&connection);
        let end = Instant::now() + PATIENCE;
        // The one before it may still be going.
        while connection.request_name("org.freedesktop.PolicyKit1").await.is_err() {
            assert!(Instant::now() < end, "the name is not to be had");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (seen, says) = (Arc::<Mutex<Seen>>::default(), Arc::new(Mutex::new(says)));
        let serving = tokio::spawn(serve(connection, stream, Arc::clone(&seen), Arc::clone(&says)));
        Self { seen, says, serving }
    }

    pub fn says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    /// Takes the questions that there were.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.seen.lock().unwrap().asked)
    }

    /// Waits until there is a question, and takes the last.
    pub async fn next(&self) -> Asked {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(asked) = self.asked().pop() {
                return asked;
            }
            assert!(Instant::now() < end, "nobody asked");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until this question is taken back.
    pub async fn cancelled(&self, id: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.seen.lock().unwrap().cancelled.iter().any(|cancelled| cancelled == id) {
            assert!(Instant::now() < end, "{id} was not taken back");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    connection: Connection,
    mut stream: MessageStream,
    seen: Arc<Mutex<Seen>>,
    says: Arc<Mutex<Says>>,
) {
    while let Some(Ok(call)) = stream.next().await {
        if call.message_type() != Type::MethodCall {
            continue;
        }
        let header = call.header();
        let reply = match header.member().map(|member| member.as_str()) {
            Some("CheckAuthorization") => {
                let asked = question(&call);
                let may_ask = asked.flags & 1 == 1;
                seen.lock().unwrap().asked.push(asked);
                let says = *says.lock().unwrap();
                if says == Says::Dies {
                    connection.close().await.unwrap();
                    return;
                }
                answer(&call, says, may_ask)
            }
            Some("CancelCheckAuthorization") => {
                let id = call.body().deserialize::<String>().unwrap();
                seen.lock().unwrap().cancelled.push(id);
                Some(Message::method_return(&header).build(&()).unwrap())
            }
            _ => None,
        };
        if let Some(reply) = reply {
            connection.send(&reply).await.unwrap();
        }
    }
}

type Question =
    ((String, HashMap<String, OwnedVariant>), String, HashMap<String, String>, u32, String);

fn question(call: &Message) -> Asked {
    let body = call.body();
    assert_eq!(body.signature().to_string_no_parens(), "(sa{sv})sa{ss}us");
    let ((kind, subject), action, details, flags, id): Question = body.deserialize().unwrap();
    Asked { kind, subject, action, details, flags, id }
}

fn answer(call: &Message, says: Says, may_ask: bool) -> Option<Message> {
    let header = call.header();
    let none = || HashMap::<&str, &str>::new();
    let result = match says {
        Says::Yes => (true, false, none()),
        Says::No => (false, false, none()),
        Says::YesIfAsked => (may_ask, !may_ask, none()),
        Says::NobodyToAsk => (false, true, none()),
        Says::Dismissed => (false, may_ask, HashMap::from([("polkit.dismissed", "true")])),
        Says::Nothing | Says::Dies => return None,
        Says::NotRegistered => {
            let name = "org.freedesktop.PolicyKit1.Error.Failed";
            let error = Message::error(&header, name);
            return Some(error.build(&"Action is not registered").unwrap());
        }
    };
    // One argument, which is a structure.
    Some(Message::method_return(&header).build(&(result,)).unwrap())
}
