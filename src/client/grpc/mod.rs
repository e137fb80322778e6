//! Calls over gRPC: the connection, what a call says beside its request, and gRPC's errors as the client's.
//! It chooses nothing.

#![expect(clippy::disallowed_types, reason = "this is the gRPC client")]

mod connect;
mod encoded;
mod error;
mod exchange;
mod metadata;

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use http::uri::PathAndQuery;
use tokio::sync::Mutex;
use tonic::client::Grpc as Codecs;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Extensions, Request};

use super::address::GrpcAddress;
use super::call::{Call, CallOptions, Payload, Rpc, StreamCall};
use super::carrier::{Carrier, Pending};
use super::error::{Error, Failure};
use super::json;
use super::settings::Settings;
use super::stream::Messages;
use super::way::Way;
use super::{GRACE, MAX_ANSWER_BYTES};
use crate::error::ErrorKind;
use connect::Place;
use encoded::Encoded;
use exchange::Connection;
use metadata::Usual;

/// What the library calls itself.
const USER_AGENT: &str = concat!("op-dbus/", env!("CARGO_PKG_VERSION"));

/// A gRPC address and the connection to it, which is made when it is first needed, and again after its end.
#[derive(Debug)]
pub(super) struct Grpc {
    address: GrpcAddress,
    place: Place,
    connect_timeout: Duration,
    /// What every call says.
    usual: Usual,
    /// Whether calls share a connection.
    pooled: bool,
    /// The one that they share. Who makes it holds the lock, so that it is made once.
    shared: Mutex<Option<Connection>>,
}

impl Grpc {
    /// The way to `address`.
    ///
    /// # Errors
    /// Why there can be none.
    pub(super) fn new(address: &GrpcAddress, settings: &Settings) -> Result<Self, String> {
        let credentials = &settings.credentials;
        let place = Place::new(address, credentials, settings.connect_timeout)?;
        let token = match address {
            GrpcAddress::Unix(_) | GrpcAddress::Https(_) => credentials.token(),
            GrpcAddress::Http(_) => credentials.token_in_the_open(place.origin())?,
        };
        let mut metadata = MetadataMap::new();
        metadata.insert("user-agent", MetadataValue::from_static(USER_AGENT));
        if let Some(token) = token {
            metadata.insert("authorization", token);
        }
        if let Some(name) = &settings.client_name {
            let name = MetadataValue::<Ascii>::try_from(name.as_str());
            metadata.insert("opdbus-client-name", name.map_err(|_| "the name is not ASCII")?);
        }
        Ok(Self {
            address: address.clone(),
            place,
            connect_timeout: settings.connect_timeout,
            usual: Usual::new(metadata, settings.request_timeout)
                .map_err(|failure| failure.message)?,
            pooled: settings.pool_connections,
            shared: Mutex::new(None),
        })
    }

    /// A connection: the one that all calls share, or one of its own.
    async fn connection(&self) -> Result<Connection, Error> {
        if !self.pooled {
            return self.connect().await;
        }
        let mut shared = self.shared.lock().await;
        if let Some(connection) = shared.as_mut()
            && connection.is_open()
        {
            return Ok(connection.clone());
        }
        Ok(shared.insert(self.connect().await?).clone())
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let problem = match tokio::time::timeout(self.connect_timeout, self.place.connect()).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error::no_connection(&*error),
            Err(_) => format!("no connection within {:?}", self.connect_timeout),
        };
        Err(Error::unreachable(self.target(), problem))
    }

    /// What makes a call.
    async fn codecs(&self) -> Result<Codecs<Connection>, Error> {
        let codecs = Codecs::with_origin(self.connection().await?, self.place.origin().clone());
        Ok(codecs.max_decoding_message_size(MAX_ANSWER_BYTES))
    }

    async fn unary(
        &self,
        path: PathAndQuery,
        request: Bytes,
        options: &CallOptions,
    ) -> Result<Bytes, Error> {
        let metadata = self.usual.with(options)?;
        let request = Request::from_parts(metadata, Extensions::default(), request);
        let response = self.codecs().await?.unary(request, path, Encoded).await;
        response.map(tonic::Response::into_inner).map_err(|status| self.failed(&status))
    }

    async fn answer(&self, call: Call) -> Result<Payload, Error> {
        match call.request {
            Payload::Message(request) => {
                let path = path(&call.rpc)?;
                self.unary(path, request, &call.options).await.map(Payload::Message)
            }
            Payload::Json(arguments) => {
                let path = PathAndQuery::from_static(json::CALL_JSON);
                let request = json::request(&call.rpc, arguments);
                let response = self.unary(path, request, &call.options).await?;
                json::result(response).map(Payload::Json)
            }
        }
    }

    async fn open(&self, call: StreamCall) -> Result<Messages, Error> {
        let path = path(&call.rpc)?;
        let metadata = self.usual.with(&call.options.cancelling())?;
        let requests = call.requests.stream();
        let request = Request::from_parts(metadata, Extensions::default(), requests);
        let mut codecs = self.codecs().await?;
        let opening = codecs.streaming(request, path, Encoded);
        let response = match call.options.timeout {
            None => opening.await,
            Some(left) => tokio::time::timeout(left.saturating_add(GRACE), opening)
                .await
                .map_err(|_| Failure::no_answer(left))?,
        };
        let response = response.map_err(|status| self.failed(&status))?;
        let task_id = response.metadata().get("opdbus-task-id");
        let task_id = task_id.and_then(|id| id.to_str().ok()).map(str::to_owned);
        let https = self.is_https();
        let messages = response.into_inner();
        let messages =
            messages.map(move |message| message.map_err(|status| error::failed(&status, https)));
        Ok(Messages::new(task_id, messages))
    }

    fn failed(&self, status: &tonic::Status) -> Error {
        error::failed(status, self.is_https())
    }

    const fn is_https(&self) -> bool {
        matches!(self.address, GrpcAddress::Https(_))
    }
}

/// The path of an operation.
fn path(rpc: &Rpc) -> Result<PathAndQuery, Failure> {
    if rpc.path.is_empty() {
        let problem = format!("{rpc} is not known to this client, which calls it with JSON only");
        return Err(Failure::new(ErrorKind::UnknownOperation, problem));
    }
    let path = match &rpc.path {
        Cow::Borrowed(path) => PathAndQuery::from_maybe_shared(Bytes::from_static(path.as_bytes())),
        Cow::Owned(path) => PathAndQuery::try_from(path.as_str()),
    };
    path.map_err(|error| Failure::new(ErrorKind::InvalidArgument, format!("path: {error}")))
}

impl Carrier for Grpc {
    fn way(&self) -> Way {
        Way::Grpc
    }

    fn target(&self) -> String {
        format!("gRPC at {}", self.address)
    }

    fn ready(&self) -> Pending<'_, ()> {
        async { self.connection().await.map(drop) }.boxed()
    }

    fn call(&self, call: Call) -> Pending<'_, Payload> {
        self.answer(call).boxed()
    }

    fn stream(&self, call: StreamCall) -> Pending<'_, Messages> {
        self.open(call).boxed()
    }
}
