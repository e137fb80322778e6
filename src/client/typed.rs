//! What the typed clients that `build.rs` generates stand on: messages become calls and answers messages.
//! It knows no particular agent.

use std::borrow::Cow;

use futures_util::{Stream, StreamExt as _};
use prost::Message;

use super::AgentClient;
use super::call::{Call, CallOptions, Payload, Request, Requests, Rpc, StreamCall};
use super::error::{Error, Failure};
use super::stream::{Responses, decoded};

impl AgentClient {
    /// Calls an operation with one request and one response.
    ///
    /// # Errors
    /// As [`AgentClient::call`].
    ///
    /// # Cancel safety
    /// As [`AgentClient::call`].
    pub async fn unary<Q, P>(&self, rpc: &'static Rpc, request: Request<Q>) -> Result<P, Error>
    where
        Q: Message,
        P: Message + Default,
    {
        let Request { message: request, options } = request;
        let request = Payload::Message(request.encode_to_vec().into());
        message(self.call(Call { rpc: Cow::Borrowed(rpc), request, options }).await?)
    }

    /// Calls an operation whose responses are a stream.
    ///
    /// # Errors
    /// As [`AgentClient::stream`].
    ///
    /// # Cancel safety
    /// As [`AgentClient::stream`].
    pub async fn server_stream<Q, P>(
        &self,
        rpc: &'static Rpc,
        request: Request<Q>,
    ) -> Result<Responses<P>, Error>
    where
        Q: Message,
        P: Message + Default,
    {
        let requests = Requests::One(request.message.encode_to_vec().into());
        self.open(rpc, requests, request.options).await
    }

    /// Calls an operation whose requests are a stream.
    ///
    /// # Errors
    /// As [`AgentClient::stream`].
    ///
    /// # Cancel safety
    /// As [`AgentClient::stream`].
    pub async fn client_stream<S, P>(
        &self,
        rpc: &'static Rpc,
        requests: Request<S>,
    ) -> Result<P, Error>
    where
        S: Stream<Item: Message> + Send + 'static,
        P: Message + Default,
    {
        self.exchange(rpc, requests).await?.only().await
    }

    /// Calls an operation whose requests and responses are streams.
    ///
    /// # Errors
    /// As [`AgentClient::stream`].
    ///
    /// # Cancel safety
    /// As [`AgentClient::stream`].
    pub async fn exchange<S, P>(
        &self,
        rpc: &'static Rpc,
        requests: Request<S>,
    ) -> Result<Responses<P>, Error>
    where
        S: Stream<Item: Message> + Send + 'static,
        P: Message + Default,
    {
        let Request { message: requests, options } = requests;
        let requests = requests.map(|request| request.encode_to_vec().into());
        self.open(rpc, Requests::Many(requests.boxed()), options).await
    }

    async fn open<P: Message + Default>(
        &self,
        rpc: &'static Rpc,
        requests: Requests,
        options: CallOptions,
    ) -> Result<Responses<P>, Error> {
        let call = StreamCall { rpc: Cow::Borrowed(rpc), requests, options };
        self.stream(call).await.map(Responses::new)
    }
}

/// The message that an answer is.
fn message<P: Message + Default>(answer: Payload) -> Result<P, Error> {
    match answer {
        Payload::Message(bytes) => decoded(bytes),
        Payload::Json(_) => Err(Failure::internal("the answer is no message").into()),
    }
}
