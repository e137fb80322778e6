//! All output of a program in a file without a name, up to a bound, to be read in pieces. It decides
//! neither how long it is kept nor who may read it; nobody else can open it, and it ends when the last
//! who holds it lets go, or with this process.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};
use tokio::task::{JoinError, JoinHandle};

use crate::error::{Error, ErrorKind};

/// How much is gathered before it is written: one write for many small chunks.
const GATHERED_BYTES: usize = 256 << 10;
/// The same for chunks that are so small that what holds them takes more than they do.
const GATHERED_PIECES: usize = 1024;

/// What the artifacts of somebody take together.
#[derive(Debug, Default)]
pub struct Space(AtomicU64);

impl Space {
    /// How many bytes they take.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes `wanted` bytes, or as many as there are up to `most`.
    fn take(&self, wanted: u64, most: u64) -> u64 {
        let granted = |taken: u64| wanted.min(most.saturating_sub(taken));
        let add = |taken| Some(taken + granted(taken));
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(before) | Err(before) => granted(before),
        }
    }

    fn give_back(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// How much may be kept, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// In this artifact.
    pub own: u64,
    /// In all that take from the same space.
    pub together: u64,
}

/// The bound that an artifact has met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// [`Bounds::own`].
    Own,
    /// [`Bounds::together`].
    Together,
}

/// The file, for who reads it.
#[derive(Clone, Debug)]
pub struct Artifact(Arc<Content>);

#[derive(Debug)]
struct Content {
    file: File,
    state: Mutex<State>,
    space: Arc<Space>,
}

/// What there is: `written` bytes in the file, and after them the pieces that are to be written.
#[derive(Debug, Default)]
struct State {
    written: u64,
    pieces: VecDeque<Bytes>,
    pieces_bytes: usize,
}

/// The file, for the one who writes it.
#[derive(Debug)]
pub struct ArtifactWriter {
    artifact: Artifact,
    bounds: Bounds,
    /// The write under way.
    write: Option<JoinHandle<io::Result<()>>>,
}

impl ArtifactWriter {
    /// A file in `folder`, whose bytes are taken from `space`.
    ///
    /// # Errors
    ///
    /// `BackendUnavailable` if there can be no file without a name in the folder.
    pub fn new(folder: &Path, bounds: Bounds, space: Arc<Space>) -> Result<Self, Error> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::EXCL;
        let file = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| {
            let text = format!("there can be no file for output in {}: {errno}", folder.display());
            Error::new(ErrorKind::BackendUnavailable, text)
        })?;
        let content = Content { file: file.into(), state: Mutex::default(), space };
        Ok(Self { artifact: Artifact(Arc::new(content)), bounds, write: None })
    }

    /// The same file for reading. All that was pushed can be read at once.
    #[must_use]
    pub fn artifact(&self) -> Artifact {
        self.artifact.clone()
    }

    /// Adds a piece, which [`ArtifactWriter::keep_up`] has to be called after.
    ///
    /// # Errors
    ///
    /// The bound, if not all of the piece is within; what is beyond is left out. A piece after this one
    /// would come after a gap.
    pub fn push(&mut self, mut bytes: Bytes) -> Result<(), Full> {
        let whole = bytes.len() as u64;
        let Content { state, space, .. } = &*self.artifact.0;
        let mut state = lock(state);
        let wanted = whole.min(self.bounds.own.saturating_sub(state.len()));
        let granted = space.take(wanted, self.bounds.together);
        // It is no more than there is.
        bytes.truncate(usize::try_from(granted).unwrap_or(usize::MAX));
        state.pieces_bytes += bytes.len();
        if !bytes.is_empty() {
            state.pieces.push_back(bytes);
        }
        match granted {
            _ if granted < wanted => Err(Full::Together),
            _ if granted < whole => Err(Full::Own),
            _ => Ok(()),
        }
    }

    /// Sees to it that what was pushed is written before it is too much for memory. It waits only for a
    /// disk that is slower than what is pushed.
    ///
    /// # Errors
    ///
    /// `BackendFailed` if something could not be written. Then nothing after what is written is kept, and
    /// nothing more must be pushed.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped.
    pub async fn keep_up(&mut self) -> Result<(), Error> {
        let is_writing = self.write.as_ref().is_some_and(|write| !write.is_finished());
        let times = if is_writing { 2 } else { 1 };
        if !lock(&self.artifact.0.state).is_much(times) {
            return Ok(());
        }
        self.end_of_write().await?;
        self.begin_write();
        Ok(())
    }

    /// Waits until all that was pushed is in the file.
    ///
    /// # Errors
    ///
    /// As [`ArtifactWriter::keep_up`].
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.end_of_write().await?;
        self.begin_write();
        self.end_of_write().await
    }

    /// Begins to write what was gathered: a disk may be slow, and the program need not wait for it.
    fn begin_write(&mut self) {
        let content = Arc::clone(&self.artifact.0);
        self.write = Some(tokio::task::spawn_blocking(move || content.write_all()));
    }

    async fn end_of_write(&mut self) -> Result<(), Error> {
        let Some(write) = &mut self.write else { return Ok(()) };
        let outcome = write.await;
        self.write = None;
        outcome.map_err(broken_off).flatten().map_err(|error| {
            self.artifact.0.let_go_of_pieces();
            let text = format!("the output cannot be kept: {error}");
            Error::new(ErrorKind::BackendFailed, text)
        })
    }
}

fn broken_off(_: JoinError) -> io::Error {
    io::Error::other("it broke off")
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Every change leaves a state that is whole.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn len(&self) -> u64 {
        self.written + self.pieces_bytes as u64
    }

    /// True if `times` as much as one write takes is to be written.
    fn is_much(&self, times: usize) -> bool {
        self.pieces_bytes >= times * GATHERED_BYTES || self.pieces.len() >= times * GATHERED_PIECES
    }
}

impl Content {
    /// Writes the pieces that there are. Only one may do so at a time.
    fn write_all(&self) -> io::Result<()> {
        let pieces: Vec<_> = lock(&self.state).pieces.iter().cloned().collect();
        for piece in pieces {
            let offset = lock(&self.state).written;
            self.file.write_all_at(&piece, offset)?;
            let mut state = lock(&self.state);
            state.written += piece.len() as u64;
            state.pieces_bytes -= piece.len();
            state.pieces.pop_front();
        }
        Ok(())
    }

    fn let_go_of_pieces(&self) {
        let mut state = lock(&self.state);
        self.space.give_back(state.pieces_bytes as u64);
        (state.pieces, state.pieces_bytes) = (VecDeque::new(), 0);
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        self.space.give_back(lock(&self.state).len());
    }
}

impl Artifact {
    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        lock(&self.0.state).len()
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
        let (in_file, rest) = self.find(offset, max);
        if in_file == 0 {
            return Ok(rest.into());
        }
        let content = Arc::clone(&self.0);
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; in_file];
            content.file.read_exact_at(&mut bytes, offset)?;
            bytes.extend(rest);
            Ok(bytes.into())
        });
        read.await.map_err(broken_off).flatten().map_err(|error: io::Error| {
            let text = format!("the output that was kept cannot be read: {error}");
            Error::new(ErrorKind::BackendFailed, text)
        })
    }

    /// Of the bytes from `offset` on, at most `max`: how many are in the file, and those after them that
    /// are not written yet.
    fn find(&self, offset: u64, max: usize) -> (usize, Vec<u8>) {
        let state = lock(&self.0.state);
        let in_file = state.written.saturating_sub(offset);
        let in_file = usize::try_from(in_file).unwrap_or(usize::MAX).min(max);
        let after = usize::try_from(offset.saturating_sub(state.written)).unwrap_or(usize::MAX);
        let mut rest = Vec::new();
        let mut before = 0;
        for piece in &state.pieces {
            let from = after.saturating_sub(before).min(piece.len());
            let count = (max - in_file - rest.len()).min(piece.len() - from);
            rest.extend_from_slice(&piece[from..from + count]);
            before += piece.len();
        }
        (in_file, rest)
    }
}
