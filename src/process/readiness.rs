//! Descriptors that the runtime waits on. Nothing else here makes one, so that what has to hold for
//! all of them is said once.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Lets the runtime wait on `descriptor`, which must not block.
///
/// # Errors
///
/// The system cannot poll it, or has no memory for one more.
#[expect(
    deprecated,
    reason = "it is unsound for types that may close their descriptor early, which OwnedFd cannot; \
              its replacement is an unsafe function"
)]
pub(super) fn wait_on(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(descriptor)
}
