//! Reads the records of a log: those that were asked for, and those that come. It does not check that
//! the chain is whole, and passes over what is no record.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::event;
use super::files;
use super::record::{Kind, Record};

/// The longest line that is read; a longer one is no record.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// Which records are wanted: those that fit everything that is given.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this user.
    pub uid: Option<u32>,
    /// Of this agent.
    pub agent: Option<String>,
    /// Of this operation, as `Remember` or `remember`.
    pub operation: Option<String>,
    /// Of calls by this interface, `own` or `legacy`.
    pub interface: Option<String>,
    /// With this outcome, as `OK` or `ACCESS_DENIED`, in any case.
    pub outcome: Option<String>,
    /// Of calls that were refused.
    pub refused: bool,
    /// Not before this time, as [`Filter::moment`] gives it.
    pub since: Option<String>,
    /// Before this time, as [`Filter::moment`] gives it.
    pub until: Option<String>,
}

/// The records that were found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The newest ones, the oldest of them first.
    pub records: VecDeque<Record>,
    /// True if there were more than wanted.
    pub more: bool,
    /// How many lines are no records: `verify` tells what is wrong.
    pub unreadable: u64,
}

impl Filter {
    /// A time in the form of records.
    #[must_use]
    pub fn moment(time: SystemTime) -> String {
        event::time(time)
    }

    /// True if `record` is wanted.
    #[must_use]
    pub fn fits(&self, record: &Record) -> bool {
        let plain = |text: &str| text.replace('_', "").to_ascii_lowercase();
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| plain(wanted) == plain(found))
        };
        // Texts of this form are in the order of the times, if the fractions are compared apart.
        let time = split(&record.time);
        self.uid.is_none_or(|uid| record.uid == Some(uid))
            && is(&self.agent, &record.agent)
            && is(&self.operation, &record.operation)
            && is(&self.interface, &record.interface)
            && is(&self.outcome, &record.outcome)
            && (!self.refused || record.kind == Kind::Refused)
            && self.since.as_deref().is_none_or(|since| time >= split(since))
            && self.until.as_deref().is_none_or(|until| time < split(until))
    }
}

/// A time without its `Z`, and its fraction.
fn split(time: &str) -> (&str, &str) {
    let time = time.strip_suffix('Z').unwrap_or(time);
    time.split_once('.').unwrap_or((time, ""))
}

/// The newest `limit` records of the log in `folder` that fit.
///
/// # Errors
/// If a file cannot be read.
pub fn search(folder: &Path, filter: &Filter, limit: usize) -> io::Result<Found> {
    let mut found = Found::default();
    for path in files::list(folder)? {
        let mut reader = match Reader::open(path) {
            Ok(reader) => reader,
            // It made room meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        while let Some(line) = reader.line()? {
            match Record::read(&line) {
                Some((record, _)) if filter.fits(&record) => {
                    found.records.push_back(record);
                    if found.records.len() > limit {
                        found.records.pop_front();
                        found.more = true;
                    }
                }
                Some(_) => {}
                None => found.unreadable += 1,
            }
        }
    }
    Ok(found)
}

/// The records of the log in `folder` from its end on.
///
/// # Errors
/// If a file cannot be read.
pub fn follow(folder: &Path) -> io::Result<Follower> {
    let reader = match files::list(folder)?.pop() {
        None => None,
        Some(path) => {
            let mut reader = Reader::open(path)?;
            reader.skip_to_end()?;
            Some(reader)
        }
    };
    Ok(Follower { folder: folder.to_owned(), reader })
}

/// A reader that goes on as the log grows.
pub struct Follower {
    folder: PathBuf,
    reader: Option<Reader>,
}

impl Follower {
    /// The records that have come since the last time.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn next(&mut self) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        loop {
            if let Some(reader) = &mut self.reader {
                while let Some(line) = reader.line()? {
                    records.extend(Record::read(&line).map(|(record, _)| record));
                }
            }
            let current = self.reader.as_ref().map(|reader| &reader.path);
            let next = files::list(&self.folder)?
                .into_iter()
                .find(|path| current.is_none_or(|current| path > current));
            match next {
                Some(path) => self.reader = Some(Reader::open(path)?),
                None => return Ok(records),
            }
        }
    }
}

/// A file whose whole lines are read one by one.
struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    /// The beginning of a line whose end is not there yet.
    begun: Vec<u8>,
}

impl Reader {
    fn open(path: PathBuf) -> io::Result<Self> {
        Ok(Self { file: BufReader::new(File::open(&path)?), path, begun: Vec::new() })
    }

    fn skip_to_end(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::End(0)).map(drop)
    }

    /// The next whole line without its end; `None` if there is none yet.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let room = MAX_LINE_BYTES.saturating_sub(self.begun.len() as u64).max(1);
        (&mut self.file).take(room).read_until(b'\n', &mut self.begun)?;
        if self.begun.last() == Some(&b'\n') {
            self.begun.pop();
        } else if (self.begun.len() as u64) < MAX_LINE_BYTES {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.begun)))
    }
}
