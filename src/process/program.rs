//! From the first argument and the folder to the file that will be executed. It opens no program and
//! judges none.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::environment::DEFAULT_PATH;
use super::spec::{Directory, Spec};
use crate::error::{Error, ErrorKind};

/// Opens the folder in which a program is to run.
///
/// # Errors
///
/// `NotFound`, `AccessDenied`, or `PathOutsideRoot` if it leads out of the root that was given.
pub(super) fn open_directory(directory: &Directory) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let (opened, path) = match directory {
        Directory::Path(path) if !path.is_absolute() => {
            return Err(Error::invalid("directory", "it must be an absolute path"));
        }
        Directory::Path(path) => (rustix::fs::open(path, flags, Mode::empty()), path),
        Directory::Beneath(root, path) => {
            // The root itself is a good place too, and an empty path is nothing to the kernel.
            let inside = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            (rustix::fs::openat2(root, inside, flags, Mode::empty(), resolve), path)
        }
    };
    opened.map_err(|errno| {
        let kind = match errno {
            Errno::XDEV | Errno::LOOP => ErrorKind::PathOutsideRoot,
            Errno::ACCESS | Errno::PERM => ErrorKind::AccessDenied,
            _ => ErrorKind::NotFound,
        };
        Error::new(kind, format!("directory: {} cannot be opened: {errno}", path.display()))
            .with_fact("field", "directory")
    })
}

/// The file that `name` means. A name without `/` is looked for in each folder of `path`; an absolute
/// path is taken as it is; any other must stay beneath `directory`. It must be a regular file that may
/// be executed.
///
/// # Errors
///
/// `BackendMissing` if there is no such program; `InvalidArgument` if the name cannot be one.
pub(super) fn resolve(
    name: &OsStr,
    path: &OsStr,
    directory: BorrowedFd<'_>,
) -> Result<PathBuf, Error> {
    if name.is_empty() || name.as_bytes().contains(&0) {
        return Err(Error::invalid("argv", "the program must be named, without a zero byte"));
    }
    let missing = |problem: String| {
        Error::new(ErrorKind::BackendMissing, problem)
            .with_fact("program", name.to_string_lossy().into_owned())
    };
    if Path::new(name).is_absolute() {
        let problem = |errno| missing(format!("{} cannot be executed: {errno}", name.display()));
        return executable(CWD, Path::new(name)).map(|()| name.into()).map_err(problem);
    }
    if name.as_bytes().contains(&b'/') {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        return rustix::fs::openat2(directory, name, flags, Mode::empty(), resolve)
            .and_then(|_| executable(directory, Path::new(name)))
            .map(|()| name.into())
            .map_err(|errno| {
                missing(format!("{} is no program beneath the directory: {errno}", name.display()))
            });
    }
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|candidate| executable(CWD, candidate).is_ok())
        .ok_or_else(|| missing(format!("there is no program {} here", name.display())))
}

fn executable(at: impl AsFd, path: &Path) -> rustix::io::Result<()> {
    let found = rustix::fs::statat(&at, path, AtFlags::empty())?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(Errno::ACCESS);
    }
    rustix::fs::accessat(at, path, Access::EXEC_OK, AtFlags::EACCESS)
}

/// The file that `name` means to a program that is started in `directory`, where `path` is looked
/// through.
///
/// # Errors
///
/// As the runner's for a folder and a program that are not there.
pub fn find_program(name: &OsStr, path: &OsStr, directory: &Path) -> Result<PathBuf, Error> {
    let directory = open_directory(&Directory::Path(directory.to_owned()))?;
    resolve(name, path, directory.as_fd())
}

/// Where the runner looks for a program: the `PATH` that it is given, or the usual one.
#[must_use]
pub fn search_path(spec: &Spec) -> &OsStr {
    let given = spec.environment.iter().find(|(name, _)| name == "PATH");
    given.map_or(OsStr::new(DEFAULT_PATH), |(_, path)| path)
}

/// The value of `PATH` in an environment.
pub(super) fn path_of(environment: &std::collections::BTreeMap<OsString, OsString>) -> &OsStr {
    environment.get(OsStr::new("PATH")).map_or(OsStr::new(""), |path| path)
}
