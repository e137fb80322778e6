//! The folder for state. What is in it belongs to the agents.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::fs::Access;

use super::{Exit, Failure};

/// Makes the folder if it is missing, private to the service's user, and checks that files can be
/// made in it, so that a start fails here rather than the first write much later.
pub(super) fn prepare(path: &Path) -> Result<(), Failure> {
    let failure = |why: &dyn std::fmt::Display, exit| {
        let what = format_args!("the state folder {} cannot be used", path.display());
        Failure::new(exit, what, why).then(
            "Make it a folder that the service's user may write to, or set [storage] path to one.",
        )
    };
    let by_kind = |error: std::io::Error| {
        let denied = error.kind() == ErrorKind::PermissionDenied;
        failure(&error, if denied { Exit::Permission } else { Exit::State })
    };
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|error| by_kind(error.into())),
        Ok(_) => Err(failure(&"it is not a folder", Exit::State)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(by_kind)
        }
        Err(error) => Err(by_kind(error)),
    }
}
