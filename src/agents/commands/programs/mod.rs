//! The programs that a worker runs for its user: how they are started, followed and found. What a
//! request says about a program is read in `run`, and whether it may run is decided in `policy`.

mod command;
mod exec;
mod follow;
mod input;
mod list;
mod output;
mod recorder;
mod table;
mod time;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::config::Config;
use super::policy::{self, Program};
use super::run;
use crate::agents::WorkerSettings;
use crate::call::{Context, SessionScope};
use crate::error::{Error, ErrorKind};
use crate::process::{Bounds, Chunk, Runner, Space};
use crate::proto::opdbus::agent::commands::v1::{Run, Stdin};

use command::{About, After, Command};
use recorder::Recorder;
use table::Table;

/// The longest tag, in bytes.
const TAG_MAX: usize = 256;

/// The programs of a worker.
pub(super) struct Programs {
    runner: Runner,
    settings: Arc<ArcSwap<WorkerSettings>>,
    table: Arc<Table>,
    /// What the files for output take.
    space: Arc<Space>,
}

/// A program that a request asks for.
struct Asked {
    argv: Vec<String>,
    directory: String,
    run: Run,
    tag: String,
    /// True if its arguments hold a text for an interpreter, and the operation is one for that.
    is_text: bool,
    after: After,
}

impl Programs {
    pub(super) fn new(runner: Runner, settings: Arc<ArcSwap<WorkerSettings>>) -> Self {
        Self { runner, settings, table: Arc::default(), space: Arc::default() }
    }

    /// How many run.
    pub(super) fn running(&self) -> usize {
        self.table.running()
    }

    /// Ends the commands of a session, and waits for their end.
    pub(super) async fn session_ended(&self, session: &SessionScope) {
        let of_session = self.table.all().into_iter().filter(|command| {
            command.session.as_ref() == Some(&session.id) && !command.has_ended()
        });
        let commands: Vec<_> = of_session.collect();
        commands.iter().for_each(|command| command.stop());
        for command in commands {
            command.ended().await;
        }
    }

    /// Starts a program. Its output goes to `sink`, if there is one, no faster than that is read.
    ///
    /// # Cancel safety
    /// If the future is dropped, nothing is left running.
    async fn begin(
        &self,
        context: &Context,
        asked: Asked,
        sink: Option<mpsc::Sender<Chunk>>,
    ) -> Result<Arc<Command>, Error> {
        let settings = self.settings.load_full();
        let config = &settings.commands;
        let Asked { argv, directory, run, tag, is_text, after } = asked;
        check_tag(&tag)?;
        let place = self.table.place(config.max_running)?;
        let keep_bytes = run::keep_bytes(&run, config)?;
        let spec = run::spec(argv.clone(), &directory, &run, config)?;
        let program = Program { is_text, reads_input: reads_input(&run) };
        let judge = policy::judge(Arc::clone(&settings), context, program);
        let (limits, profile) = (spec.limits.clone(), spec.profile.rules().name);
        let directory = run::directory(&spec);
        let mut running = self.runner.start_if(spec, judge).await?;
        // From here on nothing waits, so that what runs is in the table.
        let input = running.take_input();
        let given = Some(run.input).filter(|bytes| !bytes.is_empty());
        let about = About {
            argv,
            directory,
            profile,
            session: context.session.clone(),
            is_terminal: run.stdin == i32::from(Stdin::Terminal),
            keep_bytes,
            keep: match sink {
                Some(_) => run::KEEP_NOTHING,
                None => run::keep(keep_bytes, config),
            },
            limits,
            tag,
            after,
        };
        let (input, fed) = match given {
            Some(bytes) => (None, input.map(|input| (input, bytes))),
            None => (input, None),
        };
        let command = Arc::new(Command::new(self.table.number(), about, &running, input));
        self.table.add(Arc::clone(&command));
        if let Some((input, bytes)) = fed {
            tokio::spawn(follow::feed(Arc::clone(&command), input, bytes));
        }
        let ending = follow::Ending {
            table: Arc::clone(&self.table),
            place,
            keep: config.keep,
            max_kept: config.max_kept,
        };
        // What goes to a sink is read there.
        let recorder = sink.is_none().then(|| self.recorder(config));
        tokio::spawn(follow::follow(running, Arc::clone(&command), sink, recorder, ending));
        Ok(command)
    }

    fn recorder(&self, config: &Config) -> Recorder {
        let bounds = Bounds { own: config.artifact_bytes, together: config.artifact_total_bytes };
        Recorder::new(self.runner.temporary().to_owned(), bounds, Arc::clone(&self.space))
    }

    fn find(&self, id: &str) -> Result<Arc<Command>, Error> {
        self.table.find(id).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("id: there is no command {id:?}"))
                .with_fact("field", "id")
        })
    }
}

/// True if somebody gives the program an input.
fn reads_input(run: &Run) -> bool {
    match run.stdin() {
        Stdin::Unspecified => !run.input.is_empty(),
        Stdin::Null => false,
        Stdin::Pipe | Stdin::Terminal => true,
    }
}

pub(super) fn check_tag(tag: &str) -> Result<(), Error> {
    match () {
        () if tag.len() > TAG_MAX => {
            Err(Error::invalid("tag", format!("has more than {TAG_MAX} bytes")))
        }
        () if tag.contains('\0') => Err(Error::invalid("tag", "has a zero byte")),
        () => Ok(()),
    }
}

/// Asks a command to end unless it is told that somebody cares for it.
struct EndUnlessWanted(Option<Arc<Command>>);

impl EndUnlessWanted {
    fn let_be(mut self) {
        self.0 = None;
    }
}

impl Drop for EndUnlessWanted {
    fn drop(&mut self) {
        if let Some(command) = &self.0 {
            command.stop();
        }
    }
}
