//! All output of a program in a file without a name, up to a bound, to be read in pieces. It decides
//! neither how long it is kept nor who may read it; nobody else can open it, and it ends when the last
//! who holds it lets go, or with this process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};
use tokio::task::{JoinError, JoinHandle};

use crate::error::{Error, ErrorKind};

/// How much is gathered before it is written: one write for many small chunks.
const GATHERED_BYTES: usize = 256 << 10;

/// The file, for who reads it.
#[derive(Clone, Debug)]
pub struct Artifact {
    file: Arc<File>,
    written: Arc<AtomicU64>,
}

/// The file, for the one who writes it.
#[derive(Debug)]
pub struct ArtifactWriter {
    artifact: Artifact,
    bytes_max: u64,
    /// What is not given to be written yet.
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
    /// The write under way.
    write: Option<JoinHandle<io::Result<()>>>,
    /// The bytes that were pushed, and those of them that are to be in the file.
    pushed: u64,
    taken: u64,
    has_failed: bool,
}

impl ArtifactWriter {
    /// A file in `folder` for at most `bytes_max` bytes.
    ///
    /// # Errors
    ///
    /// `BackendUnavailable` if there can be no file without a name in the folder.
    pub fn new(folder: &Path, bytes_max: u64) -> Result<Self, Error> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::EXCL;
        let file = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| {
            let text = format!("there can be no file for output in {}: {errno}", folder.display());
            Error::new(ErrorKind::BackendUnavailable, text)
        })?;
        Ok(Self {
            artifact: Artifact { file: Arc::new(file.into()), written: Arc::default() },
            bytes_max,
            gathered: Vec::new(),
            gathered_bytes: 0,
            write: None,
            pushed: 0,
            taken: 0,
            has_failed: false,
        })
    }

    /// The same file for reading. What was pushed last is in it after [`ArtifactWriter::flush`].
    #[must_use]
    pub fn artifact(&self) -> Artifact {
        self.artifact.clone()
    }

    /// Adds a piece; what is beyond the bound, or comes after a write that failed, is left out.
    ///
    /// # Errors
    ///
    /// `BackendFailed` if an earlier piece could not be written, once.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the piece is kept.
    pub async fn push(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        self.pushed += bytes.len() as u64;
        let is_whole = self.left_out() == bytes.len() as u64;
        let room = if is_whole { self.bytes_max - self.taken } else { 0 };
        bytes.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        self.taken += bytes.len() as u64;
        self.gathered_bytes += bytes.len();
        if !bytes.is_empty() {
            self.gathered.push(bytes);
        }
        if self.gathered_bytes < GATHERED_BYTES { Ok(()) } else { self.write().await }
    }

    /// Waits until all that was pushed is in the file.
    ///
    /// # Errors
    ///
    /// As [`ArtifactWriter::push`].
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.write().await?;
        self.end_of_write().await
    }

    /// How many bytes at the end of the output are not kept.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.pushed - self.taken
    }

    /// Begins to write what was gathered, when the last write has ended: a disk may be slow, and the
    /// program need not wait for it.
    async fn write(&mut self) -> Result<(), Error> {
        self.end_of_write().await?;
        let pieces = std::mem::take(&mut self.gathered);
        self.gathered_bytes = 0;
        if self.has_failed {
            return Ok(());
        }
        let Artifact { file, written } = self.artifact();
        self.write = Some(tokio::task::spawn_blocking(move || {
            for piece in pieces {
                let offset = written.load(Ordering::Acquire);
                file.write_all_at(&piece, offset)?;
                written.store(offset + piece.len() as u64, Ordering::Release);
            }
            Ok(())
        }));
        Ok(())
    }

    async fn end_of_write(&mut self) -> Result<(), Error> {
        let Some(write) = &mut self.write else { return Ok(()) };
        let outcome = write.await;
        self.write = None;
        outcome.map_err(broken_off).flatten().map_err(|error| {
            self.has_failed = true;
            // What was gathered meanwhile would come after a gap.
            self.taken = self.artifact.len();
            let text = format!("the output cannot be kept: {error}");
            Error::new(ErrorKind::BackendFailed, text)
        })
    }
}

fn broken_off(_: JoinError) -> io::Error {
    io::Error::other("it broke off")
}

impl Artifact {
    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes from `offset` on, at most `max` of them; none at or after the end.
    ///
    /// # Errors
    ///
    /// `BackendFailed` if they cannot be read.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped.
    pub async fn read(&self, offset: u64, max: usize) -> Result<Bytes, Error> {
        let there = self.len().saturating_sub(offset);
        let count = usize::try_from(there).unwrap_or(usize::MAX).min(max);
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; count];
            file.read_exact_at(&mut bytes, offset).map(|()| Bytes::from(bytes))
        });
        read.await.map_err(broken_off).flatten().map_err(|error| {
            let text = format!("the output that was kept cannot be read: {error}");
            Error::new(ErrorKind::BackendFailed, text)
        })
    }
}
