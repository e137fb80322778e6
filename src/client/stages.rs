//! The rollout for a client that follows or moves it: routes, stages, and what other rules would do.

use serde_json::json;

use super::{AgentClient, Answer, CallOptions, Error};
use crate::proto::opdbus::v1::{
    GetRoutesResponse, SetStageRequest, SetStageResponse, SimulateResponse,
};

/// The agent id of op-dbus's own service.
const MIGRATION: &str = "migration";

impl AgentClient {
    /// The stages that hold for the calls of this client, which calls itself `name`; empty: nothing.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`].
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn routes(
        &self,
        name: &str,
        options: &CallOptions,
    ) -> Result<Answer<GetRoutesResponse>, Error> {
        self.own(MIGRATION, "GetRoutes", &json!({ "name": name }), options).await
    }

    /// Takes a rule somewhere else, or holds or releases it.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`]; `Conflict` if the step is not safe and not forced, `NotFound` if there is
    /// no such rule.
    ///
    /// # Cancel safety
    /// The call is given up; the step may have been taken.
    pub async fn set_stage(
        &self,
        request: &SetStageRequest,
        options: &CallOptions,
    ) -> Result<Answer<SetStageResponse>, Error> {
        let request = json!({
            "rule": request.rule,
            "change": request.change().as_str_name(),
            "stage": request.stage().as_str_name(),
            "share_per_10000": request.share_per_10000,
            "reason": request.reason,
            "force": request.force,
        });
        self.own(MIGRATION, "SetStage", &request, options).await
    }

    /// What `rules`, the `[migration]` part of a configuration, would do to the calls of the last day.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`]; `InvalidArgument` with every problem of the rules.
    ///
    /// # Cancel safety
    /// The call is given up.
    pub async fn simulate(
        &self,
        rules: &str,
        options: &CallOptions,
    ) -> Result<Answer<SimulateResponse>, Error> {
        self.own(MIGRATION, "Simulate", &json!({ "rules": rules }), options).await
    }
}
