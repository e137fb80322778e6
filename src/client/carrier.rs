//! What every way to the service can do. Whatever chooses between ways, tries again or counts is one of
//! them too, around others.

use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::call::{Call, Payload, StreamCall};
use super::error::{Attempt, Error};
use super::metrics::AgentMetrics;
use super::stream::Messages;
use super::way::Way;

/// What is to come of a call. Dropped before, it gives the call up.
pub type Pending<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// Something that carries calls to the service and brings their answers.
pub trait Carrier: fmt::Debug + Send + Sync {
    /// The way that the next call takes, as far as that is known.
    fn way(&self) -> Way;

    /// Where it leads, for people.
    fn target(&self) -> String;

    /// Makes sure that the service can be reached. Calls do so by themselves.
    ///
    /// # Errors
    /// [`Error::Unreachable`] with what was tried.
    fn ready(&self) -> Pending<'_, ()>;

    /// Makes a call; the answer has the form of the request.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if the service cannot be reached, in which case nothing was called;
    /// [`Error::Failed`] with what the service said, or with `lost` if nobody knows what came of it.
    fn call(&self, call: Call) -> Pending<'_, Payload>;

    /// True if each call ends soon after its time by itself. For one that does not, [`AgentClient`] sees to it.
    ///
    /// [`AgentClient`]: super::AgentClient
    fn keeps_time(&self) -> bool {
        false
    }

    /// Makes a call with a stream.
    ///
    /// # Errors
    /// As [`Carrier::call`].
    fn stream(&self, call: StreamCall) -> Pending<'_, Messages>;

    /// What is counted of the calls, by who counts them.
    fn metrics(&self) -> Option<Arc<AgentMetrics>> {
        None
    }

    /// Tells the service what is still to be told, for the end of a client.
    ///
    /// # Errors
    /// None that a client could do anything about.
    fn close(&self) -> Pending<'_, ()> {
        async { Ok(()) }.boxed()
    }

    /// What was tried in vain before the way that calls now take.
    fn earlier(&self) -> Vec<Attempt> {
        Vec::new()
    }
}
