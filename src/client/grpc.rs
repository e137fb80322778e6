//! Calls over gRPC, and gRPC's errors as the client's. It chooses nothing.

#![expect(clippy::disallowed_types, reason = "this is the gRPC client")]

use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

use super::address::GrpcAddress;
use super::credentials::{Bearer, Credentials};
use super::error::{Error, Failure};
use super::{CallOptions, MAX_ANSWER_BYTES};
use crate::error::ErrorKind;
use crate::proto::opdbus::v1::{CallJsonRequest, CallJsonResponse, PingRequest, PingResponse};
use crate::wire;

/// The longest time that a `grpc-timeout` can say: eight digits of hours.
pub(super) const MAX_TIMEOUT: Duration = Duration::from_secs(99_999_999 * 3600);

/// A connection to a gRPC address.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) channel: InterceptedService<Channel, Bearer>,
    address: GrpcAddress,
}

impl Connection {
    pub(super) async fn new(
        address: &GrpcAddress,
        credentials: &Credentials,
    ) -> Result<Self, String> {
        let endpoint = |uri: String| Endpoint::from_shared(uri).map_err(|error| innermost(&error));
        let (endpoint, bearer) = match address {
            GrpcAddress::Unix(path) => {
                let path = path.to_str().ok_or("the path is not UTF-8")?;
                (endpoint(format!("unix:{path}"))?, credentials.bearer())
            }
            GrpcAddress::Http(uri) => {
                let endpoint = endpoint(uri.clone())?;
                let bearer = credentials.bearer_in_the_open(endpoint.uri())?;
                (endpoint, bearer)
            }
            GrpcAddress::Https(uri) => {
                let secured = endpoint(uri.clone())?.tls_config(credentials.tls()?);
                (secured.map_err(|error| innermost(&error))?, credentials.bearer())
            }
        };
        let channel = endpoint.connect().await.map_err(|error| innermost(&error))?;
        let channel = InterceptedService::new(channel, bearer);
        Ok(Self { channel, address: address.clone() })
    }

    pub(super) fn target(&self) -> String {
        format!("gRPC at {}", self.address)
    }

    pub(super) async fn call_json(
        &self,
        agent: &str,
        operation: &str,
        arguments: &str,
        options: &CallOptions,
    ) -> Result<String, Error> {
        let request = CallJsonRequest {
            agent: agent.to_owned(),
            operation: operation.to_owned(),
            arguments: arguments.to_owned(),
        };
        let path = PathAndQuery::from_static("/opdbus.v1.AgentsService/CallJson");
        let response: CallJsonResponse = self.unary(path, request, options).await?;
        Ok(response.result)
    }

    pub(super) async fn ping(
        &self,
        payload: &[u8],
        options: &CallOptions,
    ) -> Result<Vec<u8>, Error> {
        let request = PingRequest { payload: payload.to_vec().into() };
        let path = PathAndQuery::from_static("/opdbus.v1.AgentsService/Ping");
        let response: PingResponse = self.unary(path, request, options).await?;
        Ok(response.payload.into())
    }

    async fn unary<Q, P>(
        &self,
        path: PathAndQuery,
        request: Q,
        options: &CallOptions,
    ) -> Result<P, Error>
    where
        Q: Message + 'static,
        P: Message + Default + 'static,
    {
        let mut request = Request::new(request);
        if let Some(timeout) = options.timeout {
            request.set_timeout(timeout.min(MAX_TIMEOUT));
        }
        if let Some(id) = &options.request_id {
            request.metadata_mut().insert("opdbus-request-id", header("request-id", id)?);
        }
        if let Some(id) = &options.approval_id {
            request.metadata_mut().insert("opdbus-approval-id", header("approval-id", id)?);
        }
        if options.interactive {
            let allowed = MetadataValue::from_static("true");
            request.metadata_mut().insert("opdbus-interactive", allowed);
        }
        let started = Instant::now();
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
        grpc.ready().await.map_err(|error| self.lost(&error))?;
        match grpc.unary(request, path, ProstCodec::default()).await {
            Ok(response) => Ok(response.into_inner()),
            // This client never cancels: what tonic calls so is its own clock for grpc-timeout, when it
            // is faster than the service's, or a connection that was closed. The service gives details.
            Err(status) if status.code() == Code::Cancelled => match options.timeout {
                Some(timeout) if started.elapsed() >= timeout => {
                    Err(Failure::no_answer(timeout).into())
                }
                _ if status.details().is_empty() => Err(Failure::lost(self.closed()).into()),
                _ => Err(failure(&status).into()),
            },
            Err(status) => Err(match lost_connection(&status) {
                Some(cause) => Failure::lost(format_args!("{cause}; {}", self.closed())).into(),
                None => failure(&status).into(),
            }),
        }
    }

    /// Why the service may have closed the connection. In TLS 1.3 a client learns only after the handshake
    /// that its certificate is refused, and the alert that says so can be lost.
    const fn closed(&self) -> &'static str {
        match self.address {
            GrpcAddress::Https(_) => {
                "the service closed it; over https it may not take the client's certificate, or lack of \
                 one"
            }
            GrpcAddress::Http(_) | GrpcAddress::Unix(_) => "the service closed it",
        }
    }

    pub(super) fn lost(&self, error: &tonic::transport::Error) -> Error {
        Error::unreachable(self.target(), innermost(error))
    }
}

/// A text as the value of gRPC metadata.
pub(super) fn header(field: &str, text: &str) -> Result<MetadataValue<Ascii>, Failure> {
    MetadataValue::try_from(text).map_err(|_| {
        let problem = format!("{field}: must be visible ASCII characters");
        Failure::new(ErrorKind::InvalidArgument, problem)
    })
}

/// The cause, if the status does not come from the service but from a connection that broke.
fn lost_connection(status: &Status) -> Option<String> {
    let source = std::error::Error::source(status)?;
    source.is::<tonic::transport::Error>().then(|| innermost(source))
}

/// A status as a failure: by the reason that op-dbus gives, else by the code.
pub(super) fn failure(status: &Status) -> Failure {
    let details = status.get_error_details();
    let mut failure = Failure::new(wire::kind(status, &details), status.message());
    if let Some(info) = details.error_info() {
        failure.facts = info.metadata.clone().into_iter().collect();
    }
    failure.retry_after = details.retry_info().and_then(|info| info.retry_delay);
    if failure.message.is_empty() {
        failure.message = status.code().description().to_owned();
    }
    failure
}

/// The innermost cause of an error, which is the one that says something.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn the_reason_decides_the_kind_and_its_facts_come_along() {
        for kind in ErrorKind::ALL {
            let facts = HashMap::from([("field".to_owned(), "key".to_owned())]);
            let mut details = ErrorDetails::with_error_info(kind.reason(), "op-dbus", facts);
            details.set_retry_info(Some(Duration::from_millis(250)));
            let status = Status::with_error_details(Code::Unknown, "broken", details);
            let failure = failure(&status);
            assert_eq!(failure.kind, kind);
            assert_eq!(failure.message, "broken");
            assert_eq!(failure.facts["field"], "key");
            assert_eq!(failure.retry_after, Some(Duration::from_millis(250)));
        }
    }

    #[test]
    fn a_foreign_status_goes_by_its_code() {
        let failure = failure(&Status::new(Code::Unimplemented, ""));
        assert_eq!(failure.kind, ErrorKind::UnknownOperation);
        assert!(!failure.message.is_empty());
    }
}
