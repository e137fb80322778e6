//! The older D-Bus interface on a real bus, by clients that know nothing but it.

mod commands;
mod failures;
mod names;
mod operations;
mod shown;
mod signals;

use op_dbus::executor::Config;
use op_dbus::transport::dbus::LegacyName;
use serde_json::{Value, json};
use zbus::Connection;

use super::{Reply, World, connect, serve_as};
use crate::fixture::{Bus, Service};

const INTERFACE: &str = "org.dbusmcp.Agent";

fn bus_name(agent: &str) -> String {
    format!("{INTERFACE}.{agent}")
}

fn path(agent: &str) -> String {
    format!("/org/dbusmcp/Agent/{agent}").replace('.', "/")
}

/// Calls a method of an older agent by its own name, of its one interface or the first generation's.
async fn ask<B>(client: &Connection, agent: &str, is_first: bool, method: &str, body: &B) -> Reply
where
    B: serde::Serialize + zbus::DynamicType,
{
    let interface = match is_first {
        true => bus_name(agent.split('.').next().unwrap()),
        false => INTERFACE.to_owned(),
    };
    let call = client.call_method(
        Some(bus_name(agent)),
        path(agent),
        Some(interface.as_str()),
        method,
        body,
    );
    super::outcome(call.await)
}

/// The result of a task, as JSON.
#[track_caller]
fn result(reply: Reply) -> Value {
    let reply = reply.unwrap();
    serde_json::from_str(reply.body().deserialize().unwrap()).unwrap()
}

impl World {
    /// `RunOperation`.
    async fn operate(&self, agent: &str, operation: &str, path: &str, args: &str) -> Value {
        let body = (operation, path, args);
        result(ask(&self.client, agent, false, "RunOperation", &body).await)
    }

    /// `Execute` with a task of the agent's type.
    async fn execute(&self, agent: &str, task: Value) -> Value {
        result(ask(&self.client, agent, false, "Execute", &task.to_string()).await)
    }

    /// What an operation gives whose `data` older clients read.
    async fn data(&self, agent: &str, operation: &str, path: &str, args: &str) -> String {
        let result = self.operate(agent, operation, path, args).await;
        assert_eq!(result["success"], true, "{result}");
        assert_eq!(result["operation"], operation, "{result}");
        result["data"].as_str().unwrap().to_owned()
    }

    /// The calls that are counted with these labels of `interface`, `operation`, `outcome`.
    fn counted(&self, agent: &str, interface: &str, operation: &str, outcome: &str) -> u64 {
        let line = format!(
            "opdbus_calls_total{{agent=\"{agent}\",interface=\"{interface}\",operation=\"{operation}\",\
             outcome=\"{outcome}\",transport=\"dbus\"}} "
        );
        let metrics = self.metrics();
        let value = metrics.lines().find_map(|found| found.strip_prefix(&line));
        value.map_or(0, |value| value.parse().unwrap())
    }
}

/// A world with these older names only.
async fn with_names(names: &[&str]) -> World {
    on_bus(Bus::start(), names).await
}

async fn on_bus(bus: Bus, names: &[&str]) -> World {
    let service = Service::new(Config::default());
    let names = names.iter().map(|name| LegacyName::parse(name).unwrap()).collect();
    let server = serve_as(&bus, &service.executor, &service.status, names).await.unwrap();
    let client = connect(&bus).await;
    World { bus, service, server: Some(server), client }
}

/// A task of memory.
fn memory(operation: &str, path: &str, args: &str) -> Value {
    json!({ "type": "memory", "operation": operation, "path": path, "args": args })
}
