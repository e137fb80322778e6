//! A worker: a process with the rights of one user, which serves the agents that act as their caller
//! over the one socket that it was started with. Who may call, how much and for how long is the front's
//! matter.

mod confine;
mod outbox;
mod serve;

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use listenfd::ListenFd;
use nix::libc::{AF_UNIX, SOCK_STREAM};

use crate::agents::InWorker;
use crate::error::{Error, ErrorKind};
use crate::wire::LocalStream;

use serve::Agents;

/// Runs a worker until the front closes its socket. `cgroup` is the control group that its programs may
/// have ones of their own in.
///
/// # Errors
/// `SandboxUnavailable` if a right cannot be given up, `InvalidArgument` if the process was not passed a
/// connected socket, `Internal` if the agents or the runtime cannot be had.
pub fn run(profile: String, cgroup: Option<PathBuf>) -> Result<(), Error> {
    confine::confine()?;
    let socket = socket()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal(format!("the runtime cannot be made: {error}")))?;
    let served = runtime.block_on(async {
        let socket = LocalStream::new(socket)
            .map_err(|error| Error::internal(format!("the socket cannot be used: {error}")))?;
        let agents = Agents::new(InWorker { profile, cgroup, settings: Arc::default() })?;
        // In a task: waking the runtime's first future costs a system call.
        let served = tokio::spawn(agents.serve(socket)).await;
        let served = served.map_err(|error| Error::internal(format!("serving ended: {error}")))?;
        served.map_err(|error| {
            Error::new(ErrorKind::Unavailable, format!("the connection broke: {error}"))
        })
    });
    runtime.shutdown_background();
    served
}

/// The socket that was passed, as `sd_listen_fds(3)` has it: descriptor 3.
fn socket() -> Result<UnixStream, Error> {
    let mut passed = ListenFd::from_env();
    let socket: Option<UnixStream> = passed
        .take_custom(0, AF_UNIX, SOCK_STREAM, "connected Unix socket")
        .map_err(|error| Error::invalid("descriptor 3", error))?;
    let socket = socket.ok_or_else(|| {
        Error::invalid("LISTEN_FDS", "is missing; a worker is started by op-dbus, not by hand")
    })?;
    socket.peer_addr().map_err(|error| Error::invalid("descriptor 3", error))?;
    Ok(socket)
}
