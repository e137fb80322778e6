//! The policy and approvals for a client: what it may do, what waits for approval, what was decided.

use prost::Message;
use serde_json::{Value, json};

use super::{AgentClient, Answer, CallOptions, Error, Page};
use crate::proto::opdbus::v1::{
    ApproveResponse, ExplainResponse, ExplainUserResponse, GetApprovalResponse,
    ListApprovalsResponse, ListRulesResponse, LoginSession, RejectResponse,
};

/// How a user calls of whom [`AgentClient::explain_user`] tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallsBy<'a> {
    /// Himself, from a login session that cannot be told.
    #[default]
    Himself,
    /// Himself, from such a login session.
    LoginSession(LoginSession),
    /// By the token with this name.
    Token(&'a str),
    /// With a certificate that bears this name.
    Certificate(&'a str),
}

/// The agent ids of op-dbus's own services.
const APPROVALS: &str = "approvals";
const POLICY: &str = "policy";

impl AgentClient {
    /// A page of the approvals that the caller may see, the newest first.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`].
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn list_approvals(
        &self,
        page: Page<'_>,
        options: &CallOptions,
    ) -> Result<Answer<ListApprovalsResponse>, Error> {
        let request = json!({ "page_size": page.size, "page_token": page.token });
        self.own(APPROVALS, "ListApprovals", &request, options).await
    }

    /// One approval.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`]; `NotFound` for one that the caller may not see.
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn approval(
        &self,
        id: &str,
        options: &CallOptions,
    ) -> Result<Answer<GetApprovalResponse>, Error> {
        self.own(APPROVALS, "GetApproval", &json!({ "id": id }), options).await
    }

    /// Approves a call, which its caller must then make anew.
    ///
    /// # Errors
    /// As [`AgentClient::approval`]; `AccessDenied` if the caller may not, as for a call of his own.
    ///
    /// # Cancel safety
    /// The call is given up; it may have been approved.
    pub async fn approve(
        &self,
        id: &str,
        options: &CallOptions,
    ) -> Result<Answer<ApproveResponse>, Error> {
        self.own(APPROVALS, "Approve", &json!({ "id": id }), options).await
    }

    /// Rejects a call; `reason` is told to its caller.
    ///
    /// # Errors
    /// As [`AgentClient::approve`].
    ///
    /// # Cancel safety
    /// The call is given up; it may have been rejected.
    pub async fn reject(
        &self,
        id: &str,
        reason: &str,
        options: &CallOptions,
    ) -> Result<Answer<RejectResponse>, Error> {
        self.own(APPROVALS, "Reject", &json!({ "id": id, "reason": reason }), options).await
    }

    /// What would come of a call of the caller's own.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`]; `UnknownAgent`, `UnknownOperation`.
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn explain(
        &self,
        agent: &str,
        operation: &str,
        options: &CallOptions,
    ) -> Result<Answer<ExplainResponse>, Error> {
        let request = json!({ "agent": agent, "operation": operation });
        self.own(POLICY, "Explain", &request, options).await
    }

    /// What would come of a call of `user`, who is named or numbered and calls so.
    ///
    /// # Errors
    /// As [`AgentClient::explain`]; `NotFound` if there is no such user.
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn explain_user(
        &self,
        user: &str,
        by: CallsBy<'_>,
        agent: &str,
        operation: &str,
        options: &CallOptions,
    ) -> Result<Answer<ExplainUserResponse>, Error> {
        let mut request = json!({ "user": user, "agent": agent, "operation": operation });
        match by {
            CallsBy::Himself => {}
            CallsBy::LoginSession(session) => {
                request["login_session"] = json!(session.as_str_name())
            }
            CallsBy::Token(name) => request["token"] = json!(name),
            CallsBy::Certificate(name) => request["certificate"] = json!(name),
        }
        self.own(POLICY, "ExplainUser", &request, options).await
    }

    /// The rules of the policy, in their order.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`].
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn list_rules(
        &self,
        options: &CallOptions,
    ) -> Result<Answer<ListRulesResponse>, Error> {
        self.own(POLICY, "ListRules", &json!({}), options).await
    }

    /// Calls an operation of op-dbus's own, whose response is named after it.
    pub(super) async fn own<T: Message + Default>(
        &self,
        agent: &str,
        operation: &str,
        request: &Value,
        options: &CallOptions,
    ) -> Result<Answer<T>, Error> {
        let json = self.call_json(agent, operation, &request.to_string(), options).await?;
        Answer::new(&format!("{operation}Response"), json)
    }
}
