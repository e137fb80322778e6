//! The calls of the system that no crate wraps safely. Nothing else in this crate is unsafe; each of
//! these is sound because the stub has one thread.

#![expect(
    unsafe_code,
    reason = "clone, wait4, dup2, signal dispositions and close_range have no safe wrapper"
)]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use nix::libc;
use nix::sched::{CloneFlags, clone};
use nix::sys::signal::{SigHandler, Signal, signal};
use rustix::process::Pid;

use super::tree::Used;

/// Much more than what the child needs before it executes; only what it touches takes memory.
const STACK_BYTES: usize = 1 << 20;

/// The stack of the child until it executes.
pub(super) struct ChildStack(Vec<u8>);

impl ChildStack {
    pub(super) fn new() -> Self {
        Self(vec![0; STACK_BYTES])
    }
}

/// Makes a child that runs `run` on this process's memory, and then ends unless it has become another
/// program. This process waits until then, and finds what the child has written. Copying the memory
/// would take longer than all the rest of a start.
///
/// What the child owns when it executes stays allocated here.
///
/// # Errors
///
/// There is no room for a process.
pub(super) fn child_on_our_memory(
    stack: &mut ChildStack,
    mut run: impl FnMut(),
) -> io::Result<Pid> {
    let run = Box::new(|| {
        run();
        127
    });
    let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
    // SAFETY: the stub has one thread (it is run before any is made), and CLONE_VFORK suspends it until
    // the child has executed or ended: never do both run, and no lock is held by another. The child has
    // a stack of its own, which nothing else uses; descriptors, folder and signal dispositions are
    // copies. A panic in it aborts it.
    let child = unsafe { clone(run, &mut stack.0, flags, Some(libc::SIGCHLD)) }?;
    Pid::from_raw(child.as_raw()).ok_or_else(|| io::Error::other("the child has no number"))
}

/// Collects the child `pid`, or any for `None`, that has ended: who it was, how it ended, and what it
/// and those that it had collected used.
///
/// # Errors
///
/// There is no such child.
pub(super) fn collect(pid: Option<Pid>) -> io::Result<Option<(Pid, ExitStatus, Used)>> {
    let of = pid.map_or(-1, Pid::as_raw_pid);
    let mut status = 0;
    // SAFETY: all zeros is a value of this type, which is numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to values that live through the call.
    let result = unsafe { libc::wait4(of, &raw mut status, libc::WNOHANG, &raw mut usage) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        pid => {
            Ok(Pid::from_raw(pid)
                .map(|pid| (pid, ExitStatus::from_raw(status), Used::from(&usage))))
        }
    }
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
pub(super) fn close_others_on_execution() -> io::Result<()> {
    // SAFETY: nothing is closed now. What owns a descriptor here does so until the execution.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes `number` another name of `descriptor`, which the execution leaves open.
///
/// # Errors
///
/// The number is higher than this process may have.
pub(super) fn place(descriptor: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: what had the number is closed in this process, which is the child: it has copies of the
    // stub's descriptors, and uses none of them from here to its execution.
    let result = unsafe { libc::dup2(descriptor.as_raw_fd(), number) };
    if result == number { Ok(()) } else { Err(io::Error::last_os_error()) }
}
