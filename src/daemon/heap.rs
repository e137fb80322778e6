//! How much of the memory that was freed the allocator keeps for the next answer. It allocates nothing.
//!
//! An answer of a megabyte takes two or three pieces of that size. glibc gives such pieces back to the
//! system as soon as they are free, and the next one takes a page fault for every four KiB: that was more than
//! half of the time of such a call.

use nix::libc;

/// What is kept at most of what is free at the end of the heap, in bytes.
const KEPT: i32 = 16 << 20;

/// From what size on a piece is taken from the system and given back by itself, in bytes: as large as the
/// largest message that is usual (`[grpc] max_response_bytes`).
const APART: i32 = 4 << 20;

/// How much more than is needed is taken at a time, in bytes.
const AHEAD: i32 = 1 << 20;

/// Has the allocator keep what is freed, within bounds.
pub(super) fn keep_what_is_freed() {
    for (what, bytes) in
        [(libc::M_TRIM_THRESHOLD, KEPT), (libc::M_MMAP_THRESHOLD, APART), (libc::M_TOP_PAD, AHEAD)]
    {
        #[expect(unsafe_code, reason = "no crate that is used here wraps this function")]
        // SAFETY: it takes two numbers, and is called before there is a second thread.
        let set = unsafe { libc::mallopt(what, bytes) };
        if set == 0 {
            tracing::debug!(what, bytes, "the allocator does not take a bound");
        }
    }
}
