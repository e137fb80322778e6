//! A bus and the connection to it: made when it is first needed, made anew when it is lost. What is called
//! over it is its user's matter.

#![expect(clippy::disallowed_types, reason = "this is part of the D-Bus client")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::Mutex;
use zbus::message::{Flags, Message, Type};
use zbus::{DynamicType, MessageStream};

use crate::client::address::Bus;
use crate::client::error::Error;
use crate::client::settings::Settings;

/// A bus.
#[derive(Clone, Debug)]
pub(in crate::client) struct BusConnection {
    bus: Bus,
    connect_timeout: Duration,
    /// The connection that calls share; `None` if each has its own.
    shared: Option<Arc<Mutex<Option<zbus::Connection>>>>,
}

/// What is called.
#[derive(Clone, Copy, Debug)]
pub(in crate::client) struct Object<'a> {
    /// The name on the bus.
    pub(in crate::client) name: &'a str,
    pub(in crate::client) path: &'a str,
    pub(in crate::client) interface: &'a str,
}

/// A connection that stands.
#[derive(Debug)]
pub(in crate::client) struct Connected(zbus::Connection);

impl BusConnection {
    pub(in crate::client) fn new(settings: &Settings) -> Self {
        Self {
            bus: settings.bus.clone(),
            connect_timeout: settings.connect_timeout,
            shared: settings.pool_connections.then(Arc::default),
        }
    }

    pub(in crate::client) const fn bus(&self) -> &Bus {
        &self.bus
    }

    /// A connection; errors are about `target`.
    pub(in crate::client) async fn connection(&self, target: &str) -> Result<Connected, Error> {
        let connect = async || {
            let connected = tokio::time::timeout(self.connect_timeout, connect(&self.bus)).await;
            let connected = connected
                .map_err(|_| format!("no connection within {:?}", self.connect_timeout))
                .and_then(|connected| connected.map_err(|error| error.to_string()));
            connected.map_err(|problem| Error::unreachable(target.to_owned(), problem))
        };
        let Some(shared) = &self.shared else { return connect().await.map(Connected) };
        let mut shared = shared.lock().await;
        if let Some(connection) = shared.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(Connected(connection.clone()));
        }
        let connection = connect().await?;
        *shared = Some(connection.clone());
        Ok(Connected(connection))
    }
}

async fn connect(bus: &Bus) -> zbus::Result<zbus::Connection> {
    let builder = match bus {
        Bus::System => zbus::connection::Builder::system(),
        Bus::Session => zbus::connection::Builder::session(),
        Bus::Address(address) => zbus::connection::Builder::address(address.as_str()),
    };
    builder.build().await
}

impl Connected {
    /// Calls a method.
    pub(in crate::client) async fn call<B>(
        &self,
        object: Object<'_>,
        method: &str,
        body: &B,
    ) -> zbus::Result<Message>
    where
        B: serde::Serialize + DynamicType,
    {
        let Object { name, path, interface } = object;
        self.0.call_method(Some(name), path, Some(interface), method, body).await
    }

    /// Calls a method whose caller may be asked to authenticate first.
    pub(in crate::client) async fn call_interactive<B>(
        &self,
        object: Object<'_>,
        method: &str,
        body: &B,
    ) -> zbus::Result<Message>
    where
        B: serde::Serialize + DynamicType,
    {
        let call = Message::method_call(object.path, method)
            .destination(object.name)
            .interface(object.interface)
            .with_flags(Flags::ALLOW_INTERACTIVE_AUTH)
            .build(body)?;
        let serial = call.primary_header().serial_num();
        // Before the call is sent, so that its reply is not missed.
        let mut incoming = MessageStream::from(&self.0);
        self.0.send(&call).await?;
        while let Some(message) = incoming.next().await {
            let message = message?;
            let header = message.header();
            if header.reply_serial() != Some(serial) {
                continue;
            }
            return match header.message_type() {
                Type::Error => Err(message.into()),
                Type::MethodCall | Type::MethodReturn | Type::Signal => Ok(message),
            };
        }
        let gone = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        Err(zbus::Error::InputOutput(gone.into()))
    }
}
