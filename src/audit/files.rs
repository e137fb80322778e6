//! The files of a log: their names, their order, and the note of where the log ended. What stands in
//! the files is the matter of others.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::record::{Hash, Record};

/// The note of the last record, so that a log that was cut short is seen to be.
const HEAD_FILE: &str = "head";

/// The longest line that is read where a record should be.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// The last record of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) seq: u64,
    pub(super) hash: Hash,
}

impl Head {
    /// The head of a log without records.
    pub(super) const NONE: Self = Self { seq: 0, hash: Hash::NONE };
}

/// The files in `folder`, the oldest first. No folder is no files.
///
/// # Errors
/// If the folder cannot be read.
pub(super) fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if first_of(&path).is_some() {
            files.push(path);
        }
    }
    // The numbers in the names have the same length.
    files.sort();
    Ok(files)
}

/// The file that begins with the record `seq`.
pub(super) fn path(folder: &Path, seq: u64) -> PathBuf {
    folder.join(format!("audit-{seq:020}.jsonl"))
}

/// The number of the record that a file begins with, by its name.
pub(super) fn first_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let digits = name.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
    if digits.len() == 20 { digits.parse().ok() } else { None }
}

/// The file's name for people.
pub(super) fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Opens a file to write at its end.
///
/// # Errors
/// If it cannot be opened or made.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)
}

/// The first record in a file; `None` if there is none.
///
/// # Errors
/// If it cannot be read.
pub(super) fn first_record(path: &Path) -> io::Result<Option<Record>> {
    let mut reader = BufReader::new(File::open(path)?);
    loop {
        let mut line = Vec::new();
        if (&mut reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        // Before it there may be a piece of one that was cut off.
        if let Some((record, _)) = Record::read(line.strip_suffix(b"\n").unwrap_or(&line)) {
            return Ok(Some(record));
        }
    }
}

/// The file with the head of the log.
pub(super) struct HeadFile(File);

impl HeadFile {
    /// # Errors
    /// If it cannot be opened or made.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o640);
        options.open(folder.join(HEAD_FILE)).map(Self)
    }

    /// Notes the head.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn write(&self, head: Head) -> io::Result<()> {
        // Always the same length, so that it is replaced as a whole.
        self.0.write_all_at(format!("{:020} {}\n", head.seq, head.hash).as_bytes(), 0)
    }
}

/// The head that was noted last; `None` if there is none.
///
/// # Errors
/// If there is one but it cannot be read.
pub(super) fn head(folder: &Path) -> io::Result<Option<Head>> {
    let text = match fs::read(folder.join(HEAD_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let parsed = std::str::from_utf8(&text).ok().and_then(|text| {
        let (seq, hash) = text.trim_end().split_once(' ')?;
        Some(Head { seq: seq.parse().ok()?, hash: Hash::read(hash.as_bytes())? })
    });
    Ok(parsed)
}
