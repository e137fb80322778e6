//! The ways that a client has, each with what carries calls over it. Which one a call takes is said
//! elsewhere.

use std::sync::Arc;

use super::AgentClient;
use super::carrier::Carrier;
use super::error::Error;
use super::way::Way;

/// What carries calls over each way that there is.
#[derive(Clone, Debug, Default)]
pub(super) struct Ways([Option<Arc<dyn Carrier>>; Way::ALL.len()]);

impl Ways {
    /// The same with what carries calls over `way`.
    #[must_use]
    pub(super) fn with(mut self, way: Way, carrier: Arc<dyn Carrier>) -> Self {
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

    /// A client whose calls go over `way` and nowhere else, for the client's own calls.
    ///
    /// # Errors
    /// As [`Ways::over`].
    pub(super) fn client(&self, way: Way) -> Result<AgentClient, Error> {
        self.over(way).map(|carrier| AgentClient::over(Arc::clone(carrier)))
    }
}
