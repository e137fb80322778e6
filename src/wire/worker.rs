//! What both sides of a worker's socket agree on: where it is asked what, and how much may be under way.

/// Where a worker is told its settings, and shows that it is ready.
pub(crate) const CONFIGURE: &str = "/opdbus.worker.v1.WorkerService/Configure";

/// Where a worker says how much goes on in it between calls.
pub(crate) const GOING_ON: &str = "/opdbus.worker.v1.WorkerService/GetGoingOn";

/// Where a worker hears that a session has ended.
pub(crate) const END_SESSION: &str = "/opdbus.worker.v1.WorkerService/EndSession";

/// The largest head of a request or an answer, in bytes.
pub(crate) const WORKER_HEADER_BYTES: u32 = 32 * 1024;

/// The bytes of one stream that either side of a worker's socket sends ahead of the other's reading.
pub(crate) const WORKER_STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// The largest frame that either side of a worker's socket takes: so much that a piece of a program's output
/// comes in one, and need not be put together from several.
pub(crate) const WORKER_FRAME_BYTES: u32 = 128 * 1024;

/// The same for all streams together: so much that streams whose readers are slow never hold up the
/// others. What is kept is bounded by the number of streams.
pub(crate) const WORKER_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// The streams that may be under way at once on a worker's socket. The front's own limits are lower.
pub(crate) const WORKER_STREAMS: u32 = 65_536;
