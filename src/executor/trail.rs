//! What a call leaves in the audit log: a record of it if it is above READ, and of every refusal. The
//! place for the record is taken before anything is done. How records are kept is not known here.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::{Executor, Route};
use crate::audit::{Audit, Event, Hash, Kind, Place, Target};
use crate::call::{Caller, Context, Interface, Transport};
use crate::contract::Operation;
use crate::error::{Error, ErrorKind};
use crate::metrics::Rejection;
use crate::proto::opdbus::v1::Risk;

/// The way of one call through the log. Dropping it before [`Trail::end`] means that the client gave
/// the call up.
#[must_use]
pub struct Trail(Option<Box<Steps>>);

struct Steps {
    audit: Arc<Audit>,
    caller: Arc<Caller>,
    way: (Transport, Interface),
    session: Option<Arc<str>>,
    request_id: Option<Box<str>>,
    task: Option<Box<str>>,
    operation: Arc<Operation>,
    received: Instant,
    /// Of a call that is recorded whatever becomes of it.
    allowed: Option<Allowed>,
}

struct Allowed {
    /// Where its next record goes.
    place: Option<Place>,
    rule: Cow<'static, str>,
    digest: Option<Hash>,
}

impl Executor {
    /// Counts a call that a transport refused before it was one, and records it. `what`: what the
    /// client named, as far as the transport looked.
    pub fn refuse(
        &self,
        rejection: Rejection,
        (caller, way): (&Arc<Caller>, (Transport, Interface)),
        what: &str,
        error: &Error,
    ) {
        self.reject(rejection);
        if let Some(audit) = &self.audit {
            audit.refused(Event {
                kind: Kind::Refused,
                time: SystemTime::now(),
                caller: Arc::clone(caller),
                way: Some(way),
                session: None,
                task: None,
                request_id: None,
                target: Target::Named(what.into()),
                digest: None,
                rule: rule_of(error),
                outcome: error.kind().reason(),
                duration: None,
            });
        }
    }
}

impl Trail {
    pub(super) fn new(executor: &Executor, route: &Route, context: &Context) -> Self {
        Self(executor.audit.as_ref().map(|audit| {
            Box::new(Steps {
                audit: Arc::clone(audit),
                caller: Arc::clone(&context.caller),
                way: (context.transport, context.interface),
                session: context.session.clone(),
                request_id: context.request_id.clone(),
                task: None,
                operation: Arc::clone(&route.operation),
                received: context.received,
                allowed: None,
            })
        }))
    }

    /// Notes that `rule` lets the call in. From here on it is recorded if it is above READ; `request`:
    /// the encoded request, if there is a single one.
    ///
    /// # Errors
    /// Why the call cannot be recorded, and so is not to be made.
    ///
    /// # Cancel safety
    /// The call was not let in.
    pub(super) async fn allowed(
        &mut self,
        rule: &str,
        request: Option<&[u8]>,
    ) -> Result<(), Error> {
        let Some(steps) = &mut self.0 else { return Ok(()) };
        if steps.operation.risk == Risk::Read {
            return Ok(());
        }
        let place = steps.audit.reserve().await;
        let place = place.map_err(|error| error.refused_by("audit.on_failure"))?;
        let digest = request.map(|request| steps.audit.digest(request));
        steps.allowed =
            Some(Allowed { place: Some(place), rule: Cow::Owned(rule.to_owned()), digest });
        Ok(())
    }

    /// Notes that the call is the task `id`.
    pub(super) fn is_task(&mut self, id: &str) {
        if let Some(steps) = &mut self.0 {
            steps.task = Some(id.into());
        }
    }

    /// Records that the task begins.
    pub(super) async fn begins(&mut self) {
        let Some(steps) = &mut self.0 else { return };
        let place = steps.allowed.as_mut().and_then(|allowed| allowed.place.take());
        if let Some(place) = place {
            let event = Event { duration: None, ..steps.event(Kind::Start, None) };
            steps.audit.record(place, event).await;
        }
    }

    /// Records how the call ended, and waits until it may be answered.
    pub async fn end(mut self, error: Option<&Error>) {
        let Some(mut steps) = self.0.take() else { return };
        if let Some(error) = error.filter(|error| !steps.has_begun() && is_refusal(error)) {
            return steps.refused(error);
        }
        if steps.allowed.is_some() {
            // Boxed, so that calls that leave no record do not carry its size.
            Box::pin(steps.recorded(error.map(Error::kind))).await;
        }
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        let Some(mut steps) = self.0.take() else { return };
        let Some(allowed) = &mut steps.allowed else { return };
        let place = allowed.place.take();
        let kind = if place.is_some() { Kind::Call } else { Kind::End };
        let event = steps.event(kind, Some(ErrorKind::Cancelled));
        match place {
            Some(place) => steps.audit.record_soon(place, event),
            None => steps.audit.record_late(event),
        }
    }
}

impl Steps {
    /// True if it was recorded that the call begins, so that its end must be.
    fn has_begun(&self) -> bool {
        self.allowed.as_ref().is_some_and(|allowed| allowed.place.is_none())
    }

    /// Records the end of the call: a record of its own kind only where there is one of its beginning. So
    /// a call that finds the task of an earlier one leaves what a repeated call with one answer leaves.
    async fn recorded(&mut self, error: Option<ErrorKind>) {
        let kind = if self.has_begun() { Kind::End } else { Kind::Call };
        let event = self.event(kind, error);
        let place = self.allowed.as_mut().and_then(|allowed| allowed.place.take());
        let place = match place {
            Some(place) => Ok(place),
            None => self.audit.reserve().await,
        };
        match place {
            Ok(place) => self.audit.record(place, event).await,
            Err(_) => self.audit.record_late(event),
        }
    }

    fn refused(&self, error: &Error) {
        let event = self.event(Kind::Refused, Some(error.kind()));
        self.audit.refused(Event { rule: rule_of(error), ..event });
    }

    fn event(&self, kind: Kind, error: Option<ErrorKind>) -> Event {
        let allowed = self.allowed.as_ref();
        Event {
            kind,
            time: SystemTime::now(),
            caller: Arc::clone(&self.caller),
            way: Some(self.way),
            session: self.session.clone(),
            task: self.task.clone(),
            request_id: self.request_id.clone(),
            target: Target::Operation(Arc::clone(&self.operation)),
            digest: allowed.and_then(|allowed| allowed.digest),
            rule: allowed.map_or(Cow::Borrowed(""), |allowed| allowed.rule.clone()),
            outcome: error.map_or("OK", ErrorKind::reason),
            duration: Some(self.received.elapsed()),
        }
    }
}

/// True if the call was turned away, by a rule or a limit, and had no effect.
fn is_refusal(error: &Error) -> bool {
    error.refusal().is_some() || error.kind() == ErrorKind::LimitExceeded
}

/// The rule or limit that a refusal is due to.
fn rule_of(error: &Error) -> Cow<'static, str> {
    let rule = error.refusal().or_else(|| error.fact("limit"));
    rule.map_or(Cow::Borrowed(""), |rule| Cow::Owned(rule.to_owned()))
}
