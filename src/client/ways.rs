//! The ways that a client has, each with what carries calls over it. Which one a call takes is said
//! elsewhere.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::call::{Call, CallOptions, Payload, Rpc};
use super::carrier::Carrier;
use super::error::{Error, Failure};
use super::way::Way;

/// What carries calls over each way that there is.
#[derive(Clone, Debug, Default)]
pub struct Ways([Option<Arc<dyn Carrier>>; Way::ALL.len()]);

impl Ways {
    /// The same with what carries calls over `way`.
    #[must_use]
    pub fn with(mut self, way: Way, carrier: Arc<dyn Carrier>) -> Self {
        self.0[way.index()] = Some(carrier);
        self
    }

    /// True if there is anything for `way`.
    pub(super) fn has(&self, way: Way) -> bool {
        self.0[way.index()].is_some()
    }

    /// What carries calls over `way`.
    ///
    /// # Errors
    /// `Unreachable` if there is nothing.
    pub(super) fn over(&self, way: Way) -> Result<&Arc<dyn Carrier>, Error> {
        self.0[way.index()].as_ref().ok_or_else(|| {
            Error::unreachable(way.name().to_owned(), "this client has no address for it")
        })
    }

    /// Makes one of the client's own calls over `way`.
    ///
    /// # Errors
    /// As [`Carrier::call`]; `Internal` if the answer cannot be read.
    pub(super) async fn ask<A: Message + Default>(
        &self,
        way: Way,
        rpc: &'static Rpc,
        request: &impl Message,
        options: CallOptions,
    ) -> Result<A, Error> {
        let request = Payload::Message(request.encode_to_vec().into());
        let call = Call { rpc: std::borrow::Cow::Borrowed(rpc), request, options };
        match self.over(way)?.call(call).await? {
            Payload::Message(message) => read(message),
            Payload::Json(_) => {
                Err(Failure::internal("the answer has another form than the request").into())
            }
        }
    }
}

/// Decodes an answer.
///
/// # Errors
/// `Internal` if it is none.
pub(super) fn read<A: Message + Default>(message: Bytes) -> Result<A, Error> {
    A::decode(message).map_err(|error| {
        Failure::internal(format!("the service's answer cannot be read: {error}")).into()
    })
}
