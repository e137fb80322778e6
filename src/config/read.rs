//! Finds and reads the files. It does not look into them.

use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use super::Missing;
use super::problem::{Problem, Problems};

/// The largest configuration file, in bytes. A larger one is some other file.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A file and what stands in it.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// The main file and its drop-ins, in the order in which they count.
pub(super) fn sources(path: &Path, missing: Missing) -> Result<Vec<Source>, Problems> {
    let mut sources = Vec::new();
    match read(path) {
        Ok(text) => sources.push(Source { path: path.to_owned(), text }),
        Err(error) if error.kind() == ErrorKind::NotFound && missing == Missing::UseDefaults => {}
        Err(error) => return Err(unreadable(path, &error)),
    }
    for path in drop_ins(path)? {
        let text = read(&path).map_err(|error| unreadable(&path, &error))?;
        sources.push(Source { path, text });
    }
    Ok(sources)
}

/// The drop-ins of `path`, sorted by name. Names that begin with a dot are editors' and package
/// managers' leftovers.
fn drop_ins(path: &Path) -> Result<Vec<PathBuf>, Problems> {
    let mut folder = OsString::from(path);
    folder.push(".d");
    let folder = PathBuf::from(folder);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(&folder, &error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(&folder, &error))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

pub(super) fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        let problem =
            format!("it is larger than {MAX_FILE_BYTES} bytes, so it is no configuration");
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, problem));
    }
    Ok(text)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Problems {
    let hint = if error.kind() == ErrorKind::NotFound {
        "; name an existing file with --config, or leave the option out"
    } else if error.kind() == ErrorKind::PermissionDenied {
        "; the user that the service runs as must be able to read it"
    } else {
        ""
    };
    Problem {
        file: Some(path.to_owned()),
        place: None,
        key: None,
        text: format!("the file cannot be read: {error}{hint}"),
    }
    .into()
}
