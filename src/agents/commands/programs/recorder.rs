//! Writes down all that a command prints, from when it is more than memory keeps of it: in files without
//! names, up to a bound. Who reads them is `output`'s.

use std::path::PathBuf;
use std::sync::Arc;

use super::command::Command;
use crate::process::{ArtifactWriter, Bounds, Chunk, Full, Space, Stream};

/// Where files for output are.
struct Place {
    folder: PathBuf,
    bounds: Bounds,
    /// What those of all commands take.
    space: Arc<Space>,
}

/// Records both streams of a command.
pub(super) struct Recorder {
    place: Place,
    stdout: Record,
    stderr: Record,
}

/// How it is with the file of a stream.
enum Record {
    /// Memory keeps all.
    NotYet,
    Goes(ArtifactWriter),
    /// A bound was met, or the system refused something.
    Ended,
}

impl Recorder {
    /// For a command whose files are made in `folder`, within these bounds.
    pub(super) fn new(folder: PathBuf, bounds: Bounds, space: Arc<Space>) -> Self {
        let place = Place { folder, bounds, space };
        Self { place, stdout: Record::NotYet, stderr: Record::NotYet }
    }

    /// Adds a piece to what is kept of the command, in memory and in the file, and announces it.
    pub(super) async fn push(&mut self, command: &Command, chunk: &Chunk) {
        let stream = chunk.stream;
        let record = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut problem = None;
        if matches!(record, Record::NotYet) && !command.fits(chunk) {
            (*record, problem) = self.place.begin(command, stream);
        }
        // After a piece that is not whole, another one would come after a gap.
        if let (Record::Goes(writer), None) = (&mut *record, &problem)
            && let Err(full) = writer.push(chunk.bytes.clone())
        {
            problem = Some(self.place.full(full));
        }
        // After the file, so that whatever was printed is at one of the two places.
        command.push(chunk);
        if let Record::Goes(writer) = record {
            let outcome = match &problem {
                None => writer.keep_up().await,
                Some(_) => writer.flush().await,
            };
            problem = outcome.err().map(|error| error.message().to_owned()).or(problem);
        }
        if let Some(problem) = problem {
            command.is_not_recorded(stream, problem);
            *record = Record::Ended;
        }
    }

    /// Writes what is left, so that nothing of it takes memory.
    pub(super) async fn finish(self, command: &Command) {
        for (stream, record) in [(Stream::Stdout, self.stdout), (Stream::Stderr, self.stderr)] {
            if let Record::Goes(mut writer) = record
                && let Err(error) = writer.flush().await
            {
                command.is_not_recorded(stream, error.message().to_owned());
            }
        }
    }
}

impl Place {
    /// A file that begins with what memory keeps; with it, why there is none or not all of that in it.
    fn begin(&self, command: &Command, stream: Stream) -> (Record, Option<String>) {
        if self.bounds.own == 0 {
            return (Record::Ended, Some(self.full(Full::Own)));
        }
        let writer = ArtifactWriter::new(&self.folder, self.bounds, Arc::clone(&self.space));
        let mut writer = match writer {
            Ok(writer) => writer,
            Err(error) => return (Record::Ended, Some(error.message().to_owned())),
        };
        let (_, before) = command.look(stream, |printed, _| printed.kept.since(0, usize::MAX));
        let outcome = writer.push(before.into());
        command.is_recorded(stream, writer.artifact());
        (Record::Goes(writer), outcome.err().map(|full| self.full(full)))
    }

    fn full(&self, full: Full) -> String {
        match full {
            Full::Own => format!("[commands] artifact_bytes is {}", self.bounds.own),
            Full::Together => {
                format!("[commands] artifact_total_bytes is {}", self.bounds.together)
            }
        }
    }
}
