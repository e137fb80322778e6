//! Descriptors that clients pass for messages: what they may be, and how they are read and written
//! without blocking anybody. What goes through them is not its business.

use std::os::fd::OwnedFd;
use std::os::unix::net;
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::net::{SocketType, sockopt};
use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;

/// How many regular files are read and written at once: each takes a thread while it is, which a slow
/// file system may hold for long.
const MAX_FILES: usize = 16;

/// The room that a pipe gets which messages are written to, in bytes.
const PIPE_BYTES: usize = 256 * 1024;

/// A descriptor as a stream.
pub(super) struct Stream<T: ?Sized> {
    pub(super) bytes: Box<T>,
    /// For a regular file.
    _place: Option<OwnedSemaphorePermit>,
}

pub(super) type Reader = Stream<dyn AsyncRead + Send + Unpin>;
pub(super) type Writer = Stream<dyn AsyncWrite + Send + Unpin>;

/// Opens what clients pass.
pub(super) struct Descriptors {
    files: Arc<Semaphore>,
}

/// What a descriptor is.
enum Kind {
    Pipe,
    Socket,
    File(OwnedSemaphorePermit),
}

impl Descriptors {
    pub(super) fn new() -> Self {
        Self { files: Arc::new(Semaphore::new(MAX_FILES)) }
    }

    /// The descriptor in the option `option`, to be read.
    ///
    /// # Errors
    /// `InvalidArgument` if it is no pipe, stream socket or file, or not open for that;
    /// `LimitExceeded` if too many files are open.
    pub(super) fn reader(&self, option: &str, fd: OwnedFd) -> Result<Reader, Error> {
        let broken = |error: std::io::Error| Error::invalid(option, error);
        Ok(match self.kind(option, &fd, OFlags::WRONLY)? {
            Kind::Pipe => {
                let pipe = pipe::Receiver::from_owned_fd(fd).map_err(broken)?;
                Stream { bytes: Box::new(pipe), _place: None }
            }
            Kind::Socket => Stream { bytes: Box::new(socket(fd).map_err(broken)?), _place: None },
            Kind::File(place) => Stream { bytes: Box::new(file(fd)), _place: Some(place) },
        })
    }

    /// The descriptor in the option `option`, to be written.
    ///
    /// # Errors
    /// As [`Descriptors::reader`].
    pub(super) fn writer(&self, option: &str, fd: OwnedFd) -> Result<Writer, Error> {
        let broken = |error: std::io::Error| Error::invalid(option, error);
        Ok(match self.kind(option, &fd, OFlags::RDONLY)? {
            Kind::Pipe => {
                widen(&fd);
                let pipe = pipe::Sender::from_owned_fd(fd).map_err(broken)?;
                Stream { bytes: Box::new(pipe), _place: None }
            }
            Kind::Socket => Stream { bytes: Box::new(socket(fd).map_err(broken)?), _place: None },
            Kind::File(place) => Stream { bytes: Box::new(file(fd)), _place: Some(place) },
        })
    }

    /// What the descriptor is. `useless` is the access with which it is of no use.
    fn kind(&self, option: &str, fd: &OwnedFd, useless: OFlags) -> Result<Kind, Error> {
        let broken = |error: rustix::io::Errno| Error::invalid(option, error);
        let flags = fcntl_getfl(fd).map_err(broken)?;
        if flags.contains(OFlags::PATH) || flags & OFlags::RWMODE == useless {
            let what = if useless == OFlags::RDONLY { "writing" } else { "reading" };
            return Err(Error::invalid(option, format!("is not open for {what}")));
        }
        match FileType::from_raw_mode(fstat(fd).map_err(broken)?.st_mode) {
            FileType::Fifo => Ok(Kind::Pipe),
            FileType::Socket if sockopt::socket_type(fd).map_err(broken)? == SocketType::STREAM => {
                Ok(Kind::Socket)
            }
            FileType::RegularFile => {
                let place = Arc::clone(&self.files).try_acquire_owned();
                place.map(Kind::File).map_err(|_| {
                    let problem = format!("{option}: too many files are open; pass a pipe");
                    Error::limit("files over D-Bus", MAX_FILES, problem)
                })
            }
            FileType::Socket
            | FileType::Directory
            | FileType::Symlink
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => {
                Err(Error::invalid(option, "must be a pipe, a stream socket or a regular file"))
            }
        }
    }
}

/// Gives a pipe room for several messages: with the usual room for one, reader and writer wake each
/// other for every part of it. A pipe that is larger stays as it is, and so does one that the system
/// lets nobody enlarge.
fn widen(pipe: &OwnedFd) {
    if fcntl_getpipe_size(pipe).is_ok_and(|size| size < PIPE_BYTES) {
        fcntl_setpipe_size(pipe, PIPE_BYTES).ok();
    }
}

fn socket(fd: OwnedFd) -> std::io::Result<UnixStream> {
    // Reading and writing are the same for stream sockets of every family.
    let socket = net::UnixStream::from(fd);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

fn file(fd: OwnedFd) -> tokio::fs::File {
    tokio::fs::File::from_std(std::fs::File::from(fd))
}
