//! A connected Unix socket that wakes its owner for what arrives, and for room only while a write waits
//! for it. It knows nothing of what is said over it.
//!
//! The kernel tells the writer each time the peer has read something, and tokio's own socket is always
//! told: one more wake for each message, which between two processes on one core is one more switch.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::task::coop;

/// The most bytes of one read: the memory for them is cleared before.
const READ_BYTES: usize = 64 * 1024;

/// After so many writes in a row that did not wait, the socket is not told of room any more. Streams
/// whose reader is slow wait again and again, and asking each time costs more than being told.
const WRITES_UNTIL_QUIET: u32 = 64;

/// A connected Unix socket.
#[derive(Debug)]
pub(crate) struct LocalStream {
    socket: AsyncFd<UnixStream>,
    /// The same socket, told of room, while or shortly after a write has waited.
    room: Option<Room>,
}

#[derive(Debug)]
struct Room {
    socket: AsyncFd<UnixStream>,
    /// How many writes in a row have not waited.
    writes: u32,
}

impl LocalStream {
    /// Takes a connected socket. Must be called in a runtime.
    ///
    /// # Errors
    /// The system's, if it cannot be waited for.
    pub(crate) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = wait_on(socket, Interest::READABLE)?;
        Ok(Self { socket, room: None })
    }

    /// Writes with `write` as soon as there is room.
    fn poll_write_with(
        &mut self,
        context: &mut Context<'_>,
        write: impl Fn(&UnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        // Else whoever always finds room would never let others run.
        let budget = ready!(coop::poll_proceed(context));
        loop {
            let written = match &mut self.room {
                None => match write(self.socket.get_ref()) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                    written => Some(written),
                },
                Some(room) => {
                    let mut ready = ready!(room.socket.poll_write_ready(context))?;
                    let written = ready.try_io(|socket| write(socket.get_ref())).ok();
                    room.writes = if written.is_some() { room.writes + 1 } else { 0 };
                    written
                }
            };
            match written {
                Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Some(written) => {
                    budget.made_progress();
                    self.room.take_if(|room| room.writes >= WRITES_UNTIL_QUIET);
                    return Poll::Ready(written);
                }
                None if self.room.is_some() => {}
                None => {
                    let socket = self.socket.get_ref().try_clone()?;
                    let socket = wait_on(socket, Interest::WRITABLE)?;
                    self.room = Some(Room { socket, writes: 0 });
                }
            }
        }
    }
}

/// Lets the runtime wait on `socket`, which must not block.
#[expect(
    deprecated,
    reason = "it is unsound for types that may close their descriptor early, which a socket cannot; its \
              replacement is an unsafe function"
)]
fn wait_on(socket: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    AsyncFd::with_interest(socket, interest)
}

impl AsyncRead for LocalStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.socket.poll_read_ready(context))?;
            let wanted = buffer.remaining().min(READ_BYTES);
            let into = buffer.initialize_unfilled_to(wanted);
            match ready.try_io(|socket| socket.get_ref().read(into)) {
                Ok(Ok(read)) => {
                    // There was no more: what comes later is told.
                    if read > 0 && read < wanted {
                        ready.clear_ready();
                    }
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_with(context, |mut socket| socket.write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_with(context, |mut socket| socket.write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.get_ref().shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, split};

    use super::*;

    fn pair() -> (LocalStream, LocalStream) {
        let (one, other) = UnixStream::pair().unwrap();
        (LocalStream::new(one).unwrap(), LocalStream::new(other).unwrap())
    }

    /// Bytes that tell where they stand.
    fn bytes(count: usize) -> Vec<u8> {
        (0..251_u8).cycle().take(count).collect()
    }

    #[tokio::test]
    async fn what_does_not_fit_waits_for_the_reader_and_arrives_whole_both_ways_at_once() {
        const COUNT: usize = 4 * 1024 * 1024;
        let (one, other) = pair();
        let both = [one, other].map(|stream| {
            tokio::spawn(async move {
                let (mut read, mut write) = split(stream);
                let writing = tokio::spawn(async move {
                    // In pieces that make it wait often, and then in some that never do.
                    write.write_all(&bytes(COUNT)).await.unwrap();
                    for _ in 0..2 * WRITES_UNTIL_QUIET {
                        write.write_all(b"little").await.unwrap();
                        tokio::task::yield_now().await;
                    }
                    write.write_all(&bytes(COUNT)).await.unwrap();
                    write.shutdown().await.unwrap();
                });
                let mut all = Vec::new();
                read.read_to_end(&mut all).await.unwrap();
                writing.await.unwrap();
                all
            })
        });
        let mut expected = bytes(COUNT);
        expected.extend(b"little".repeat(2 * WRITES_UNTIL_QUIET as usize));
        expected.extend(bytes(COUNT));
        for side in both {
            assert!(side.await.unwrap() == expected);
        }
    }

    #[tokio::test]
    async fn a_writer_that_waits_for_room_hears_that_its_reader_is_gone() {
        let (mut one, other) = pair();
        let writing = tokio::spawn(async move {
            loop {
                if let Err(error) = one.write_all(&[0; 65_536]).await {
                    return error.kind();
                }
            }
        });
        tokio::task::yield_now().await;
        drop(other);
        assert_eq!(writing.await.unwrap(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_socket_is_told_of_room_only_as_long_as_it_may_need_that() {
        let (mut one, mut other) = pair();
        one.write_all(b"fits").await.unwrap();
        assert!(one.room.is_none());
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            other.read_to_end(&mut all).await.unwrap();
            all.len()
        });
        one.write_all(&bytes(4 * 1024 * 1024)).await.unwrap();
        assert!(one.room.is_some());
        while one.room.is_some() {
            one.write_all(b"fits").await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(one);
        assert!(reading.await.unwrap() > 4 * 1024 * 1024);
    }
}
