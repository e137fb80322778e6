//! Whole messages with at most one descriptor, over a Unix socket that keeps messages apart
//! (`SOCK_SEQPACKET`). What they mean is not known here.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
    listen, recvmsg, sendmsg, socket_with,
};
use tokio::io::Interest;

use super::message::MAX_BYTES;

/// How many connections wait to be accepted.
const BACKLOG: i32 = 64;

/// One end of a connection.
#[derive(Debug)]
pub struct Messages(tokio::net::UnixStream);

impl Messages {
    /// Takes a connection that was accepted.
    #[must_use]
    pub fn accepted(stream: tokio::net::UnixStream) -> Self {
        Self(stream)
    }

    /// Connects with whoever listens at `path`. Must be called in a runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = new_socket()?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self(tokio::net::UnixStream::from_std(UnixStream::from(socket))?))
    }

    /// The uid of the process at the other end, as the kernel attests it.
    ///
    /// # Errors
    /// What the system says.
    pub fn peer(&self) -> io::Result<u32> {
        Ok(self.0.peer_cred()?.uid())
    }

    /// Sends one message.
    ///
    /// # Errors
    /// What the system says.
    pub async fn send(&self, message: &[u8], passed: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let passed: Vec<_> = passed.into_iter().collect();
            if !passed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&passed)) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let parts = [IoSlice::new(message)];
            sendmsg(&self.0, &parts, &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
            Ok(())
        };
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// Receives one message; an empty one is the end. One that is too long comes cut off at
    /// [`MAX_BYTES`], which no valid message has.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// No message is lost.
    pub async fn receive(&self) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
        let receive = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut buffer = vec![0; MAX_BYTES];
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let parts = &mut [IoSliceMut::new(&mut buffer)];
            let count = recvmsg(self.0.as_fd(), parts, &mut control, flags)?.bytes;
            buffer.truncate(count);
            let passed = control.drain().find_map(|message| {
                let RecvAncillaryMessage::ScmRights(mut passed) = message else { return None };
                passed.next()
            });
            Ok((buffer, passed))
        };
        self.0.async_io(Interest::READABLE, receive).await
    }

    /// Waits until the other side has gone, or says what it must not.
    pub async fn hung_up(&self) {
        // A message or an error is as good a reason to end it as the end.
        self.receive().await.ok();
    }
}

fn new_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// Listens at `path`, where nothing may be yet. Must be called in a runtime.
///
/// # Errors
/// What the system says.
pub(super) fn listen_at(path: &Path) -> io::Result<tokio::net::UnixListener> {
    let socket = new_socket()?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    tokio::net::UnixListener::from_std(UnixListener::from(socket))
}
