//! A program that runs, as its caller holds it: output, input, signals, the end. Dropping it ends the
//! program with all that it started.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::ended::{Ended, Finished, Limit};
use super::life::{Beginning, Control, Ending};
use super::output::{Chunk, Keep, Kept, Reader, Stream};
use super::readiness::wait_on;
use super::report::Report;
use super::runner::Ends;
use super::spec::{Limits, WindowSize};
use super::terminal;
use super::wire::command::What;
use crate::error::{Error, ErrorKind};

/// What a terminal takes for the end of the input.
const END_OF_TRANSMISSION: u8 = 4;

/// A program that runs. When this is dropped, the program and all that it started is asked to end, and
/// killed when [`Limits::grace`] is over; that goes on even if this process ends.
#[derive(Debug)]
pub struct Running {
    handle: Handle,
    ending: Ending,
    stdout: Option<Reader>,
    stderr: Option<Reader>,
    input: Option<Input>,
    program: PathBuf,
    pid: i32,
    report: Report,
    limits: Limits,
    output_bytes: u64,
}

impl Running {
    pub(super) fn new(
        control: Arc<Control>,
        ending: Ending,
        ends: Ends,
        program: PathBuf,
        limits: Limits,
    ) -> io::Result<Self> {
        let terminal = ends.terminal.map(Arc::new);
        let is_terminal = terminal.is_some();
        let input = |descriptor| {
            Ok::<_, io::Error>(Input { descriptor: wait_on(descriptor)?, is_terminal })
        };
        let mut running = Self {
            handle: Handle { control, terminal, ending: ending.clone() },
            ending,
            stdout: None,
            stderr: None,
            input: ends.input.map(input).transpose()?,
            program,
            pid: 0,
            report: Report::default(),
            limits,
            output_bytes: 0,
        };
        for (descriptor, stream) in ends.output {
            let reader = Some(Reader::new(descriptor, stream)?);
            match stream {
                Stream::Stdout => running.stdout = reader,
                Stream::Stderr => running.stderr = reader,
            }
        }
        Ok(running)
    }

    pub(super) fn has_begun(&mut self, beginning: Beginning) {
        self.pid = beginning.pid;
        self.report = beginning.report;
    }

    /// The file that is executed. A name without `/` is the first executable file of that name in the
    /// folders of `PATH` of the program's environment; an absolute path is itself; any other is
    /// relative to the program's folder and beneath it.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The process id of the program, which is its process group's and session's as well.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What of the confinement is enforced.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// What can be done to the program while somebody else waits for it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The program's input, if it has one and nobody has taken it. Dropping it closes it.
    pub fn take_input(&mut self) -> Option<Input> {
        self.input.take()
    }

    /// The next piece of output, or `None` when there is no more. The program waits while nobody asks.
    /// At [`Limits::output_bytes`] the tree is ended, and there is no more.
    ///
    /// # Errors
    ///
    /// `BackendFailed` if the system cannot read.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped nothing is lost.
    pub async fn next(&mut self) -> Result<Option<Chunk>, Error> {
        let chunk = self.read().await.map_err(unreadable)?;
        Ok(chunk.and_then(|chunk| self.within_limit(chunk)))
    }

    /// Where the output is at this moment.
    ///
    /// # Errors
    ///
    /// `BackendFailed` if the system cannot tell.
    pub fn mark(&self) -> Result<Mark, Error> {
        let written = |reader: &Option<Reader>| reader.as_ref().map_or(Ok(0), Reader::written);
        let both = || Ok([written(&self.stdout)?, written(&self.stderr)?]);
        both().map(Mark).map_err(unreadable)
    }

    /// The next piece of what was printed before `mark`, or `None` when all of that is read. It waits for
    /// nothing, and a piece may hold some of what was printed after it.
    ///
    /// # Errors
    ///
    /// As [`Running::next`].
    pub fn next_before(&mut self, mark: Mark) -> Result<Option<Chunk>, Error> {
        let Mark([stdout, stderr]) = mark;
        let before = |reader: &mut Option<Reader>, end| {
            reader.as_mut().map_or(Ok(None), |reader| reader.next_before(end))
        };
        let chunk = match before(&mut self.stdout, stdout).map_err(unreadable)? {
            None => before(&mut self.stderr, stderr).map_err(unreadable)?,
            chunk => chunk,
        };
        Ok(chunk.and_then(|chunk| self.within_limit(chunk)))
    }

    /// What of a chunk is within the limit of the output.
    fn within_limit(&mut self, mut chunk: Chunk) -> Option<Chunk> {
        let before = self.output_bytes;
        self.output_bytes += chunk.bytes.len() as u64;
        let Some(limit) = self.limits.output_bytes.filter(|limit| self.output_bytes > *limit)
        else {
            return Some(chunk);
        };
        self.handle.control.tell(What::Stop(Limit::number(Some(Limit::Output))));
        (self.stdout, self.stderr) = (None, None);
        // What fits into a chunk fits into a usize.
        chunk.bytes.truncate(usize::try_from(limit - before).unwrap_or(usize::MAX));
        Some(chunk).filter(|chunk| !chunk.bytes.is_empty())
    }

    async fn read(&mut self) -> io::Result<Option<Chunk>> {
        while self.stdout.is_some() || self.stderr.is_some() {
            // The second: nobody is left who could say so.
            let has_ended = self.ending.borrow().is_some() || self.ending.has_changed().is_err();
            if has_ended {
                return self.read_rest();
            }
            let (chunk, of) = tokio::select! {
                chunk = next_of(&mut self.stdout) => (chunk?, &mut self.stdout),
                chunk = next_of(&mut self.stderr) => (chunk?, &mut self.stderr),
                _ = self.ending.changed() => continue,
            };
            if chunk.is_some() {
                return Ok(chunk);
            }
            *of = None;
        }
        Ok(None)
    }

    /// What is still in the pipes after the end of the tree. Somebody outside of the tree may hold the
    /// other end; nobody waits for him.
    fn read_rest(&mut self) -> io::Result<Option<Chunk>> {
        for of in [&mut self.stdout, &mut self.stderr] {
            let Some(reader) = of else { continue };
            if let Some(chunk) = reader.next_at_once()? {
                return Ok(Some(chunk));
            }
            *of = None;
        }
        Ok(None)
    }

    /// Waits until the program and all that it started has ended. Output that nobody reads can keep it
    /// from ending.
    ///
    /// # Errors
    ///
    /// `Internal` if the stub was killed, and the end cannot be known.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped, and the end be waited for again.
    pub async fn wait(&mut self) -> Result<Ended, Error> {
        let lost = || Error::internal("nobody follows the program any more");
        let ended = self.ending.wait_for(Option::is_some).await.map_err(|_| lost())?;
        ended.clone().unwrap_or_else(|| Err(lost()))
    }

    /// Reads all output, keeps of each stream what `keep` says, and waits for the end.
    ///
    /// # Errors
    ///
    /// As [`Running::next`] and [`Running::wait`]. A limit that was reached is no error here: see
    /// [`Finished::within_limits`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the program, and what was read is lost.
    pub async fn finish(mut self, keep: Keep) -> Result<Finished, Error> {
        let (mut stdout, mut stderr) = (Kept::default(), Kept::default());
        while let Some(chunk) = self.next().await? {
            match chunk.stream {
                Stream::Stdout => stdout.push(&chunk.bytes, keep),
                Stream::Stderr => stderr.push(&chunk.bytes, keep),
            }
        }
        let ended = self.wait().await?;
        Ok(Finished { ended, stdout, stderr, limits: self.limits.clone() })
    }
}

fn unreadable(error: io::Error) -> Error {
    Error::new(ErrorKind::BackendFailed, format!("the output cannot be read: {error}"))
}

/// A place in the output of a program.
#[derive(Clone, Copy, Debug)]
pub struct Mark([u64; 2]);

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.control.let_go();
    }
}

async fn next_of(reader: &mut Option<Reader>) -> io::Result<Option<Chunk>> {
    match reader {
        Some(reader) => reader.next().await,
        None => std::future::pending().await,
    }
}

/// What can be done to a program that runs. It does not keep the program alive.
#[derive(Clone, Debug)]
pub struct Handle {
    control: Arc<Control>,
    terminal: Option<Arc<OwnedFd>>,
    ending: Ending,
}

impl Handle {
    /// Sends a signal to the program's process group; not one of the real-time signals.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if there is no such signal, `Conflict` if the program has ended.
    pub fn signal(&self, number: i32) -> Result<(), Error> {
        if !(1..=31).contains(&number) {
            return Err(Error::invalid("signal", "a signal has a number from 1 to 31"));
        }
        self.tell(What::Signal(number))
    }

    /// Asks the tree to end, and kills it when [`Limits::grace`] is over.
    ///
    /// # Errors
    ///
    /// `Conflict` if the program has ended.
    pub fn stop(&self) -> Result<(), Error> {
        self.tell(What::Stop(Limit::number(None)))
    }

    fn tell(&self, what: What) -> Result<(), Error> {
        match self.ending.borrow().is_none() && self.control.tell(what) {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Conflict, "the program has ended")),
        }
    }

    /// Sets the size of the program's terminal.
    ///
    /// # Errors
    ///
    /// `Conflict` if it has no terminal, or the terminal does not take the size.
    pub fn resize(&self, size: WindowSize) -> Result<(), Error> {
        let problem = |text: String| Error::new(ErrorKind::Conflict, text);
        let Some(terminal) = &self.terminal else {
            return Err(problem("the program has no terminal".to_owned()));
        };
        terminal::resize(terminal.as_fd(), size)
            .map_err(|error| problem(format!("the terminal cannot be resized: {error}")))
    }
}

/// The input of a program.
#[derive(Debug)]
pub struct Input {
    descriptor: AsyncFd<OwnedFd>,
    is_terminal: bool,
}

impl Input {
    /// Writes some of `bytes`, and says how many. It waits while the program does not read.
    ///
    /// # Errors
    ///
    /// `Conflict` if the program has closed its input or ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped nothing was written.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let written = loop {
            let mut ready = match self.descriptor.writable().await {
                Ok(ready) => ready,
                Err(error) => break Err(error),
            };
            let write = |descriptor: &AsyncFd<OwnedFd>| {
                rustix::io::write(descriptor.get_ref(), bytes).map_err(io::Error::from)
            };
            if let Ok(outcome) = ready.try_io(write) {
                break outcome;
            }
        };
        written.map_err(|error| {
            let text = match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::PIPE | Errno::IO) => "the program has closed its input".to_owned(),
                _ => format!("the input cannot be written: {error}"),
            };
            Error::new(ErrorKind::Conflict, text)
        })
    }

    /// How many bytes that were written the program has not read yet.
    ///
    /// # Errors
    ///
    /// `Conflict` if the system cannot tell.
    pub fn unread(&self) -> Result<u64, Error> {
        rustix::io::ioctl_fionread(self.descriptor.get_ref()).map_err(|errno| {
            Error::new(ErrorKind::Conflict, format!("the input cannot be looked at: {errno}"))
        })
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// As [`Input::write`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, some of the bytes were written.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let count = self.write(bytes).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Ends the input. A terminal stays open; its program reads an end if it is at the beginning of a
    /// line and takes lines.
    ///
    /// # Errors
    ///
    /// As [`Input::write`].
    pub async fn close(mut self) -> Result<(), Error> {
        if self.is_terminal {
            self.write_all(&[END_OF_TRANSMISSION]).await?;
        }
        Ok(())
    }
}
