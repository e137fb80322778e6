//! The log on disk: taken up where it ended, written at its end, turned over by size, kept to a number
//! of files. It knows nothing of calls, and what it cannot write it leaves to its caller.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::event;
use super::files::{self, Head, HeadFile};
use super::record::{Hash, Kind, Record};

/// How large and how many the files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) file_bytes: u64,
    pub(super) files: usize,
    /// Whether each batch is on the disk before it counts as written.
    pub(super) synced: bool,
}

/// A log that can be written.
pub(super) struct Log {
    folder: PathBuf,
    bounds: Bounds,
    file: File,
    /// The bytes of `file` that hold whole records.
    length: u64,
    head: Head,
    head_file: HeadFile,
    /// True if a file was begun and the oldest may have to go.
    begun: bool,
}

/// The end of the newest file.
struct Tail {
    head: Head,
    /// What follows the last record.
    torn: Vec<u8>,
    /// True if the last line has no end.
    open: bool,
}

impl Log {
    /// Takes up the log in `folder`. The records are those that the log owes: of what was found to be
    /// torn or missing.
    ///
    /// # Errors
    /// If a file cannot be read, opened or made.
    pub(super) fn resume(folder: &Path, bounds: Bounds) -> io::Result<(Self, Vec<Record>)> {
        let files = files::list(folder)?;
        let tail = tail(&files)?;
        let noted = files::head(folder)?.unwrap_or(Head::NONE);
        let mut head = tail.head;
        let gone = (noted.seq > head.seq).then_some((head.seq + 1, noted.seq));
        // A number is never given twice.
        head.seq = head.seq.max(noted.seq);
        let path = files.last().cloned().unwrap_or_else(|| files::path(folder, head.seq + 1));
        let mut file = files::open(&path)?;
        let mut torn = tail.torn;
        if tail.open {
            file.write_all(b"\n")?;
            if !torn.is_empty() {
                torn.push(b'\n');
            }
        }
        let mut record = Record {
            time: event::time(SystemTime::now()),
            first: gone.map(|(first, _)| first),
            last: gone.map(|(_, last)| last),
            ..Record::default()
        };
        let mut owed = Vec::new();
        if !torn.is_empty() {
            record.kind = Kind::Torn;
            record.bytes = Some(torn.len() as u64);
            record.digest = Some(Hash::of(&torn));
            owed.push(record);
        } else if gone.is_some() {
            record.kind = Kind::Truncated;
            owed.push(record);
        }
        let log = Self {
            length: file.metadata()?.len(),
            head_file: HeadFile::open(folder)?,
            folder: folder.to_owned(),
            bounds,
            file,
            head,
            begun: false,
        };
        Ok((log, owed))
    }

    /// Numbers the records and writes them, all or none; gives their hashes.
    ///
    /// # Errors
    /// If they cannot be written; then the log is as before, or [`Log::resume`] makes it so.
    pub(super) fn append(&mut self, records: &mut [Record]) -> io::Result<Vec<Hash>> {
        let mut lines = Vec::with_capacity(records.len() * 512);
        let mut hashes = Vec::with_capacity(records.len());
        let mut head = self.head;
        for record in records {
            head.seq += 1;
            record.seq = head.seq;
            record.prev = head.hash;
            head.hash = record.write(&mut lines);
            hashes.push(head.hash);
        }
        if self.length > 0 && self.length + lines.len() as u64 > self.bounds.file_bytes {
            self.turn_over()?;
        }
        self.write(&lines)?;
        self.head = head;
        Ok(hashes)
    }

    /// Notes where the log ends, and removes files that are too many. What was written is written
    /// whether this succeeds or not.
    ///
    /// # Errors
    /// If it cannot be done now; the next time does it.
    pub(super) fn tend(&mut self) -> io::Result<()> {
        self.head_file.write(self.head)?;
        if self.begun {
            self.make_room()?;
            self.begun = false;
            self.head_file.write(self.head)?;
        }
        Ok(())
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(lines).and_then(|()| match self.bounds.synced {
            true => self.file.sync_data(),
            false => Ok(()),
        });
        if let Err(error) = written {
            // What of it was written must not stand before what is written next. If that fails, the
            // torn piece is found and noted when the log is taken up again.
            self.file.set_len(self.length).ok();
            return Err(error);
        }
        self.length += lines.len() as u64;
        Ok(())
    }

    fn turn_over(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.file = files::open(&files::path(&self.folder, self.head.seq + 1))?;
        self.length = self.file.metadata()?.len();
        self.begun = true;
        if self.bounds.synced {
            File::open(&self.folder)?.sync_all()?;
        }
        Ok(())
    }

    /// Removes the oldest files that are too many, after noting where what remains begins.
    fn make_room(&mut self) -> io::Result<()> {
        let files = files::list(&self.folder)?;
        let many = files.len().saturating_sub(self.bounds.files);
        for pair in files.windows(2).take(many) {
            let [oldest, next] = pair else { continue };
            let anchor = files::first_record(next)?;
            let mut record = Record {
                time: event::time(SystemTime::now()),
                kind: Kind::Removed,
                last: files::first_of(next).map(|first| first.saturating_sub(1)),
                digest: anchor.map(|record| record.prev),
                ..Record::default()
            };
            self.append(std::slice::from_mut(&mut record))?;
            fs::remove_file(oldest)?;
        }
        Ok(())
    }

    /// Sees to it that what was written outlives a power cut.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Where the log ends.
fn tail(files: &[PathBuf]) -> io::Result<Tail> {
    let mut tail: Option<Tail> = None;
    for path in files.iter().rev() {
        let bytes = fs::read(path)?;
        let (head, end) = last_record(&bytes);
        // Only what follows in the newest file is not followed by records already.
        let found = tail.get_or_insert_with(|| Tail {
            head: Head::NONE,
            torn: bytes[end..].to_vec(),
            open: bytes.last().is_some_and(|last| *last != b'\n'),
        });
        if let Some(head) = head {
            found.head = head;
            break;
        }
    }
    Ok(tail.unwrap_or(Tail { head: Head::NONE, torn: Vec::new(), open: false }))
}

/// The last record that is whole, and where it ends.
fn last_record(bytes: &[u8]) -> (Option<Head>, usize) {
    let mut end = bytes.len();
    loop {
        let line = bytes[..end].strip_suffix(b"\n").unwrap_or(&bytes[..end]);
        let begin = line.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if let Some((record, hash)) = Record::read(&line[begin..]) {
            return (Some(Head { seq: record.seq, hash }), end);
        }
        if begin == 0 {
            return (None, 0);
        }
        end = begin;
    }
}
