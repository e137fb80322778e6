//! Calls over D-Bus, to the typed interfaces of op-dbus: a request becomes the arguments of a method and
//! its reply the response. It chooses nothing.

mod bus;
mod error;
mod options;
mod stream;

use bytes::Bytes;
use futures_util::FutureExt as _;

use super::address::Target;
use super::call::{Call, CallOptions, Payload, StreamCall};
use super::carrier::{Carrier, Pending};
use super::error::{Error, Failure};
use super::json;
use super::known::{self, Known};
use super::settings::Settings;
use super::stream::Messages;
use super::way::Way;
use crate::error::ErrorKind;
use crate::wire::dbus::decode;
use crate::wire::dbus::plan::Method;
use crate::wire::dbus::request::Request;
pub(super) use bus::{BusConnection, Object};
pub(super) use error::failed;

/// The service's name on a bus and the connection to that, which is made when it is first needed.
#[derive(Clone, Debug)]
pub(super) struct Dbus {
    bus: BusConnection,
    name: String,
    client_name: Option<String>,
}

impl Dbus {
    /// The way to the service called `settings.name` on the bus.
    ///
    /// # Errors
    /// Why there can be none.
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let name = &settings.name;
        zbus::names::WellKnownName::try_from(name.as_str())
            .map_err(|_| format!("{name:?} is no bus name"))?;
        Ok(Self {
            bus: BusConnection::new(settings),
            name: name.clone(),
            client_name: settings.client_name.clone(),
        })
    }

    fn target(&self) -> String {
        Target::Dbus { bus: self.bus.bus().clone(), name: self.name.clone() }.to_string()
    }

    /// Makes the call of an operation that this build knows.
    async fn unary(
        &self,
        path: &str,
        request: &Bytes,
        call_options: &CallOptions,
    ) -> Result<Bytes, Error> {
        let (known, method) = found(path)?;
        let options = options::write(call_options, self.client_name.as_deref())?;
        let interactive = call_options.interactive;
        let reply = self.send(&known, method, request, &options, interactive).await?;
        Ok(decode::response(method, &reply.body())?.into())
    }

    /// Sends a call and waits for its reply.
    async fn send(
        &self,
        known: &Known,
        method: &Method,
        request: &[u8],
        options: &[(&str, zbus::Variant<'_>)],
        interactive: bool,
    ) -> Result<zbus::Message, Error> {
        let request = Request::new(method, request, options)?;
        let object = Object {
            name: &self.name,
            path: &known.service.object_path,
            interface: &known.service.interface,
        };
        let connection = self.bus.connection(&self.target()).await?;
        let body = request.body();
        let reply = match interactive {
            false => connection.call(object, &method.name, &body).await,
            true => connection.call_interactive(object, &method.name, &body).await,
        };
        reply.map_err(|error| match request.into_error(error) {
            Ok(error) => error.into(),
            Err(error) => failed(&error, &self.target()),
        })
    }

    async fn answer(&self, call: Call) -> Result<Payload, Error> {
        match call.request {
            Payload::Message(request) => {
                let response = self.unary(&call.rpc.path, &request, &call.options).await?;
                Ok(Payload::Message(response))
            }
            Payload::Json(arguments) => {
                let request = json::request(&call.rpc, arguments);
                let response = self.unary(json::CALL_JSON, &request, &call.options).await?;
                json::result(response).map(Payload::Json)
            }
        }
    }
}

/// The operation at a path on gRPC, and how it is called over D-Bus.
fn found(path: &str) -> Result<(Known, &'static Method), Error> {
    let unknown = |problem: String| Failure::new(ErrorKind::UnknownOperation, problem);
    let known = known::at(path)?.ok_or_else(|| {
        unknown(format!("{path:?} is not known to this client, which calls it with JSON only"))
    })?;
    let method = known.method()?.ok_or_else(|| {
        unknown(format!("{path} is served over gRPC only; connect to the gRPC address"))
    })?;
    Ok((known, method))
}

impl Carrier for Dbus {
    fn way(&self) -> Way {
        Way::Dbus
    }

    fn target(&self) -> String {
        Self::target(self)
    }

    fn ready(&self) -> Pending<'_, ()> {
        async { self.bus.connection(&self.target()).await.map(drop) }.boxed()
    }

    fn call(&self, call: Call) -> Pending<'_, Payload> {
        self.answer(call).boxed()
    }

    fn stream(&self, call: StreamCall) -> Pending<'_, Messages> {
        self.open(call).boxed()
    }
}
