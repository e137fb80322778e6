//! op-dbus's own service for the policy: what it says, and why. It decides on no call.

use std::borrow::Cow;
use std::sync::{Arc, Weak};

use nix::unistd::User;

use super::{Access, Approver, Rule, Subject};
use crate::call::{Attested, Caller, Context, Identity, LoginSession};
use crate::error::{Error, ErrorKind};
use crate::executor::Executor;
use crate::proto::opdbus::v1::{
    self as proto, ExplainRequest, ExplainResponse, ExplainUserRequest, ExplainUserResponse,
    ListRulesRequest, ListRulesResponse, MayApprove, PolicyDecision, PolicyExplanation, PolicyRule,
    PolicyService,
};

/// The implementation of `opdbus.v1.PolicyService`.
pub struct PolicyInForce {
    /// Weak, because the executor's registry holds this service as one of its own.
    executor: Weak<Executor>,
}

impl PolicyInForce {
    /// Tells what holds for calls of `executor`.
    #[must_use]
    pub fn new(executor: &Arc<Executor>) -> Self {
        Self { executor: Arc::downgrade(executor) }
    }

    fn executor(&self) -> Result<Arc<Executor>, Error> {
        let executor = self.executor.upgrade();
        executor.ok_or_else(|| Error::new(ErrorKind::Unavailable, "the service is stopping"))
    }

    async fn explanation(
        &self,
        mut subject: Subject<'_>,
        agent: &str,
        operation: &str,
    ) -> Result<PolicyExplanation, Error> {
        let executor = self.executor()?;
        let route = executor.find(agent, operation)?;
        let operation = &route.operation;
        let access = executor.access.load_full();
        let mut approver_as = subject.clone();
        let verdict = access.decide(&mut subject, operation).await?;
        let may_approve = access.may_approve(&mut approver_as, operation).await?;
        Ok(PolicyExplanation {
            decision: PolicyDecision::from(verdict.decision).into(),
            rule: rule(&access, verdict.rule),
            operation: format!("{}.{}", operation.agent, operation.name),
            risk: operation.risk.into(),
            uid: subject.uid,
            gids: subject.groups.map(Cow::into_owned).unwrap_or_default(),
            may_approve: approver(may_approve),
            login_session: subject
                .session
                .map_or(proto::LoginSession::Unspecified, Into::into)
                .into(),
        })
    }
}

impl PolicyService for PolicyInForce {
    async fn explain(
        &self,
        context: &Context,
        request: ExplainRequest,
    ) -> Result<ExplainResponse, Error> {
        let subject = Subject::unasked(&context.caller).ok_or_else(nobody)?;
        let explanation = self.explanation(subject, &request.agent, &request.operation).await?;
        Ok(ExplainResponse { explanation: Some(explanation) })
    }

    async fn explain_user(
        &self,
        _context: &Context,
        request: ExplainUserRequest,
    ) -> Result<ExplainUserResponse, Error> {
        let ExplainUserRequest { user, agent, operation, token, certificate, login_session } =
            request;
        let session = session(login_session)?;
        let attested = match (&*token, &*certificate, session) {
            ("", "", _) => Attested::Service,
            (token, "", None) => Attested::Token(token.into()),
            ("", certificate, None) => Attested::Certificate(certificate.into()),
            (_, "", Some(_)) | ("", _, Some(_)) => {
                let problem = "has no meaning with a token or a certificate";
                return Err(Error::invalid("login_session", problem));
            }
            (_, _, _) => return Err(Error::invalid("certificate", "excludes a token")),
        };
        let uid = uid_of(user).await?;
        let caller = Caller::new(Identity::User { uid, gid: None }, attested, "explained");
        let subject = Subject::unasked(&caller).ok_or_else(nobody)?.supposing(session);
        let explanation = self.explanation(subject, &agent, &operation).await?;
        Ok(ExplainUserResponse { explanation: Some(explanation) })
    }

    async fn list_rules(
        &self,
        _context: &Context,
        _request: ListRulesRequest,
    ) -> Result<ListRulesResponse, Error> {
        let access = self.executor()?.access.load_full();
        let rules = (0..access.rules().len()).filter_map(|index| rule(&access, index)).collect();
        Ok(ListRulesResponse { rules })
    }
}

fn nobody() -> Error {
    Error::new(ErrorKind::Unauthenticated, "the policy is for users, and nobody is known")
}

/// The login session that a request names.
fn session(number: i32) -> Result<Option<LoginSession>, Error> {
    let known = proto::LoginSession::try_from(number)
        .map_err(|_| Error::invalid("login_session", format!("{number} is none")))?;
    Ok(LoginSession::ALL.into_iter().find(|session| proto::LoginSession::from(*session) == known))
}

/// The id of a user who is named by it or by name.
async fn uid_of(user: String) -> Result<u32, Error> {
    if user.is_empty() {
        return Err(Error::invalid("user", "is missing"));
    }
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    // The database may be far away.
    let found = tokio::task::spawn_blocking({
        let user = user.clone();
        move || User::from_name(&user)
    });
    match found.await {
        Ok(Ok(Some(found))) => Ok(found.uid.as_raw()),
        Ok(Ok(None)) => {
            let text = format!("there is no user {user}");
            Err(Error::new(ErrorKind::NotFound, text).with_fact("user", user))
        }
        Ok(Err(error)) => Err(Error::new(
            ErrorKind::Unavailable,
            format!("the system does not say who {user} is: {error}"),
        )),
        Err(_panicked) => Err(Error::internal("the question who a user is panicked")),
    }
}

fn rule(access: &Access, index: usize) -> Option<PolicyRule> {
    let found: &Rule = access.rules().get(index)?;
    Some(PolicyRule {
        number: u32::try_from(index + 1).unwrap_or(u32::MAX),
        origin: found.origin.clone(),
        who: found.who.to_string(),
        what: found.what(),
        decision: found.decision.map_or(PolicyDecision::Unspecified, Into::into).into(),
        may_approve: approver(found.may_approve),
        reason: found.reason.clone(),
    })
}

fn approver(approver: Option<Approver>) -> i32 {
    approver.map_or(MayApprove::Unspecified, Into::into).into()
}
