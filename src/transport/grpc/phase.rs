//! How far the transport is on its way from start to end. It only names the steps; who watches them
//! acts on them.

/// The steps, in order; there is no way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Calls are welcome.
    Serving,
    /// Calls are taken, but the health service says NOT_SERVING.
    NotServing,
    /// No connection is accepted any more, and clients are asked to go away.
    Draining,
    /// Every connection is closed, whatever runs on it.
    Closed,
}
