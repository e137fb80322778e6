//! The folder for temporary files of the stub's programs, one after the other. It is empty when a
//! program begins, and ends with the stub.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Who may do anything in it: its owner.
const MODE: u32 = 0o700;
/// How many names are tried; one that is taken was left by a stub of the same number that was killed.
const NAMES_MAX: u32 = 100;

pub(super) struct Temporary(PathBuf);

impl Temporary {
    /// Makes a folder in `parent`.
    pub(super) fn make(parent: &Path) -> io::Result<Self> {
        let mut outcome = Err(io::ErrorKind::AlreadyExists.into());
        for number in 0..NAMES_MAX {
            let path = parent.join(format!("op-dbus-run-{}-{number}", std::process::id()));
            outcome = DirBuilder::new().mode(MODE).create(&path).map(|()| Self(path));
            if !matches!(&outcome, Err(error) if error.kind() == io::ErrorKind::AlreadyExists) {
                break;
            }
        }
        outcome
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes it as it was at the beginning. False if that cannot be done.
    pub(super) fn clear(&self) -> bool {
        let is_as_made = fs::symlink_metadata(&self.0)
            .is_ok_and(|found| found.is_dir() && found.permissions().mode() & 0o7777 == MODE);
        is_as_made
            && (self.is_empty() || {
                self.remove_content();
                self.is_empty()
            })
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(&self.0).is_ok_and(|mut entries| entries.next().is_none())
    }

    fn remove_content(&self) {
        let Ok(entries) = fs::read_dir(&self.0) else { return };
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
        if fs::remove_dir(&self.0).is_err() {
            remove_folder(&self.0);
        }
    }
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
