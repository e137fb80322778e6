//! op-dbus's own service for approvals: who sees which, who decides, requests and responses.

use std::sync::{Arc, Weak};

use tokio::sync::broadcast::error::RecvError;

use super::record::{Record, State};
use super::table::{Ruling, unknown};
use crate::call::{Caller, Context};
use crate::contract::Replies;
use crate::error::{Error, ErrorKind};
use crate::executor::Executor;
use crate::executor::access::{Approver, Subject};
use crate::metrics::Rejection;
use crate::proto::opdbus::v1::{
    ApprovalsService, ApproveRequest, ApproveResponse, GetApprovalRequest, GetApprovalResponse,
    ListApprovalsRequest, ListApprovalsResponse, RejectRequest, RejectResponse,
    WatchApprovalsRequest, WatchApprovalsResponse,
};

/// How many a page of the list has unless its client says otherwise.
const PAGE: usize = 100;

/// How many a page has at most: with their previews they must fit into a response.
const PAGE_MAX: usize = 200;

/// The longest reason, in characters.
const REASON_CHARS: usize = 500;

/// The implementation of `opdbus.v1.ApprovalsService`.
pub struct ApprovalDesk {
    /// Weak, because the executor's registry holds this service as one of its own.
    executor: Weak<Executor>,
}

impl ApprovalDesk {
    /// Decides on what `executor` asks for.
    #[must_use]
    pub fn new(executor: &Arc<Executor>) -> Self {
        Self { executor: Arc::downgrade(executor) }
    }

    fn executor(&self) -> Result<Arc<Executor>, Error> {
        let executor = self.executor.upgrade();
        executor.ok_or_else(|| Error::new(ErrorKind::Unavailable, "the service is stopping"))
    }
}

impl ApprovalsService for ApprovalDesk {
    async fn list_approvals(
        &self,
        context: &Context,
        request: ListApprovalsRequest,
    ) -> Result<ListApprovalsResponse, Error> {
        let executor = self.executor()?;
        let count = match usize::try_from(request.page_size).unwrap_or(usize::MAX) {
            0 => PAGE,
            size if size <= PAGE_MAX => size,
            size => {
                let problem = format!("must be {PAGE_MAX} at most, not {size}");
                return Err(Error::invalid("page_size", problem));
            }
        };
        let before = match request.page_token.as_str() {
            "" => u64::MAX,
            token => {
                let invalid = |_| Error::invalid("page_token", "is none that a page gave");
                token.parse().map_err(invalid)?
            }
        };
        let mut response = ListApprovalsResponse::default();
        let mut last = 0;
        for record in executor.approvals.all() {
            let approval = record.describe();
            let wanted = request.states.is_empty() || request.states.contains(&approval.state);
            if record.number >= before
                || !wanted
                || !sees(&executor, &context.caller, &record).await?
            {
                continue;
            }
            if response.approvals.len() == count {
                response.next_page_token = last.to_string();
                break;
            }
            last = record.number;
            response.approvals.push(approval);
        }
        Ok(response)
    }

    async fn get_approval(
        &self,
        context: &Context,
        request: GetApprovalRequest,
    ) -> Result<GetApprovalResponse, Error> {
        let executor = self.executor()?;
        let record = seen(&executor, context, &request.id).await?;
        Ok(GetApprovalResponse { approval: Some(record.describe()) })
    }

    async fn approve(
        &self,
        context: &Context,
        request: ApproveRequest,
    ) -> Result<ApproveResponse, Error> {
        let approval = self.rule(context, &request.id, Ruling::Approve).await?.describe();
        Ok(ApproveResponse { approval: Some(approval) })
    }

    async fn reject(
        &self,
        context: &Context,
        request: RejectRequest,
    ) -> Result<RejectResponse, Error> {
        let RejectRequest { id, reason } = request;
        let length = reason.chars().count();
        if length > REASON_CHARS {
            let problem = format!("must have {REASON_CHARS} characters at most, not {length}");
            return Err(Error::invalid("reason", problem));
        }
        let approval = self.rule(context, &id, Ruling::Reject { reason }).await?.describe();
        Ok(RejectResponse { approval: Some(approval) })
    }

    async fn watch_approvals(
        &self,
        context: &Context,
        _request: WatchApprovalsRequest,
        replies: Replies<WatchApprovalsResponse>,
    ) -> Result<(), Error> {
        let mut changes = self.executor()?.approvals.changes();
        loop {
            // Now, and whenever changes were missed.
            let pending = self.executor()?.approvals.all().into_iter().rev();
            for record in pending.filter(|record| record.state == State::Pending) {
                self.show(&context.caller, &record, &replies).await?;
            }
            loop {
                match changes.recv().await {
                    Ok(record) => self.show(&context.caller, &record, &replies).await?,
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return Ok(()),
                }
            }
        }
    }
}

impl ApprovalDesk {
    async fn rule(&self, context: &Context, id: &str, ruling: Ruling) -> Result<Record, Error> {
        let executor = self.executor()?;
        let record = seen(&executor, context, id).await?;
        let uid = context.caller.uid().ok_or_else(nobody)?;
        let is_own = record.wanted.uid == uid;
        let may = match executor.approver(&context.caller, &record).await? {
            Some(Approver::All) => true,
            Some(Approver::Others) => !is_own,
            // Nobody needs leave to take his own request back.
            None => is_own && matches!(ruling, Ruling::Reject { .. }),
        };
        if !may {
            executor.reject(Rejection::Denied);
            let text = if is_own {
                "nobody approves a call of his own; somebody else must"
            } else {
                "this user may not decide on this call"
            };
            return Err(Error::new(ErrorKind::AccessDenied, text));
        }
        executor.approvals.decide(id, uid, ruling, &executor.config.load().approvals)
    }

    async fn show(
        &self,
        caller: &Caller,
        record: &Record,
        replies: &Replies<WatchApprovalsResponse>,
    ) -> Result<(), Error> {
        if sees(&*self.executor()?, caller, record).await? {
            let approval = Some(record.describe());
            replies.send(WatchApprovalsResponse { approval }).await?;
        }
        Ok(())
    }
}

impl Executor {
    /// Which calls like the one of `record` the caller may approve.
    async fn approver(&self, caller: &Caller, record: &Record) -> Result<Option<Approver>, Error> {
        let mut subject = Subject::of(caller).ok_or_else(nobody)?;
        let access = self.access.load_full();
        access.may_approve(&mut subject, &record.wanted.operation).await
    }
}

/// The record `id`, if the caller may see it.
async fn seen(executor: &Executor, context: &Context, id: &str) -> Result<Record, Error> {
    if id.is_empty() {
        return Err(Error::invalid("id", "is missing"));
    }
    let record = executor.approvals.find(id).ok_or_else(|| unknown(id))?;
    match sees(executor, &context.caller, &record).await? {
        true => Ok(record),
        false => Err(unknown(id)),
    }
}

/// True if it is the caller's own, or one that he may decide on.
async fn sees(executor: &Executor, caller: &Caller, record: &Record) -> Result<bool, Error> {
    let is_own = caller.uid().ok_or_else(nobody)? == record.wanted.uid;
    Ok(is_own || executor.approver(caller, record).await?.is_some())
}

fn nobody() -> Error {
    Error::new(ErrorKind::Unauthenticated, "approvals are for users, and nobody is known")
}
