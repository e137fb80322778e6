//! What a client is told when its request does not become a call. It decides on nothing else.

use http::{HeaderName, HeaderValue, Response, StatusCode};
use tonic::Status;

use super::value::Reply;
use crate::error::Error;
use crate::wire::status;

/// A request that does not become a call.
#[derive(Debug)]
pub(super) enum Refusal {
    /// An error of the one table.
    Error(Error),
    /// It is no gRPC request, so the answer is none either.
    NotGrpc(StatusCode),
    /// The message is compressed, which is not served.
    Compressed,
    /// The message claims to be compressed, but the headers do not say how.
    CompressedSomehow,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Refusal {
    /// The answer to the client.
    pub(super) fn into_response(self) -> Response<Reply> {
        match self {
            Self::Error(error) => status(&error).into_http(),
            Self::NotGrpc(code) => {
                let mut response = Response::new(Reply::default());
                *response.status_mut() = code;
                response
            }
            Self::Compressed => {
                let text = "compressed messages are not served; send them as they are";
                let mut response = Status::unimplemented(text).into_http::<Reply>();
                response.headers_mut().insert(
                    HeaderName::from_static("grpc-accept-encoding"),
                    HeaderValue::from_static("identity"),
                );
                response
            }
            // The code that gRPC prescribes for this.
            Self::CompressedSomehow => Status::internal(
                "the message has the compressed flag but there is no grpc-encoding",
            )
            .into_http(),
        }
    }
}
