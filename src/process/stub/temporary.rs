//! The folder for temporary files of the stub's programs, one after the other. It is empty when a
//! program begins, and ends with the stub, or is found by its lock as that of one that was killed.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

/// How the names of the folders begin.
const NAMES: &str = "op-dbus-run-";
/// Who may do anything in it: its owner.
const MODE: u32 = 0o700;
/// How many names are tried; one that is taken was left by a stub of the same number that was killed.
const NAMES_MAX: u32 = 100;

pub(super) struct Temporary {
    path: PathBuf,
    /// Locked for as long as this process lives.
    _held: File,
}

impl Temporary {
    /// Makes a folder in `parent`.
    pub(super) fn make(parent: &Path) -> io::Result<Self> {
        for number in 0..NAMES_MAX {
            let path = parent.join(format!("{NAMES}{}-{number}", std::process::id()));
            match DirBuilder::new().mode(MODE).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            // Before it was held, somebody could take it for one that was left.
            if let Some(held) = hold(&path)? {
                return Ok(Self { path, _held: held });
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it as it was at the beginning. False if that cannot be done.
    pub(super) fn clear(&self) -> bool {
        let is_as_made = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| found.is_dir() && found.permissions().mode() & 0o7777 == MODE);
        is_as_made
            && (self.is_empty() || {
                self.remove_content();
                self.is_empty()
            })
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(&self.path).is_ok_and(|mut entries| entries.next().is_none())
    }

    fn remove_content(&self) {
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => remove_folder(&entry.path()),
                Ok(_) | Err(_) => {
                    fs::remove_file(entry.path()).ok();
                }
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Mostly it is empty.
        if fs::remove_dir(&self.path).is_err() {
            remove_folder(&self.path);
        }
    }
}

/// Removes what stubs of this user have left in `parent` because they were killed.
pub fn remove_left_over(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let own = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let is_named = entry.file_name().to_string_lossy().starts_with(NAMES);
        let is_own = || entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == own);
        // Whoever holds it lives.
        if is_named && is_own() && matches!(hold(&entry.path()), Ok(Some(_))) {
            remove_folder(&entry.path());
        }
    }
}

/// Locks a folder; `None` if somebody else has locked or removed it.
fn hold(path: &Path) -> io::Result<Option<File>> {
    let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits().cast_signed();
    let folder = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match flock(&folder, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        locked => locked?,
    }
    let locked = folder.metadata()?;
    let there = fs::symlink_metadata(path);
    let is_it = there.is_ok_and(|there| (there.dev(), there.ino()) == (locked.dev(), locked.ino()));
    Ok(is_it.then_some(folder))
}

fn remove_folder(path: &Path) {
    // A program may have made folders in it that not even their owner may read.
    if fs::remove_dir_all(path).is_err() {
        open_up(path);
        fs::remove_dir_all(path).ok();
    }
}

/// Lets the owner into every folder beneath `folder`.
fn open_up(folder: &Path) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, Permissions::from_mode(MODE)).ok();
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        folders.extend(entries.flatten().filter(is_folder).map(|entry| entry.path()));
    }
}
