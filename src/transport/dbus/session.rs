//! The objects of sessions, with `org.opdbus.Session1`: found for their user alone, asked and answered.
//! What they send unasked is in `session_signals.rs`.

use std::collections::BTreeMap;

use zbus::Variant;
use zbus::message::{Header, Message};

use super::call::Shared;
use super::error::Failure;
use super::properties::{microseconds, string};
use super::standard::{self, Options, Shown, StandardMethod, arguments, no_options};
use super::{encode, introspect, text};
use crate::call::{Caller, Context, SessionScope, Transport};
use crate::proto::opdbus::v1::Session;
use crate::session::object_path;

/// The interface of sessions.
pub(super) const SESSION_INTERFACE: &str = "org.opdbus.Session1";

/// Answers a call to the object of a session.
///
/// # Errors
/// `UnknownObject` if there is no such session of the caller's.
pub(super) async fn answer(shared: &Shared, message: &Message) -> Result<Message, Failure> {
    let call = message.header();
    shared.check_size(&call, &message.body()).await?;
    let context = Context::new(shared.caller(&call).await?, Transport::Dbus);
    let member = call.member().map_or("", |member| member.as_str());
    let operation = match member {
        "End" => "EndSession",
        "KeepAlive" => "KeepAlive",
        _ => "GetSession",
    };
    let trail = shared.executor.permit("sessions", operation, &context).await?;
    let answer = permitted(shared, message, &context.caller);
    trail.end(answer.as_ref().err().map(Failure::error).as_ref()).await;
    answer
}

/// Answers a call that the caller may make.
fn permitted(shared: &Shared, message: &Message, caller: &Caller) -> Result<Message, Failure> {
    let call = message.header();
    let path = call.path().map_or("", |path| path.as_str());
    let member = call.member().map_or("", |member| member.as_str());
    let scope = object_path::scope(path).filter(|scope| caller.uid() == Some(scope.uid));
    let found = scope.and_then(|scope| {
        let session = shared.executor.sessions().get(scope.uid, &scope.id).ok()?;
        Some((scope, session))
    });
    let Some((scope, session)) = found else {
        return Err(standard::no_object(path));
    };
    let interface = call.interface().map(|interface| interface.as_str());
    if interface.is_none_or(|interface| interface == SESSION_INTERFACE) {
        match member {
            "End" => return end(shared, &scope, &call, message),
            "KeepAlive" => return keep_alive(shared, &scope, &call, message),
            _ => {}
        }
    }
    standard::answer(&SessionObject(&session), message, "a session", "End, KeepAlive")
}

fn end(
    shared: &Shared,
    scope: &SessionScope,
    call: &Header<'_>,
    message: &Message,
) -> Result<Message, Failure> {
    let body = message.body();
    let (options,): (Options<'_>,) = arguments(&body, "a{sv}")?;
    no_options(&options)?;
    shared.executor.sessions().end(scope.uid, &scope.id)?;
    Ok(encode::built(Message::method_return(call).build(&Options::new()))?)
}

fn keep_alive(
    shared: &Shared,
    scope: &SessionScope,
    call: &Header<'_>,
    message: &Message,
) -> Result<Message, Failure> {
    let body = message.body();
    let (options,): (Options<'_>,) = arguments(&body, "a{sv}")?;
    no_options(&options)?;
    let session = shared.executor.sessions().keep_alive(scope.uid, &scope.id)?;
    let reply = (microseconds(session.expires_at), Options::new());
    Ok(encode::built(Message::method_return(call).build(&reply))?)
}

/// A session as the standard interfaces show it.
struct SessionObject<'a>(&'a Session);

impl Shown for SessionObject<'_> {
    fn has_interface(&self, interface: &str) -> bool {
        interface == SESSION_INTERFACE || StandardMethod::is_interface(interface, false)
    }

    fn interfaces(&self) -> Vec<&str> {
        vec![SESSION_INTERFACE]
    }

    fn properties(&self, interface: &str) -> Vec<(&'static str, Variant<'static>)> {
        if interface == SESSION_INTERFACE { properties(self.0) } else { Vec::new() }
    }

    fn introspection(&self) -> String {
        introspect::session_object()
    }
}

/// The properties of `org.opdbus.Session1`, sorted.
pub(super) fn properties(session: &Session) -> Vec<(&'static str, Variant<'static>)> {
    let shown = |text: &String| text::shown(text).into_owned();
    let metadata: BTreeMap<String, String> =
        session.metadata.iter().map(|(name, value)| (shown(name), shown(value))).collect();
    let agents: Vec<String> = session.agents.iter().map(shown).collect();
    vec![
        ("Agents", agents.into()),
        ("Calls", session.calls.into()),
        ("ClientName", string(&session.client_name)),
        ("ExpiresTime", microseconds(session.expires_at).into()),
        ("Held", session.held.into()),
        ("Id", string(&session.id)),
        ("Metadata", metadata.into()),
        ("StartTime", microseconds(session.started_at).into()),
        ("Transport", string(&session.transport)),
        ("UID", session.uid.into()),
        ("UsedTime", microseconds(session.used_at).into()),
    ]
}
