//! Checks a log: that each record is as it was written, follows the one before, and that none is
//! missing. It needs the files only, and changes nothing.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::files::{self, Head};
use super::record::{Hash, Kind, Record};

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// It, or the one before, is not what was written.
    Changed,
    /// One or more records before it are gone.
    Missing,
    /// It does not stand where it was written.
    Reordered,
    /// The end of the log is gone.
    Truncated,
}

/// The first record that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// The file.
    pub file: String,
    /// The line in it, from 1; 0 if the file as a whole is meant.
    pub line: u64,
    /// The number of the record that should stand there.
    pub seq: u64,
    /// What is wrong.
    pub fault: Fault,
    /// The same for people.
    pub text: String,
}

/// What a log without fault holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many files.
    pub files: u64,
    /// How many records.
    pub records: u64,
    /// The number of the first one.
    pub first: u64,
    /// The number of the last one.
    pub last: u64,
    /// The hash of the last one.
    pub hash: Hash,
    /// What is no fault but should be known: pieces of records that were cut off when the service was
    /// killed, records that could not be written, ends that had been lost before a start.
    pub notices: Vec<String>,
}

/// Checks the log in `folder`.
///
/// # Errors
/// If a file cannot be read. That the log is broken is the inner error.
pub fn verify(folder: &Path) -> io::Result<Result<Report, Broken>> {
    // Before the files, so that what is written meanwhile is not taken for missing.
    let head = files::head(folder)?;
    let mut verifier = Verifier::default();
    let paths = files::list(folder)?;
    for (index, path) in paths.iter().enumerate() {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            // It made room meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound && index == 0 => continue,
            Err(error) => return Err(error),
        };
        if let Err(broken) = verifier.file(&files::name(path), &bytes, index + 1 == paths.len()) {
            return Ok(Err(broken));
        }
    }
    Ok(verifier.finish(head))
}

/// Checks a log file by file, the oldest first.
#[derive(Default)]
pub struct Verifier {
    report: Report,
    last: Option<Head>,
    /// Where the first file begins, unless that is the beginning of the log.
    origin: Option<Origin>,
    file: String,
}

/// The first record of a log whose beginning has made room.
struct Origin {
    file: String,
    seq: u64,
    prev: Hash,
    anchored: bool,
}

/// Lines that are no records, until a record tells that they are the rest of one.
struct Piece {
    offset: usize,
    line: u64,
    lines: u64,
    ended: bool,
}

impl Verifier {
    /// Checks one more file; `newest` says that it is the one that is written.
    ///
    /// # Errors
    /// The first record that is wrong.
    pub fn file(&mut self, name: &str, bytes: &[u8], newest: bool) -> Result<(), Broken> {
        name.clone_into(&mut self.file);
        self.report.files += 1;
        let mut piece: Option<Piece> = None;
        let mut offset = 0;
        for (number, line) in (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
            let ended = line.ends_with(b"\n");
            match Record::read(line.strip_suffix(b"\n").unwrap_or(line)) {
                Some((record, hash)) => {
                    if let Some(piece) = piece.take() {
                        self.explained(&piece, &bytes[piece.offset..offset], &record)?;
                    }
                    self.follows(&record, number, &bytes[offset + line.len()..])?;
                    self.take(&record, hash);
                }
                None => match &mut piece {
                    Some(piece) => (piece.lines, piece.ended) = (piece.lines + 1, ended),
                    None => piece = Some(Piece { offset, line: number, lines: 1, ended }),
                },
            }
            offset += line.len();
        }
        match piece {
            Some(piece) if newest && piece.lines == 1 && !piece.ended => {
                let count = bytes.len() - piece.offset;
                self.notice(format!(
                    "{name} ends with {count} bytes of a record that is being written or was cut off"
                ));
                Ok(())
            }
            Some(piece) => Err(self.changed(piece.line)),
            None => Ok(()),
        }
    }

    /// The end of the log, which is to be at `head` at least.
    ///
    /// # Errors
    /// That the end or the beginning is gone.
    fn finish(mut self, head: Option<Head>) -> Result<Report, Broken> {
        let last = self.last.unwrap_or(Head::NONE);
        if let Some(head) = head.filter(|head| head.seq > last.seq) {
            let text = format!(
                "the log ends with record {}, but {} was written: the end is gone",
                last.seq, head.seq
            );
            return Err(self.broken(0, last.seq + 1, Fault::Truncated, text));
        }
        if let Some(origin) = self.origin.take().filter(|origin| !origin.anchored) {
            self.file = origin.file;
            let text = format!(
                "the log begins with record {}, and no record tells that those before made room",
                origin.seq
            );
            return Err(self.broken(1, 1, Fault::Missing, text));
        }
        self.report.last = last.seq;
        self.report.hash = last.hash;
        Ok(self.report)
    }

    /// Checks that `record` tells of the piece before it.
    fn explained(&mut self, piece: &Piece, bytes: &[u8], record: &Record) -> Result<(), Broken> {
        let told = record.kind == Kind::Torn
            && record.bytes == Some(bytes.len() as u64)
            && record.digest == Some(Hash::of(bytes));
        if !told {
            return Err(self.changed(piece.line));
        }
        let (name, line) = (&self.file, piece.line);
        let text = format!("{name}:{line}: {} bytes of a record that was cut off", bytes.len());
        self.notice(text);
        Ok(())
    }

    /// Checks that `record` follows the last one.
    fn follows(&mut self, record: &Record, line: u64, rest: &[u8]) -> Result<(), Broken> {
        let Some(last) = self.last else {
            self.report.first = record.seq;
            if record.seq != 1 || record.prev != Hash::NONE {
                let anchored = record.first == Some(1) && tells_gap(record, 1);
                let (seq, prev) = (record.seq, record.prev);
                self.origin = Some(Origin { file: self.file.clone(), seq, prev, anchored });
            }
            return Ok(());
        };
        let expected = last.seq.saturating_add(1);
        if record.prev == last.hash && (record.seq == expected || tells_gap(record, expected)) {
            return Ok(());
        }
        if record.seq == expected || record.prev == last.hash {
            let text = format!("record {} was changed, or record {expected}", last.seq);
            return Err(self.broken(line, expected, Fault::Changed, text));
        }
        let elsewhere = record.seq < expected || is_in(rest, expected);
        let (fault, text) = match elsewhere {
            true => (
                Fault::Reordered,
                format!("record {} stands where record {expected} should", record.seq),
            ),
            false => (
                Fault::Missing,
                format!("the records from {expected} to {} are gone", record.seq - 1),
            ),
        };
        Err(self.broken(line, expected, fault, text))
    }

    fn take(&mut self, record: &Record, hash: Hash) {
        self.report.records += 1;
        self.last = Some(Head { seq: record.seq, hash });
        if let (Some(first), Some(last)) = (record.first, record.last) {
            self.notice(format!(
                "the records {first} to {last} were gone when the service started"
            ));
        }
        match record.kind {
            Kind::Removed => {
                if let Some(origin) = &mut self.origin
                    && record.last == Some(origin.seq.saturating_sub(1))
                    && record.digest == Some(origin.prev)
                {
                    origin.anchored = true;
                }
            }
            Kind::Lost => {
                let count = record.count.unwrap_or_default();
                self.notice(format!("{count} records could not be written before {}", record.time));
            }
            Kind::Call
            | Kind::Start
            | Kind::End
            | Kind::Refused
            | Kind::Step
            | Kind::Open
            | Kind::Close
            | Kind::Torn
            | Kind::Truncated => {}
        }
    }

    fn notice(&mut self, text: String) {
        /// More of them tell nothing more.
        const MAX_NOTICES: usize = 1000;
        if self.report.notices.len() < MAX_NOTICES {
            self.report.notices.push(text);
        }
    }

    fn changed(&self, line: u64) -> Broken {
        let seq = self.last.map_or(1, |last| last.seq.saturating_add(1));
        self.broken(line, seq, Fault::Changed, "it is not what was written".to_owned())
    }

    fn broken(&self, line: u64, seq: u64, fault: Fault, text: String) -> Broken {
        Broken { file: self.file.clone(), line, seq, fault, text }
    }
}

/// True if `record` says that those from `expected` up to itself are gone.
fn tells_gap(record: &Record, expected: u64) -> bool {
    matches!(record.kind, Kind::Torn | Kind::Truncated)
        && record.first == Some(expected)
        && record.last.and_then(|last| last.checked_add(1)) == Some(record.seq)
}

/// True if one of the lines is the record `seq`.
fn is_in(lines: &[u8], seq: u64) -> bool {
    let mut records = lines.split(|byte| *byte == b'\n').filter_map(Record::read);
    records.any(|(record, _)| record.seq == seq)
}
