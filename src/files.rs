//! Finds and reads the files of the configuration, for the daemon and for clients. It does not look into
//! them.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

/// Where the configuration is unless the command line or `OP_DBUS_CONFIG` say otherwise.
pub(crate) const DEFAULT_PATH: &str = "/etc/op-dbus/grpc.toml";

/// The largest configuration file, in bytes. A larger one is some other file.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A file and what stands in it.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// A file or folder that cannot be read.
pub(crate) struct Unreadable {
    pub(crate) path: PathBuf,
    pub(crate) error: io::Error,
}

/// The main file, unless it `may_be_missing` and is, and its drop-ins, in the order in which they count.
///
/// # Errors
/// The first that cannot be read.
pub(crate) fn sources(path: &Path, may_be_missing: bool) -> Result<Vec<Source>, Unreadable> {
    let mut sources = Vec::new();
    match read(path) {
        Ok(text) => sources.push(Source { path: path.to_owned(), text }),
        Err(error) if error.kind() == ErrorKind::NotFound && may_be_missing => {}
        Err(error) => return Err(Unreadable { path: path.to_owned(), error }),
    }
    for path in drop_ins(path)? {
        match read(&path) {
            Ok(text) => sources.push(Source { path, text }),
            Err(error) => return Err(Unreadable { path, error }),
        }
    }
    Ok(sources)
}

/// The drop-ins of `path`, sorted by name. Names that begin with a dot are editors' and package
/// managers' leftovers.
fn drop_ins(path: &Path) -> Result<Vec<PathBuf>, Unreadable> {
    let mut folder = OsString::from(path);
    folder.push(".d");
    let folder = PathBuf::from(folder);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Unreadable { path: folder, error }),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let unreadable = |error| Unreadable { path: folder.clone(), error };
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The text of a file.
///
/// # Errors
/// If it cannot be read, is no text or is too large to be one of the configuration.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        let problem =
            format!("it is larger than {MAX_FILE_BYTES} bytes, so it is no configuration");
        return Err(io::Error::new(ErrorKind::FileTooLarge, problem));
    }
    Ok(text)
}
