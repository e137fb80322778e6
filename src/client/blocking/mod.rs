//! The client for programs without a runtime: the same calls, which wait. All of them run on one thread that
//! the library keeps. A program with a runtime uses [`super::AgentClient`], for which waiting blocks nothing.
//!
//! ```no_run
//! use op_dbus::client::blocking::AgentClient;
//! use op_dbus::client::{MemoryClient, Settings};
//! use op_dbus::proto::opdbus::agent::memory::v1::RecallRequest;
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = AgentClient::new(&Settings::load()?)?;
//! let memory = MemoryClient::new(client.inner().clone());
//! let request = RecallRequest { key: "language".into(), ..Default::default() };
//! let recalled = client.wait(async move { memory.recall(request).await })?;
//! println!("{:?}", recalled.value);
//! # Ok(())
//! # }
//! ```

mod runtime;

use std::future::Future;
use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};

use super::{Call, CallOptions, Error, Failure, Payload, Settings, StreamCall};
use runtime::spawn;

/// Makes calls and waits for their answers. Clones share the connection.
#[derive(Clone, Debug)]
pub struct AgentClient(super::AgentClient);

impl AgentClient {
    /// A client with these settings. It connects when it is first needed.
    ///
    /// # Errors
    /// `Internal` if the system gives no thread.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        runtime::start()?;
        Ok(Self(super::AgentClient::new(settings)))
    }

    /// A client whose calls go over `client`.
    ///
    /// # Errors
    /// As [`AgentClient::new`].
    pub fn over(client: super::AgentClient) -> Result<Self, Error> {
        runtime::start()?;
        Ok(Self(client))
    }

    /// The client that does not wait, for typed clients whose calls [`AgentClient::wait`] waits for.
    #[must_use]
    pub const fn inner(&self) -> &super::AgentClient {
        &self.0
    }

    /// Runs `work` on the library's thread and waits for what comes of it. It may wait for calls but should
    /// not block.
    ///
    /// # Errors
    /// As of `work`; `Internal` if it panicked, or if this is called on that thread.
    pub fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        if runtime::is_here() {
            let problem = "a blocking call was made within another one, which would wait for ever";
            return Err(Failure::internal(problem).into());
        }
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        spawn(async move {
            // Somebody waits for it: this function.
            drop(answer.send(work.await));
        })?;
        let gone = |_| Error::from(Failure::internal("the call panicked"));
        answered.recv().map_err(gone)?
    }

    /// Makes sure that the service can be reached. Calls do so by themselves.
    ///
    /// # Errors
    /// [`Error::Unreachable`] with what was tried.
    pub fn ready(&self) -> Result<(), Error> {
        let client = self.0.clone();
        self.wait(async move { client.ready().await })
    }

    /// Calls an operation with one request and one response. The response has the form of the request.
    ///
    /// # Errors
    /// As [`super::AgentClient::call`].
    pub fn call(&self, call: Call) -> Result<Payload, Error> {
        let client = self.0.clone();
        self.wait(async move { client.call(call).await })
    }

    /// Calls an operation of an agent with its request as JSON, and gives the response as JSON.
    ///
    /// # Errors
    /// As [`super::AgentClient::call`].
    pub fn call_json(
        &self,
        agent: &str,
        operation: &str,
        arguments: &str,
        options: &CallOptions,
    ) -> Result<String, Error> {
        let client = self.0.clone();
        let (agent, operation) = (agent.to_owned(), operation.to_owned());
        let (arguments, options) = (arguments.to_owned(), options.clone());
        self.wait(async move { client.call_json(&agent, &operation, &arguments, &options).await })
    }

    /// Opens a call with a stream on one side or both; the messages are encoded.
    ///
    /// # Errors
    /// As [`super::AgentClient::stream`].
    pub fn stream(
        &self,
        call: StreamCall,
    ) -> Result<impl Iterator<Item = Result<bytes::Bytes, Error>> + use<>, Error> {
        let client = self.0.clone();
        Ok(self.iterate(self.wait(async move { client.stream(call).await })?))
    }

    /// Reads a stream, as that of a typed client's call, message by message. Dropping the iterator gives the
    /// call up.
    pub fn iterate<S>(&self, stream: S) -> impl Iterator<Item = S::Item> + use<S>
    where
        S: Stream<Item: Send> + Send + 'static,
    {
        Waiting { client: self.clone(), stream: Some(Box::pin(stream)) }
    }
}

/// A stream whose messages are waited for.
struct Waiting<S: ?Sized> {
    client: AgentClient,
    /// `None` after the end.
    stream: Option<Pin<Box<S>>>,
}

impl<S: Stream<Item: Send> + Send + 'static> Iterator for Waiting<S> {
    type Item = S::Item;

    fn next(&mut self) -> Option<Self::Item> {
        let mut stream = self.stream.take()?;
        let read = async move {
            let item = stream.next().await;
            Ok((item, stream))
        };
        // A stream that panicked has no more messages.
        let (item, stream) = self.client.wait(read).ok()?;
        if item.is_some() {
            self.stream = Some(stream);
        }
        item
    }
}
