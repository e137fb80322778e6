//! The step of a call in which an approval is used, or asked for. It decides on none.

use std::sync::Arc;

use bytes::Bytes;

use super::record::Wanted;
use super::table::required;
use crate::audit::Hash;
use crate::call::Context;
use crate::contract::{Operation, canonical_json, redacted_json};
use crate::error::{Error, ErrorKind};
use crate::executor::access::{Decision, Verdict};
use crate::executor::{Executor, Route};
use crate::metrics::Rejection;
use crate::proto::opdbus::v1::Risk;

impl Executor {
    /// True if a call must pass [`Executor::approve`] before it begins.
    pub(in crate::executor) fn needs_step(context: &Context, verdict: Verdict) -> bool {
        verdict.decision == Decision::Ask || context.approval_id.is_some()
    }

    /// Uses up the approval that the call bears, or asks for one if the policy wants it. `request` is
    /// none for a stream of requests.
    ///
    /// # Errors
    /// `ApprovalRequired` if there is none yet; those of an approval that does not fit.
    pub(in crate::executor) fn approve(
        &self,
        route: &Route,
        context: &mut Context,
        request: Option<&Bytes>,
        verdict: Verdict,
    ) -> Result<(), Error> {
        let asks = verdict.decision == Decision::Ask;
        // What is said to a call that makes others is meant for the one that it makes.
        if !asks && (context.approval_id.is_none() || route.makes_calls()) {
            return Ok(());
        }
        let operation = &route.operation;
        let Some(request) = request else {
            let problem = "a stream of requests cannot be approved beforehand";
            let text = format!("{}.{}: {problem}", operation.agent, operation.name);
            return Err(Error::new(ErrorKind::AccessDenied, text));
        };
        let uid = uid(context)?;
        let digest = digest(operation, request)?;
        if let Some(id) = context.approval_id.take() {
            let approval = self.approvals.claim(&id, uid, operation, digest)?;
            context.approved = Some(Arc::new(approval));
            return Ok(());
        }
        self.reject(Rejection::ApprovalRequired);
        let request = redacted_json(&operation.input, request)?;
        let preview = format!("{}.{} {request}", operation.agent, operation.name);
        let wanted = Wanted { uid, operation: Arc::clone(operation), digest, preview };
        Err(required(&self.approvals.ask(wanted, &self.config.load().approvals)?))
    }

    /// What must be kept of a request in case that its agent wants an approval. An operation that only
    /// reads wants none.
    pub(in crate::executor) fn kept(operation: &Operation, request: &Bytes) -> Option<Bytes> {
        (operation.risk != Risk::Read && operation.is_agents).then(|| request.clone())
    }

    /// The error of a call; if it is that the agent wants an approval, one is asked for.
    pub(in crate::executor) fn asked_by_agent(
        &self,
        route: &Route,
        context: &Context,
        kept: Option<&Bytes>,
        error: Error,
    ) -> Error {
        let (ErrorKind::ApprovalRequired, Some(request)) = (error.kind(), kept) else {
            return error;
        };
        if error.fact("approval_id").is_some() {
            return error;
        }
        let operation = &route.operation;
        let preview = error.fact("preview").unwrap_or(error.message()).to_owned();
        let asked = uid(context).and_then(|uid| {
            let digest = digest(operation, request)?;
            let wanted = Wanted { uid, operation: Arc::clone(operation), digest, preview };
            self.approvals.ask(wanted, &self.config.load().approvals)
        });
        match asked {
            Ok(record) => required(&record),
            Err(error) => error,
        }
    }
}

fn uid(context: &Context) -> Result<u32, Error> {
    let text = "an approval is for a user, and nobody is known";
    context.caller.uid().ok_or_else(|| Error::new(ErrorKind::Unauthenticated, text))
}

/// Of what the request says, since two encodings of one message may differ.
fn digest(operation: &Operation, request: &Bytes) -> Result<Hash, Error> {
    let json = canonical_json(&operation.input, request)?;
    Ok(Hash::of(json.as_bytes()))
}
