//! How far the move to gRPC is, for a client: the rules, the ledger, the report and what comparing both
//! ways found. Nothing is moved here.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::{AgentClient, Answer, CallOptions, Error, Page};
use crate::proto::opdbus::v1::{
    GetReportResponse, ListDifferencesResponse, ListStagesResponse, ListUsesResponse, Way,
};

/// The agent id of op-dbus's own service.
const MIGRATION: &str = "migration";

/// Which uses to list.
#[derive(Clone, Debug, Default)]
pub struct UseFilter {
    /// Only those over this way.
    pub way: Option<Way>,
    /// Only this agent's.
    pub agent: Option<String>,
    /// Only clients whose program, unit, token, name or user id is this.
    pub client: Option<String>,
    /// Only those seen since.
    pub since: Option<SystemTime>,
}

impl AgentClient {
    /// The rules of the rollout, and how far each is.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`].
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn list_stages(
        &self,
        options: &CallOptions,
    ) -> Result<Answer<ListStagesResponse>, Error> {
        self.own(MIGRATION, "ListStages", &json!({}), options).await
    }

    /// A page of who called what over which way, the last seen first.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`].
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn list_uses(
        &self,
        filter: &UseFilter,
        page: Page<'_>,
        options: &CallOptions,
    ) -> Result<Answer<ListUsesResponse>, Error> {
        let mut request = json!({ "page_size": page.size, "page_token": page.token });
        if let Some(way) = filter.way {
            request["way"] = json!(way.as_str_name());
        }
        if let Some(agent) = &filter.agent {
            request["agent"] = json!(agent);
        }
        if let Some(client) = &filter.client {
            request["client"] = json!(client);
        }
        set_since(&mut request, filter.since);
        self.own(MIGRATION, "ListUses", &request, options).await
    }

    /// How the move stands by what was seen since `since`; `None`: for the last seven days.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`].
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn report(
        &self,
        since: Option<SystemTime>,
        options: &CallOptions,
    ) -> Result<Answer<GetReportResponse>, Error> {
        let mut request = json!({});
        set_since(&mut request, since);
        self.own(MIGRATION, "GetReport", &request, options).await
    }

    /// What comparing both ways found to differ; `operation`, as `memory.Recall`: for this one only.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`].
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn list_differences(
        &self,
        operation: Option<&str>,
        options: &CallOptions,
    ) -> Result<Answer<ListDifferencesResponse>, Error> {
        let request = json!({ "operation": operation.unwrap_or_default() });
        self.own(MIGRATION, "ListDifferences", &request, options).await
    }
}

fn set_since(request: &mut Value, since: Option<SystemTime>) {
    if let Some(since) = since {
        request["since"] = json!(prost_types::Timestamp::from(since).to_string());
    }
}
