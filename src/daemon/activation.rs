//! The sockets that systemd passes (`sd_listen_fds(3)`). It checks that they are what the gRPC
//! transport can use; it does not serve them.

use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use nix::sys::socket::{getsockopt, sockopt::AcceptConn};

use super::Failure;

/// How many sockets are taken; more is a mistake in the unit.
const MAX_SOCKETS: usize = 16;

const NEXT_STEP: &str =
    "Correct the socket unit: ListenStream= with a path or a loopback address, and Accept=no.";

/// The listening sockets for gRPC, Unix or TCP.
///
/// A socket whose name (`FileDescriptorName=`) is neither `grpc` nor one that systemd gave is closed.
pub(super) fn sockets() -> Result<Vec<OwnedFd>, Failure> {
    let passed = |name: &str| std::env::var(name).ok();
    let (Some(count), Some(pid)) = (passed("LISTEN_FDS"), passed("LISTEN_PID")) else {
        return Ok(Vec::new());
    };
    if pid.parse() != Ok(std::process::id()) {
        tracing::info!("LISTEN_FDS is ignored: it is meant for process {pid}");
        return Ok(Vec::new());
    }
    if count.parse::<usize>().is_ok_and(|count| count > MAX_SOCKETS) {
        return Err(refuse(format_args!("{count} sockets; at most {MAX_SOCKETS} are taken")));
    }
    let names = passed("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut inherited = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..inherited.len() {
        let socket = take(&mut inherited, index)?;
        let name = names.next().unwrap_or_default();
        // Without FileDescriptorName= the name is that of the unit.
        if matches!(name, "" | "unknown" | "grpc") || name.ends_with(".socket") {
            sockets.push(socket);
        } else {
            tracing::warn!("the socket {name} that systemd passed is closed: nothing here uses it");
        }
    }
    Ok(sockets)
}

fn take(inherited: &mut ListenFd, index: usize) -> Result<OwnedFd, Failure> {
    let wrong = |problem: &dyn std::fmt::Display| refuse(format_args!("socket {index}: {problem}"));
    if let Ok(Some(unix)) = inherited.take_unix_listener(index) {
        unix.set_nonblocking(true).map_err(|error| wrong(&error))?;
        return listening(unix.into()).map_err(|problem| wrong(&problem));
    }
    let tcp = match inherited.take_tcp_listener(index) {
        Ok(Some(tcp)) => tcp,
        Ok(None) => return Err(wrong(&"it is missing")),
        Err(_) => return Err(wrong(&"it is neither a Unix nor a TCP stream socket")),
    };
    let address = tcp.local_addr().map_err(|error| wrong(&error))?;
    if !address.ip().is_loopback() {
        return Err(wrong(&format_args!("{address} is not a loopback address")));
    }
    tcp.set_nonblocking(true).map_err(|error| wrong(&error))?;
    listening(tcp.into()).map_err(|problem| wrong(&problem))
}

fn listening(socket: OwnedFd) -> Result<OwnedFd, &'static str> {
    match getsockopt(&socket, AcceptConn) {
        Ok(true) => Ok(socket),
        _ => Err("it does not listen"),
    }
}

fn refuse(problem: impl std::fmt::Display) -> Failure {
    Failure::config("systemd passed what cannot be served", problem).then(NEXT_STEP)
}
