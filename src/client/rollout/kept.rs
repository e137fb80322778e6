//! The last known stages in a file, for a start without the service. A file that cannot be read is no
//! knowledge: the stages are told again, and the file written anew.

use std::ffi::OsString;
use std::path::Path;
use std::{fs, io};

use prost::Message as _;
use tokio::task::spawn_blocking;

use super::Routes;
use crate::proto::opdbus::v1::GetRoutesResponse;

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// The stages in the file at `path`.
pub(super) async fn read(path: &Path) -> Option<Routes> {
    let path = path.to_owned();
    let bytes = spawn_blocking(move || match fs::metadata(&path)?.len() {
        0..=MAX_BYTES => fs::read(&path),
        _ => Err(io::ErrorKind::FileTooLarge.into()),
    });
    let bytes = bytes.await.ok()?.ok()?;
    GetRoutesResponse::decode(bytes.as_slice()).ok().map(Routes)
}

/// Puts the stages into the file at `path`, whole or not at all.
///
/// # Errors
/// Why they could not be written.
pub(super) async fn write(path: &Path, routes: &Routes) -> io::Result<()> {
    let path = path.to_owned();
    let bytes = routes.0.encode_to_vec();
    let written = spawn_blocking(move || {
        let mut beside = OsString::from(&path);
        beside.push(".part");
        fs::write(&beside, bytes)?;
        fs::rename(&beside, &path)
    });
    written.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::opdbus::v1::{Route, Stage};

    #[tokio::test]
    async fn what_is_kept_is_found_again_and_what_is_damaged_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("routes");
        assert!(read(&path).await.is_none());
        let route = Route { stage: Stage::Grpc.into(), ..Route::default() };
        let routes = GetRoutesResponse { routes: vec![route], ..GetRoutesResponse::default() };
        write(&path, &Routes(routes.clone())).await.unwrap();
        assert_eq!(read(&path).await.unwrap().0, routes);
        fs::write(&path, [0xff]).unwrap();
        assert!(read(&path).await.is_none());
    }
}
