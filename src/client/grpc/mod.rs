//! Calls over gRPC: the connection, what a call says beside its request, and gRPC's errors as the client's.
//! It chooses nothing.

#![expect(clippy::disallowed_types, reason = "this is the gRPC client")]

mod encoded;
mod error;
mod metadata;

use std::borrow::Cow;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use http::uri::PathAndQuery;
use tokio::sync::OnceCell;
use tonic::client::Grpc as Codecs;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Extensions, Request};

use super::MAX_ANSWER_BYTES;
use super::address::GrpcAddress;
use super::call::{Call, CallOptions, Payload, Rpc, StreamCall};
use super::carrier::{Carrier, Pending};
use super::error::{Error, Failure};
use super::json;
use super::settings::Settings;
use super::stream::Messages;
use super::way::Way;
use crate::error::ErrorKind;
use encoded::Encoded;
use error::innermost;
use metadata::Usual;

/// A gRPC address and the connection to it, which is made when it is first needed.
#[derive(Debug)]
pub(super) struct Grpc {
    address: GrpcAddress,
    endpoint: Endpoint,
    connect_timeout: Duration,
    /// What every call says.
    usual: Usual,
    /// Whether calls share a connection.
    pooled: bool,
    channel: OnceCell<Channel>,
}

impl Grpc {
    /// The way to `address`.
    ///
    /// # Errors
    /// Why there can be none.
    pub(super) fn new(address: &GrpcAddress, settings: &Settings) -> Result<Self, String> {
        let credentials = &settings.credentials;
        let endpoint = |uri: String| Endpoint::from_shared(uri).map_err(|error| innermost(&error));
        let (endpoint, token) = match address {
            GrpcAddress::Unix(path) => {
                let path = path.to_str().ok_or("the path is not UTF-8")?;
                (endpoint(format!("unix:{path}"))?, credentials.token())
            }
            GrpcAddress::Http(uri) => {
                let endpoint = endpoint(uri.clone())?;
                let token = credentials.token_in_the_open(endpoint.uri())?;
                (endpoint, token)
            }
            GrpcAddress::Https(uri) => {
                let secured = endpoint(uri.clone())?.tls_config(credentials.tls()?);
                (secured.map_err(|error| innermost(&error))?, credentials.token())
            }
        };
        let mut metadata = MetadataMap::new();
        if let Some(token) = token {
            metadata.insert("authorization", token);
        }
        if let Some(name) = &settings.client_name {
            let name = MetadataValue::<Ascii>::try_from(name.as_str());
            metadata.insert("opdbus-client-name", name.map_err(|_| "the name is not ASCII")?);
        }
        Ok(Self {
            address: address.clone(),
            endpoint: endpoint.connect_timeout(settings.connect_timeout),
            connect_timeout: settings.connect_timeout,
            usual: Usual::new(metadata, settings.request_timeout)
                .map_err(|failure| failure.message)?,
            pooled: settings.pool_connections,
            channel: OnceCell::new(),
        })
    }

    /// A connection: the one that all calls share, or one of its own.
    async fn channel(&self) -> Result<Channel, Error> {
        if self.pooled {
            return self.channel.get_or_try_init(|| self.connect()).await.cloned();
        }
        self.connect().await
    }

    async fn connect(&self) -> Result<Channel, Error> {
        match tokio::time::timeout(self.connect_timeout, self.endpoint.connect()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(self.unreachable(&error)),
            Err(_) => {
                let problem = format!("no connection within {:?}", self.connect_timeout);
                Err(Error::unreachable(self.target(), problem))
            }
        }
    }

    async fn unary(
        &self,
        path: PathAndQuery,
        request: Bytes,
        options: &CallOptions,
    ) -> Result<Bytes, Error> {
        let metadata = self.usual.with(options)?;
        let started = Instant::now();
        let mut grpc =
            Codecs::new(self.channel().await?).max_decoding_message_size(MAX_ANSWER_BYTES);
        grpc.ready().await.map_err(|error| self.unreachable(&error))?;
        let request = Request::from_parts(metadata, Extensions::default(), request);
        let response = grpc.unary(request, path, Encoded).await;
        let timeout = options.timeout.map(|timeout| (timeout, started));
        response.map(tonic::Response::into_inner).map_err(|status| self.failed(&status, timeout))
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
        let mut grpc =
            Codecs::new(self.channel().await?).max_decoding_message_size(MAX_ANSWER_BYTES);
        grpc.ready().await.map_err(|error| self.unreachable(&error))?;
        let requests = call.requests.stream();
        let request = Request::from_parts(metadata, Extensions::default(), requests);
        let response = grpc.streaming(request, path, Encoded).await;
        let response = response.map_err(|status| self.failed(&status, None))?;
        let task_id = response.metadata().get("opdbus-task-id");
        let task_id = task_id.and_then(|id| id.to_str().ok()).map(str::to_owned);
        let (target, https) = (self.target(), self.is_https());
        let messages = response.into_inner().map(move |message| {
            message.map_err(|status| error::failed(&status, None, &target, https))
        });
        Ok(Messages::new(task_id, messages))
    }

    fn failed(&self, status: &tonic::Status, timeout: Option<(Duration, Instant)>) -> Error {
        error::failed(status, timeout, &self.target(), self.is_https())
    }

    fn unreachable(&self, error: &tonic::transport::Error) -> Error {
        Error::unreachable(self.target(), error::no_connection(error))
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
        async { self.channel().await.map(drop) }.boxed()
    }

    fn call(&self, call: Call) -> Pending<'_, Payload> {
        self.answer(call).boxed()
    }

    fn stream(&self, call: StreamCall) -> Pending<'_, Messages> {
        self.open(call).boxed()
    }
}
