//! The calls of the system that no crate wraps safely. Nothing else in this crate is unsafe; each of
//! these is sound because the stub has one thread.

#![expect(unsafe_code, reason = "fork, signal dispositions and close_range have no safe wrapper")]

use std::io;

use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, fork};

/// Makes a child, which may do all that this process may.
///
/// # Errors
///
/// There is no room for a process.
pub(super) fn fork_from_one_thread() -> io::Result<ForkResult> {
    // SAFETY: the stub has one thread (it is run before any is made), so no lock is held by another.
    Ok(unsafe { fork() }?)
}

/// Gives every signal its default disposition. An ignored signal would stay ignored in the program.
pub(super) fn default_signals() {
    for number in Signal::iterator() {
        // SAFETY: no handler of ours is replaced that anything relies on, and the default one is code of
        // the kernel. SIGKILL and SIGSTOP are refused, which changes nothing.
        unsafe { signal(number, SigHandler::SigDfl) }.ok();
    }
}

/// Lets the execution close every descriptor but 0, 1 and 2.
///
/// # Errors
///
/// The kernel is older than 5.11.
pub(super) fn close_all_but_streams_on_execution() -> io::Result<()> {
    // SAFETY: nothing is closed now. What owns a descriptor here does so until the execution.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ends this process at once, without what the parent has registered for its own end.
pub(super) fn leave() -> ! {
    // SAFETY: it does not return, and has no precondition.
    unsafe { libc::_exit(127) }
}
