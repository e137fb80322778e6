//! A connected Unix socket that wakes its process for what comes and, only while the socket is full, for
//! room. What is said on it is not known here.
//!
//! tokio's own socket waits for room all the time. The kernel tells of room whenever the other side has
//! read, so that each message wakes its sender once more, for nothing.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// The socket. It must be made in a runtime, which also has to poll it.
pub(crate) struct LocalSocket {
    socket: AsyncFd<UnixStream>,
    /// The same socket, while it is full.
    full: Option<AsyncFd<UnixStream>>,
}

impl LocalSocket {
    /// Takes over a connected socket.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket: wait_on(socket, Interest::READABLE)?, full: None })
    }

    /// The socket itself, which does not block.
    pub(crate) fn get_ref(&self) -> &UnixStream {
        self.socket.get_ref()
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(full) = &self.full {
                ready!(full.poll_write_ready(context))?.clear_ready();
            }
            match rustix::io::writev(self.get_ref(), slices) {
                Err(rustix::io::Errno::AGAIN) => {
                    if self.full.is_none() {
                        let socket = self.get_ref().try_clone()?;
                        self.full = Some(wait_on(socket, Interest::WRITABLE)?);
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                written => {
                    self.full = None;
                    return Poll::Ready(written.map_err(Into::into));
                }
            }
        }
    }
}

/// Has the runtime tell when `socket` is ready for `interest`.
#[expect(
    deprecated,
    reason = "it is unsound for types that may close their descriptor early, which a socket of the \
              standard library cannot; its replacement is an unsafe function"
)]
fn wait_on(socket: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    AsyncFd::with_interest(socket, interest)
}

impl AsyncRead for LocalSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = &self.get_mut().socket;
        loop {
            let mut ready = ready!(socket.poll_read_ready(context))?;
            let space = buffer.initialize_unfilled();
            let room = space.len();
            match rustix::io::read(socket.get_ref(), space) {
                Ok(count) => {
                    // Less than there was room for: the socket is empty, and the next look is saved.
                    if count > 0 && count < room {
                        ready.clear_ready();
                    }
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsyncWrite for LocalSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_ref().shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// More than any socket holds.
    const MUCH: usize = 8 << 20;

    fn pair() -> (LocalSocket, LocalSocket) {
        let (one, other) = UnixStream::pair().unwrap();
        (LocalSocket::new(one).unwrap(), LocalSocket::new(other).unwrap())
    }

    #[tokio::test]
    async fn what_does_not_fit_waits_for_room_in_both_directions() {
        let (one, other) = pair();
        let sent: Vec<u8> = (0..MUCH).map(|index| index.to_le_bytes()[0]).collect();
        let talk = async |socket: LocalSocket| {
            let (mut reader, mut writer) = tokio::io::split(socket);
            let write = async {
                writer.write_all(&sent).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            let (read, ()) = tokio::join!(reader.read_to_end(&mut got), write);
            assert_eq!(read.unwrap(), MUCH);
            assert!(got == sent);
        };
        tokio::join!(talk(one), talk(other));
    }

    #[tokio::test]
    async fn an_end_is_heard_after_a_message_that_left_room() {
        let (mut one, mut other) = pair();
        one.write_all(b"last words").await.unwrap();
        drop(one);
        let mut buffer = [0; 64];
        assert_eq!(other.read(&mut buffer).await.unwrap(), 10);
        assert_eq!(other.read(&mut buffer).await.unwrap(), 0);
        let error = other.write_all(&vec![0; MUCH]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn whoever_waits_for_room_hears_that_the_other_is_gone() {
        let (mut one, other) = pair();
        let writing = tokio::spawn(async move { one.write_all(&vec![0; MUCH]).await });
        tokio::task::yield_now().await;
        drop(other);
        assert!(writing.await.unwrap().is_err());
    }
}
