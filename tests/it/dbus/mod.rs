//! The D-Bus transport on a real bus, driven by a D-Bus client and by foreign programs.

mod callers;
mod calls;
mod delivery;
mod descriptors;
mod legacy;
mod lifecycle;
mod objects;
mod sessions;
mod states;
mod tasks;
pub mod watch;

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;

use op_dbus::executor::{Config, Executor};
use op_dbus::status::Status;
use op_dbus::transport::dbus::{self, Server};
use zbus::message::Message;
use zbus::{Connection, Variant};

use crate::fixture::{Bus, Service};
use crate::process::PATIENCE;

pub const NAME: &str = "org.opdbus.Agents1";
pub const MANAGER: &str = "/org/opdbus/Agents1";
const PROBE: &str = "/org/opdbus/Agents1/agent/probe";

pub type Options<'a> = HashMap<&'a str, Variant<'a>>;

/// A bus with op-dbus on it, and a client.
pub struct World {
    bus: Bus,
    service: Service,
    server: Option<Server>,
    client: Connection,
}

impl World {
    pub async fn new() -> Self {
        Self::on(Bus::start()).await
    }

    async fn on(bus: Bus) -> Self {
        Self::with(bus, Config::default()).await
    }

    async fn with(bus: Bus, config: Config) -> Self {
        let service = Service::new(config);
        let server = start(&bus, &service).await.unwrap();
        let client = connect(&bus).await;
        Self { bus, service, server: Some(server), client }
    }

    pub async fn call<B>(
        &self,
        path: &str,
        interface: Option<&str>,
        method: &str,
        body: &B,
    ) -> Reply
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        call(&self.client, path, interface, method, body).await
    }

    /// Calls a method of the probe.
    async fn probe<B>(&self, method: &str, body: &B) -> Reply
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        self.call(PROBE, Some("org.opdbus.Probe1"), method, body).await
    }

    fn metrics(&self) -> String {
        self.service.executor.metrics().render().unwrap()
    }

    /// Runs a foreign program on the bus and gives what it prints.
    async fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(arguments).env("DBUS_SYSTEM_BUS_ADDRESS", &self.bus.address);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let (out, err) = (&output.stdout, &output.stderr);
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}{}",
            String::from_utf8_lossy(out),
            String::from_utf8_lossy(err)
        );
        assert!(err.is_empty(), "{program} {arguments:?}: {}", String::from_utf8_lossy(err));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The reply, or name and text of the error.
pub type Reply = Result<Message, (String, String)>;

pub async fn call<B>(
    client: &Connection,
    path: &str,
    interface: Option<&str>,
    method: &str,
    body: &B,
) -> Reply
where
    B: serde::Serialize + zbus::DynamicType,
{
    outcome(client.call_method(Some(NAME), path, interface, method, body).await)
}

fn outcome(reply: zbus::Result<Message>) -> Reply {
    reply.map_err(|error| {
        if let zbus::Error::MethodError(name, text, _) = error {
            return (name.to_string(), text.unwrap_or_default());
        }
        let zbus::Error::FDO(error) = error else { panic!("no reply: {error}") };
        let name = zbus::DBusError::name(&*error).to_string();
        (name, zbus::DBusError::description(&*error).unwrap_or_default().to_owned())
    })
}

pub async fn start(bus: &Bus, service: &Service) -> Result<Server, op_dbus::error::Error> {
    serve(bus, &service.executor, &service.status).await
}

async fn serve(
    bus: &Bus,
    executor: &Arc<Executor>,
    status: &Arc<Status>,
) -> Result<Server, op_dbus::error::Error> {
    serve_as(bus, executor, status, dbus::LegacyName::all().collect()).await
}

/// The same with these older names.
async fn serve_as(
    bus: &Bus,
    executor: &Arc<Executor>,
    status: &Arc<Status>,
    legacy: Vec<dbus::LegacyName>,
) -> Result<Server, op_dbus::error::Error> {
    let config = dbus::Config {
        bus: dbus::Bus::Address(bus.address.clone()),
        name: NAME.to_owned(),
        max_body_bytes: 1024 * 1024,
        legacy,
    };
    dbus::start(config, Arc::clone(executor), Arc::clone(status)).await
}

pub async fn connect(bus: &Bus) -> Connection {
    zbus::connection::Builder::address(bus.address.as_str())
        .method_timeout(PATIENCE)
        .build()
        .await
        .unwrap()
}

/// Has the bus pass on to a client what an object sends to everybody.
async fn hear(client: &Connection, path: &str) {
    let rule = format!("type='signal',sender='{NAME}',path='{path}'");
    let bus = "org.freedesktop.DBus";
    client
        .call_method(Some(bus), "/org/freedesktop/DBus", Some(bus), "AddMatch", &rule)
        .await
        .unwrap();
}

/// Asserts that a call failed with this error, and gives its text.
#[track_caller]
pub fn failed(reply: Reply, name: &str) -> String {
    let (found, text) = reply.expect_err("the call must fail");
    assert_eq!(found, name, "{text}");
    text
}

pub fn none() -> Options<'static> {
    HashMap::new()
}

pub fn with<'a>(name: &'a str, value: impl Into<Variant<'a>>) -> Options<'a> {
    HashMap::from([(name, value.into())])
}
