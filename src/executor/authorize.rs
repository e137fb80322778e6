//! Asks the policy about a call, and says to its caller no more than that it was refused; why stands in
//! the log.

use std::borrow::Cow;

use super::access::{Decision, Subject, Verdict};
use super::{Executor, Route, Trail};
use crate::call::{Caller, Context, Scope};
use crate::contract::Operation;
use crate::error::{Error, ErrorKind};
use crate::metrics::Rejection;
use crate::proto::opdbus::v1::Risk;

impl Executor {
    /// Decides whether the caller of `context` may do what `operation` of `agent` does, for a transport
    /// whose objects answer it themselves. They end the trail with what they answer.
    ///
    /// # Errors
    /// `UnknownAgent` or `UnknownOperation`; `Unauthenticated` or `AccessDenied` if he may not;
    /// `ApprovalRequired` if somebody must approve it, which can be done for calls of the operation
    /// only; `Unavailable` if it cannot be told; `BackendUnavailable` or `LimitExceeded` if it cannot be
    /// recorded.
    ///
    /// # Cancel safety
    /// Nothing was permitted.
    pub async fn permit(
        &self,
        agent: &str,
        operation: &str,
        context: &Context,
    ) -> Result<Trail, Error> {
        let route = self.find(agent, operation)?;
        let mut trail = Trail::new(self, &route, context);
        match self.permit_on(&route, context, &mut trail).await {
            Ok(()) => Ok(trail),
            Err(error) => {
                trail.end(Some(&error)).await;
                Err(error)
            }
        }
    }

    async fn permit_on(
        &self,
        route: &Route,
        context: &Context,
        trail: &mut Trail,
    ) -> Result<(), Error> {
        let (verdict, rule) = self.authorize(route, &context.caller).await?;
        match verdict.decision {
            Decision::Allow => trail.allowed(&rule, None).await,
            Decision::Auth => {
                let rule = Box::pin(self.consult(route, context, None, &rule)).await?;
                trail.allowed(&rule, None).await
            }
            Decision::Ask | Decision::Deny => {
                self.reject(Rejection::ApprovalRequired);
                let (agent, name) = (&route.operation.agent, &route.operation.name);
                let text = format!("this must be approved; call {agent}.{name} instead");
                Err(Error::new(ErrorKind::ApprovalRequired, text).refused_by(rule))
            }
        }
    }

    /// What the policy says to a call that it does not refuse, and the rule that says so; a call that
    /// leaves no record is told none.
    ///
    /// # Errors
    /// `Unauthenticated` if nobody vouches for the caller, `AccessDenied` if the policy refuses,
    /// `Unavailable` if it asks for his groups and they cannot be told.
    pub(super) async fn authorize(
        &self,
        route: &Route,
        caller: &Caller,
    ) -> Result<(Verdict, Cow<'static, str>), Error> {
        let Some(mut subject) = Subject::of(caller) else {
            self.reject(Rejection::Unauthenticated);
            let text = "the service cannot tell which user is calling";
            return Err(Error::new(ErrorKind::Unauthenticated, text).refused_by("no user"));
        };
        let operation = &route.operation;
        // Before the rules, which may let the user do more than what the client has a token for.
        within_scope(caller, operation).inspect_err(|_| self.reject(Rejection::Denied))?;
        let access = self.access.load_full();
        let verdict = match access.decide_at_once(&subject, operation) {
            Some(verdict) => verdict,
            // Boxed, so that the other calls do not carry its size.
            None => Box::pin(access.decide(&mut subject, operation)).await?,
        };
        if verdict.decision == Decision::Deny {
            return Err(self.denied(operation, caller, access.describe(verdict.rule)));
        }
        let leaves_record = operation.risk != Risk::Read || verdict.decision != Decision::Allow;
        let rule = match leaves_record {
            true => Cow::Owned(access.describe(verdict.rule)),
            false => Cow::Borrowed(""),
        };
        Ok((verdict, rule))
    }

    /// Counts and logs that `rule` refuses a call, and gives what its caller is told.
    pub(super) fn denied(&self, operation: &Operation, caller: &Caller, rule: String) -> Error {
        self.reject(Rejection::Denied);
        let (agent, name) = (&operation.agent, &operation.name);
        tracing::info!(
            agent,
            operation = name,
            caller_uid = caller.uid(),
            caller = %caller.address,
            "{agent}.{name} is refused to {caller} by {rule}"
        );
        let text = format!("{agent}.{name} is not allowed");
        Error::new(ErrorKind::AccessDenied, text).refused_by(rule)
    }

    /// Warnings about rules of the configuration that are about no operation which is served.
    #[must_use]
    pub fn rules_about_nothing(&self) -> Vec<String> {
        let (config, routes) = (self.config.load(), self.routes.load());
        let idle = config.policy.about_nothing(&routes);
        idle.map(|rule| {
            format!("[[policy]] {}: no operation is meant by: {}", rule.origin, rule.what())
        })
        .collect()
    }
}

/// Holds a caller with a token or certificate to what that is limited to.
///
/// # Errors
/// `AccessDenied` if the operation lies outside.
fn within_scope(caller: &Caller, operation: &Operation) -> Result<(), Error> {
    let allows = |scope: &Scope| scope.allows(&operation.agent, &operation.name, operation.risk);
    if caller.scope.as_deref().is_none_or(allows) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::AccessDenied,
        format!("{} is not for {}.{}", caller.attested, operation.agent, operation.name),
    )
    .refused_by("the scope of the token or certificate"))
}
