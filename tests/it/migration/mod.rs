//! Moving clients from D-Bus to gRPC, with the real daemon and a client on either way.

mod canary;
mod ledger;
mod ledger_bounds;
mod ledger_reports;
mod rollout;
mod rollout_steps;
mod story;

use std::collections::HashMap;
use std::path::Path;

use nix::sys::signal::Signal;
use op_dbus::proto::opdbus::v1::{CallJsonRequest, CallJsonResponse};
use serde_json::{Value, json};
use tonic_types::StatusExt as _;
use zbus::{Connection, Variant};

use crate::dbus::{MANAGER, call};
use crate::grpc;
use crate::process::Daemon;

const CALL_JSON: &str = "/opdbus.v1.AgentsService/CallJson";

/// The response, or reason and text of the error.
type Outcome = Result<Value, (String, String)>;

/// A daemon and a client on either way.
struct Ends {
    daemon: Daemon,
    grpc: grpc::Client,
    bus: Connection,
}

impl Ends {
    /// With `config` (TOML), and state in `state`.
    async fn start(config: &str, state: &Path) -> Self {
        let config = format!("{config}\n[storage]\npath = {:?}\n", state.join("state"));
        let daemon = Daemon::start(&config);
        let grpc = grpc::Client::unix(&daemon.grpc_socket()).await;
        let bus = zbus::connection::Builder::address(daemon.bus.address.as_str());
        Self { grpc, bus: bus.build().await.unwrap(), daemon }
    }

    /// Has another `config` taken up.
    fn reload(&self, config: &str, state: &Path) {
        let storage = format!("[storage]\npath = {:?}\n", state.join("state"));
        self.daemon.write_config(&format!("{config}\n{storage}"));
        self.daemon.signal(Signal::SIGHUP);
        self.daemon.wait_for("RELOADING=1");
        self.daemon.wait_for("READY=1");
    }

    async fn over_grpc(&self, agent: &str, operation: &str, arguments: Value) -> Outcome {
        let request = CallJsonRequest {
            agent: agent.to_owned(),
            operation: operation.to_owned(),
            arguments: arguments.to_string(),
        };
        let answer = self.grpc.call::<_, CallJsonResponse>(CALL_JSON, request).await;
        match answer {
            Ok(answer) => Ok(serde_json::from_str(&answer.result).unwrap()),
            Err(status) => {
                let reason = status.get_details_error_info().unwrap().reason;
                Err((reason, status.message().to_owned()))
            }
        }
    }

    async fn over_dbus(&self, agent: &str, operation: &str, arguments: Value) -> Outcome {
        let options: HashMap<&str, Variant<'_>> = HashMap::new();
        let body = (agent, operation, arguments.to_string(), options);
        let reply = call(&self.bus, MANAGER, Some("org.opdbus.Agents1"), "CallJson", &body).await?;
        let (text, _): (String, HashMap<String, Variant<'_>>) = {
            let body = reply.body();
            let (text, _): (String, HashMap<String, Variant<'_>>) = body.deserialize().unwrap();
            (text, HashMap::new())
        };
        Ok(serde_json::from_str(&text).unwrap())
    }

    /// Changes a stage over gRPC.
    async fn set(&self, request: Value) -> Outcome {
        self.over_grpc("migration", "SetStage", request).await
    }

    /// The rule called `name`.
    async fn rule(&self, name: &str) -> Value {
        let stages = self.over_grpc("migration", "ListStages", json!({})).await.unwrap();
        let rules = stages["rules"].as_array().unwrap();
        rules.iter().find(|rule| rule["name"] == name).unwrap().clone()
    }

    /// Stage and, at a canary, share of a rule.
    async fn position(&self, name: &str) -> (String, u64) {
        position(&self.rule(name).await["route"])
    }
}

fn position(route: &Value) -> (String, u64) {
    let stage = route["stage"].as_str().unwrap().trim_start_matches("STAGE_").to_lowercase();
    (stage, route["share_per_10000"].as_u64().unwrap_or_default())
}
