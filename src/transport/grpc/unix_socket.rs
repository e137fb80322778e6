//! A Unix socket of our own: taken without ever pushing a living server or a foreign file aside, open
//! to nobody before its rights are set, and removed at the end if it is still ours. The lock file beside
//! it stays: removing it would let two servers hold two locks of one name.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown,
};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::unistd::Group;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::UnixSocket;
use crate::error::{Error, ErrorKind};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A bound socket's file. Dropping it removes the file, unless another has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// Held as long as the socket is ours.
    _lock: File,
}

/// Binds and listens.
///
/// # Errors
/// `AlreadyExists` if a server lives at the path or something there is no socket; `InvalidArgument`
/// if the group is unknown or the path too long; `Unavailable` if the system does not let it.
pub(super) fn bind(config: &UnixSocket) -> Result<(UnixListener, SocketFile), Error> {
    let path = &config.path;
    let group = config.group.as_deref().map(group_id).transpose()?;
    let address = SocketAddrUnix::new(path.as_path()).map_err(|_| {
        let problem = format!("{} is too long for a socket's path", path.display());
        Error::invalid("grpc.unix", problem)
    })?;
    let lock = lock(path)?;
    clear(path, &address)?;

    let cannot = |error: &dyn std::error::Error| unavailable(path, "cannot be bound", error);
    let socket = new_socket().map_err(|error| cannot(&error))?;
    rustix::net::bind(&socket, &address).map_err(|error| cannot(&error))?;
    let metadata = fs::symlink_metadata(path).map_err(|error| cannot(&error))?;
    let file =
        SocketFile { path: path.clone(), identity: (metadata.dev(), metadata.ino()), _lock: lock };
    // Nobody can connect before `listen`, so there is no moment of wider rights.
    set_rights(path, config, group)?;
    rustix::net::listen(&socket, BACKLOG).map_err(|error| cannot(&error))?;
    Ok((UnixListener::from(socket), file))
}

fn group_id(name: &str) -> Result<u32, Error> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(Error::invalid(
            "grpc.unix_group",
            format!("there is no group {name}; create it with: groupadd --system {name}"),
        )),
        Err(error) => Err(Error::invalid(
            "grpc.unix_group",
            format!("the group {name} cannot be looked up: {error}"),
        )),
    }
}

/// Makes sure that of several processes that want the path only one goes on.
fn lock(path: &Path) -> Result<File, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&name)
        .map_err(|error| unavailable(Path::new(&name), "cannot be opened", &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(taken(path)),
        Err(TryLockError::Error(error)) => {
            Err(unavailable(Path::new(&name), "cannot be locked", &error))
        }
    }
}

/// Removes a socket that a dead server left behind.
fn clear(path: &Path, address: &SocketAddrUnix) -> Result<(), Error> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unavailable(path, "cannot be looked at", &error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            format!(
                "{} exists and is no socket; remove it or set grpc.unix to another path",
                path.display()
            ),
        ));
    }
    let cannot = |error: &dyn std::error::Error| unavailable(path, "cannot be probed", error);
    let socket = new_socket().map_err(|error| cannot(&error))?;
    match rustix::net::connect(&socket, address) {
        // A server lives; perhaps it is only behind with accepting.
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS) => Err(taken(path)),
        Err(Errno::CONNREFUSED) => {
            tracing::info!(path = %path.display(), "removing the socket of a server that is gone");
            fs::remove_file(path).map_err(|error| unavailable(path, "cannot be removed", &error))
        }
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(cannot(&error)),
    }
}

fn new_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

fn set_rights(path: &Path, config: &UnixSocket, group: Option<u32>) -> Result<(), Error> {
    if let Some(group) = group {
        chown(path, None, Some(group)).map_err(|error| {
            let name = config.group.as_deref().unwrap_or_default();
            unavailable(path, &format!("cannot be given to the group {name}"), &error)
        })?;
    }
    fs::set_permissions(path, Permissions::from_mode(config.mode))
        .map_err(|error| unavailable(path, "cannot be given its mode", &error))
}

fn taken(path: &Path) -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        format!(
            "another server listens on {}; stop it or set grpc.unix to another path",
            path.display()
        ),
    )
}

fn unavailable(path: &Path, problem: &str, error: &dyn std::error::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{} {problem}: {error}", path.display()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the gRPC socket cannot be removed");
        }
    }
}
