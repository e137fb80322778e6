//! One accepted connection as a stream of bytes: a Unix or TCP socket, or TLS on it, with the authority made legal
//! and with an end for clients that never speak or never read. It knows nothing of calls.

use std::future::Future as _;
use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;

use super::authority::Authority;

/// How long a client may take to say that it speaks HTTP/2.
pub(super) const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may leave its socket full without reading a byte.
pub(super) const UNREAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The bytes that open an HTTP/2 connection.
const HELLO_BYTES: usize = 24;

/// A connection.
pub(super) struct Socket {
    io: Io,
    /// Set while the client has not said that it speaks HTTP/2.
    hello: Option<Hello>,
    /// Set while the client does not read what was sent.
    unread: Option<Pin<Box<Sleep>>>,
}

enum Io {
    Unix(UnixStream, Authority),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

struct Hello {
    missing: usize,
    timer: Pin<Box<Sleep>>,
}

impl Socket {
    /// A connection on a Unix socket.
    pub(super) fn unix(stream: UnixStream) -> Self {
        Self::new(Io::Unix(stream, Authority::new()))
    }

    /// A connection over TCP.
    pub(super) fn tcp(stream: TcpStream) -> Self {
        Self::new(Io::Tcp(stream))
    }

    /// A connection over TLS.
    pub(super) fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self::new(Io::Tls(Box::new(stream)))
    }

    fn new(io: Io) -> Self {
        let hello = Hello { missing: HELLO_BYTES, timer: Box::pin(sleep(HELLO_TIMEOUT)) };
        Self { io, hello: Some(hello), unread: None }
    }

    /// Says why the connection is not served, in the last words of HTTP/2. It never waits, and a
    /// client that is gone hears nothing.
    pub(super) fn refuse(mut self, reason: &str) {
        const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        const GO_AWAY: u8 = 7;
        const ENHANCE_YOUR_CALM: u8 = 11;
        /// So that the length below fits into one byte.
        const MAX_REASON_BYTES: usize = 200;
        let reason = &reason.as_bytes()[..reason.len().min(MAX_REASON_BYTES)];
        let length = u8::try_from(reason.len() + 8).unwrap_or_default();
        let go_away =
            [0, 0, length, GO_AWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ENHANCE_YOUR_CALM];
        let words = [&SETTINGS as &[u8], &go_away, reason].concat();
        // Not through the runtime, which does not know yet that the socket can be written.
        let said = match &mut self.io {
            Io::Unix(stream, _) => rustix::io::write(stream, &words),
            Io::Tcp(stream) => rustix::io::write(stream, &words),
            Io::Tls(stream) => {
                let (stream, tls) = stream.get_mut();
                let said = tls.writer().write_all(&words);
                said.and_then(|()| tls.write_tls(&mut AtOnce(stream))).map_err(|_| Errno::PIPE)
            }
        };
        if let Err(error) = said {
            tracing::debug!(%error, "a refused gRPC client is gone already");
        }
    }

    /// Passes the outcome of a write on, unless the client has not read for too long.
    fn written(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.unread = None;
            return written;
        }
        let timer = self.unread.get_or_insert_with(|| Box::pin(sleep(UNREAD_TIMEOUT)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(timed_out("the client does not read")))
    }
}

/// Writes what the socket takes, and never waits.
struct AtOnce<'a>(&'a TcpStream);

impl io::Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.0, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn timed_out(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, problem)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = match &mut this.io {
            Io::Unix(stream, authority) => {
                let read = Pin::new(stream).poll_read(context, buffer);
                authority.follow(&mut buffer.filled_mut()[before..]);
                read
            }
            Io::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Io::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if let Some(hello) = &mut this.hello {
            hello.missing = hello.missing.saturating_sub(buffer.filled().len() - before);
            if hello.missing == 0 {
                this.hello = None;
            } else if hello.timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(timed_out("the client does not speak HTTP/2")));
            }
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.io {
            Io::Unix(stream, _) => Pin::new(stream).poll_write(context, bytes),
            Io::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Io::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        };
        this.written(written, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.io {
            Io::Unix(stream, _) => Pin::new(stream).poll_write_vectored(context, slices),
            Io::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Io::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        };
        this.written(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Unix(stream, _) => stream.is_write_vectored(),
            Io::Tcp(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Unix(stream, _) => Pin::new(stream).poll_flush(context),
            Io::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Io::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Unix(stream, _) => Pin::new(stream).poll_shutdown(context),
            Io::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
