//! What a call leaves in the log, as the executor knows it, and how that becomes a record. When and
//! whether something is recorded is not decided here.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

use super::record::{Hash, Kind, Record};
use crate::call::{Caller, Interface, Transport};
use crate::contract::Operation;
use crate::proto::opdbus::v1::Risk;

/// The longest text in a record, in characters; what a client sends is cut there.
const MAX_TEXT: usize = 256;

/// What was called.
#[derive(Clone, Debug)]
pub enum Target {
    /// An operation that there is.
    Operation(Arc<Operation>),
    /// What the client named, where that is none or nobody looked.
    Named(Box<str>),
}

/// One call, or a refused one.
#[derive(Clone, Debug)]
pub struct Event {
    /// [`Kind::Call`], [`Kind::Start`], [`Kind::End`], [`Kind::Refused`] or [`Kind::Step`].
    pub kind: Kind,
    /// When it happened.
    pub time: SystemTime,
    /// Who called; of a caller that nobody vouches for the address.
    pub caller: Arc<Caller>,
    /// Over which transport, and what the client spoke there; `None` if the service did it by itself.
    pub way: Option<(Transport, Interface)>,
    /// The session that the call named.
    pub session: Option<Arc<str>>,
    /// The task that the call is.
    pub task: Option<Box<str>>,
    /// The client's name for the request.
    pub request_id: Option<Box<str>>,
    /// What was called.
    pub target: Target,
    /// The digest of the request, where there is one request.
    pub digest: Option<Hash>,
    /// The rule or limit that decided.
    pub rule: Cow<'static, str>,
    /// `OK`, or the reason of the error.
    pub outcome: &'static str,
    /// How long it took, if it has ended.
    pub duration: Option<Duration>,
}

/// What makes two refusals the same. The address is no part of it: a client can have as many as it
/// likes.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Sameness {
    uid: Option<u32>,
    way: Option<(Transport, Interface)>,
    agent: String,
    operation: String,
    rule: Cow<'static, str>,
    outcome: &'static str,
}

impl Event {
    pub(super) fn sameness(&self) -> Sameness {
        let (agent, operation) = self.names();
        Sameness {
            uid: self.caller.uid(),
            way: self.way,
            agent,
            operation,
            rule: self.rule.clone(),
            outcome: self.outcome,
        }
    }

    /// The record of the event, which stands for `count` that are the same. The log numbers it.
    pub(super) fn record(&self, count: u64) -> Record {
        let (agent, operation) = self.names();
        let risk = match &self.target {
            Target::Operation(operation) => risk(operation.risk),
            Target::Named(_) => "",
        };
        let text = |text: Option<&str>| text.map_or_else(String::new, bounded);
        Record {
            time: time(self.time),
            kind: self.kind,
            uid: self.caller.uid(),
            pid: self.caller.pid,
            address: bounded(&self.caller.address),
            transport: self.way.map_or("", |(transport, _)| transport.name()).to_owned(),
            interface: self.way.map_or("", |(_, interface)| interface.name()).to_owned(),
            session: text(self.session.as_deref()),
            task: text(self.task.as_deref()),
            request_id: text(self.request_id.as_deref()),
            agent,
            operation,
            risk: risk.to_owned(),
            digest: self.digest,
            decision: if self.kind == Kind::Refused { "refuse" } else { "allow" }.to_owned(),
            rule: bounded(&self.rule),
            outcome: self.outcome.to_owned(),
            duration_us: self
                .duration
                .map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            count: (count != 1).then_some(count),
            ..Record::default()
        }
    }

    fn names(&self) -> (String, String) {
        match &self.target {
            Target::Operation(operation) => (operation.agent.clone(), operation.name.clone()),
            Target::Named(name) => (String::new(), bounded(name)),
        }
    }
}

/// A time as records have it, to the microsecond.
pub(super) fn time(time: SystemTime) -> String {
    let time = Timestamp::from(time);
    Timestamp { nanos: time.nanos / 1000 * 1000, ..time }.to_string()
}

fn bounded(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// The name of a risk in records.
const fn risk(risk: Risk) -> &'static str {
    match risk {
        Risk::Read => "read",
        Risk::Write => "write",
        Risk::Execute => "execute",
        Risk::Deploy => "deploy",
        // One that was forgotten counts as the highest.
        Risk::Admin | Risk::Unspecified => "admin",
    }
}
