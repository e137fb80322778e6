//! The command line of what goes on at the service: tasks and sessions. Nothing is carried out here.

use clap::{Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

use crate::ctl::complete;
use crate::proto::opdbus::v1::TaskState;

const TASKS_HELP: &str = "\
Examples:
  op-dbusctl tasks --state working            what runs for me
  op-dbusctl tasks watch ID                   its messages, from the oldest that is kept
  op-dbusctl tasks watch ID --from 120        the same from a number on, after a break
  op-dbusctl tasks wait ID --timeout 10m      0: completed, 1: not, 3: it still runs
  op-dbusctl tasks cancel ID ID

A task is seen by the user who started it only.";

const SESSIONS_HELP: &str = "\
Examples:
  op-dbusctl sessions show ID
  op-dbusctl sessions end ID       ends it, and forgets what is kept for it only

A session is started by a program, over gRPC by SessionsService.Connect; it is seen by the user whose
program that is.";

/// How many rows are listed unless it is said.
const DEFAULT_LIMIT: usize = 100;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = TASKS_HELP)]
pub(in crate::ctl) struct Tasks {
    #[command(flatten)]
    pub(in crate::ctl) list: ListTasks,
    #[command(subcommand)]
    pub(in crate::ctl) command: Option<TasksCommand>,
}

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum TasksCommand {
    /// List the tasks, the newest first; the same as no command
    List(ListTasks),
    /// Show one task, why it ended and what can be done next
    Show {
        /// The task's id
        #[arg(add = ArgValueCompleter::new(complete::tasks))]
        id: String,
    },
    /// Show the messages of a task, those that are kept and those that come; Ctrl-C leaves it running
    Watch {
        /// The task's id
        #[arg(add = ArgValueCompleter::new(complete::tasks))]
        id: String,
        /// The number of the first message; 0: the oldest that is kept
        #[arg(long, value_name = "N", default_value_t = 0)]
        from: u64,
        /// Write the bytes that the first bytes field of each message holds, and nothing else
        #[arg(long, conflicts_with = "json")]
        raw: bool,
    },
    /// Wait until a task has ended, with --timeout for a time at most
    Wait {
        /// The task's id
        #[arg(add = ArgValueCompleter::new(complete::tasks))]
        id: String,
    },
    /// Cancel tasks; those that have ended stay as they are
    Cancel {
        /// The tasks' ids
        #[arg(required = true, value_name = "ID", add = ArgValueCompleter::new(complete::tasks))]
        ids: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
pub(in crate::ctl) struct ListTasks {
    /// Only tasks in this state; can be given several times
    #[arg(long, value_enum, value_name = "STATE")]
    pub(in crate::ctl) state: Vec<State>,
    /// Only tasks of this agent
    #[arg(long, value_name = "AGENT", add = ArgValueCompleter::new(complete::agents))]
    pub(in crate::ctl) agent: Option<String>,
    #[command(flatten)]
    pub(in crate::ctl) rows: Rows,
}

/// How many rows to list.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(in crate::ctl) struct Rows {
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT, conflicts_with = "all")]
    pub(in crate::ctl) limit: usize,
    /// All of them, however many there are
    #[arg(long)]
    pub(in crate::ctl) all: bool,
}

/// What has become of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::ctl) enum State {
    Submitted,
    Working,
    InputRequired,
    Completed,
    Failed,
    Cancelled,
    Rejected,
}

impl From<State> for TaskState {
    fn from(state: State) -> Self {
        match state {
            State::Submitted => Self::Submitted,
            State::Working => Self::Working,
            State::InputRequired => Self::InputRequired,
            State::Completed => Self::Completed,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
            State::Rejected => Self::Rejected,
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = SESSIONS_HELP)]
pub(in crate::ctl) struct Sessions {
    #[command(flatten)]
    pub(in crate::ctl) list: ListSessions,
    #[command(subcommand)]
    pub(in crate::ctl) command: Option<SessionsCommand>,
}

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum SessionsCommand {
    /// List the sessions, the newest first; the same as no command
    List(ListSessions),
    /// Show one session
    Show {
        /// The session's id
        #[arg(add = ArgValueCompleter::new(complete::sessions))]
        id: String,
    },
    /// End sessions, and forget what is kept for them only
    End {
        /// The sessions' ids
        #[arg(required = true, value_name = "ID", add = ArgValueCompleter::new(complete::sessions))]
        ids: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
pub(in crate::ctl) struct ListSessions {
    #[command(flatten)]
    pub(in crate::ctl) rows: Rows,
}
