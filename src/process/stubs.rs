//! The stubs: they are started here, and kept ready for the next program while there may be one soon.
//! What they do with a program is theirs.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the room in which programs are started: the stub confines and kills them"
)]

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::profile::Sockets;
use super::readiness::wait_on;
use super::stub::STUB_ARGUMENT;
use super::wire::{self, Orders};

/// How many stubs are kept ready. Each has about a megabyte of memory of its own.
const READY_MAX: usize = 16;
/// How long a stub is kept ready. Starting one takes some milliseconds, which matters only to who
/// starts programs again and again.
const READY_FOR: Duration = Duration::from_secs(20);

/// A process that runs programs for us, one after the other. When this is dropped it ends.
#[derive(Debug)]
pub(super) struct Stub {
    process: Option<Child>,
    socket: Arc<AsyncFd<OwnedFd>>,
    /// How it filters system calls, once it has had orders.
    filtered: Option<Sockets>,
}

impl Stub {
    pub(super) fn socket(&self) -> &Arc<AsyncFd<OwnedFd>> {
        &self.socket
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        // It may be waiting for orders, and somebody else may still hold the socket.
        rustix::net::shutdown(self.socket.get_ref(), rustix::net::Shutdown::Write).ok();
        let Some(mut process) = self.process.take() else { return };
        let collect = move || {
            if let Err(error) = process.wait() {
                tracing::warn!("a process that watched programs cannot be collected: {error}");
            }
        };
        // Without a runtime this process is about to end, and needs no room for one more.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(collect);
        }
    }
}

/// All stubs of one runner that have no program.
#[derive(Debug)]
pub(super) struct Stubs {
    program: PathBuf,
    ready: Mutex<Ready>,
}

#[derive(Debug, Default)]
struct Ready {
    /// The one that was used last is the last.
    stubs: Vec<(Stub, Instant)>,
    is_swept: bool,
}

impl Stubs {
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program, ready: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the orders to a stub that filters system calls so, which is started if none is ready.
    ///
    /// # Errors
    ///
    /// The system refuses a socket, a process or its memory.
    pub(super) fn give(
        &self,
        orders: &Orders,
        filtered: Option<Sockets>,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<Stub> {
        // One that has ended meanwhile takes no orders.
        while let Some(stub) = self.take(filtered) {
            if wire::send_orders(stub.socket.as_fd(), orders, descriptors).is_ok() {
                return Ok(stub);
            }
        }
        let stub = self.start(filtered)?;
        wire::send_orders(stub.socket.as_fd(), orders, descriptors)?;
        Ok(stub)
    }

    fn take(&self, filtered: Option<Sockets>) -> Option<Stub> {
        let mut ready = self.lock();
        let index = ready.stubs.iter().rposition(|(stub, _)| stub.filtered == filtered)?;
        Some(ready.stubs.remove(index).0)
    }

    /// Starts a stub with nothing but its end of the socket. There is no work between fork and exec, so
    /// that the standard library uses `posix_spawn`: a fork would copy the page tables of a large daemon.
    fn start(&self, filtered: Option<Sockets>) -> io::Result<Stub> {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let socket = Arc::new(wait_on(ours)?);
        let process = Command::new(&self.program)
            .arg(STUB_ARGUMENT)
            .env_clear()
            .stdin(theirs)
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Stub { process: Some(process), socket, filtered })
    }

    /// Keeps a stub whose program has ended, if there is room.
    pub(super) fn keep(self: &Arc<Self>, stub: Stub) {
        let mut ready = self.lock();
        if ready.stubs.len() >= READY_MAX {
            return;
        }
        ready.stubs.push((stub, Instant::now()));
        if !ready.is_swept {
            ready.is_swept = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Ends the stubs that were not needed for long. False if none is left.
    fn end_old(&self) -> bool {
        let mut ready = self.lock();
        let old = ready.stubs.iter().take_while(|(_, since)| since.elapsed() >= READY_FOR).count();
        drop(ready.stubs.drain(..old).collect::<Vec<_>>());
        ready.is_swept = !ready.stubs.is_empty();
        ready.is_swept
    }
}

async fn sweep(stubs: Weak<Stubs>) {
    loop {
        tokio::time::sleep(READY_FOR / 2).await;
        if !stubs.upgrade().is_some_and(|stubs| stubs.end_old()) {
            return;
        }
    }
}
