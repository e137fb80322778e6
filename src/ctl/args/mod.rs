//! The command line: what may be written on it, and its help. Nothing is carried out here.

mod access;
mod audit;
mod migration;
mod rights;
mod run;
mod work;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use super::arguments::parse_timeout;
use super::complete;
use crate::client::{Bus, CallOptions, GrpcAddress};

pub(super) use access::{Credentials, NewToken, TokenCommand};
pub(super) use audit::{Audit, AuditCommand, Wanted};
pub(super) use migration::{Migration, MigrationCommand, Move, Set, WantedUses};
pub(super) use rights::{
    Approvals, ApprovalsCommand, CallsBy, ListApprovals, Policy, PolicyCommand,
};
pub(super) use run::Run;
pub(super) use work::{
    ListSessions, ListTasks, Rows, Sessions, SessionsCommand, Tasks, TasksCommand,
};

const EXIT_CODES: &str = "\
Exit codes:
  0  done; for `status`: healthy
  1  the call, the task or one of several failed or was cancelled, or what was checked (the
     configuration, the audit log) is wrong
  2  the command line is wrong
  3  `status`: the service runs, but a transport or the configuration has a problem;
     `tasks wait` and `tasks watch`: the task has not ended yet;
     `migration report`: something keeps D-Bus from being given up
  4  the service cannot be reached
`run` ends as its program does; see `op-dbusctl run --help`.

Errors go to standard error as `error: …` and `hint: …`; with --json to standard output as
{\"error\": {\"kind\", \"message\", \"facts\"}}.

Where the service is looked for: --address and --bus if given; else $OP_DBUS_ADDRESS or, from the
configuration file, [client] address and [grpc] unix; else unix:/run/op-dbus/grpc.sock; and the bus
that [dbus] names, else the system bus.

Over https the server must have a certificate from --ca ($OP_DBUS_CA); the user is known by --cert and
--key ($OP_DBUS_CERT, $OP_DBUS_KEY) or by the token in --token-file ($OP_DBUS_TOKEN_FILE). A token
goes before everything else by which the service might know him.";

const CALL_HELP: &str = "\
Arguments are typed by what the operation takes (`op-dbusctl describe AGENT OPERATION`):
  text, numbers      key=build-host  limit=10
  booleans           if_absent=true (also yes, no, on, off, 1, 0)
  choices            colour=dark_green (any case, with or without the prefix)
  durations          ttl=90s  ttl=1h30m  (w, d, h, m, s, ms, us, ns)
  times              at=2026-01-31T12:00:00Z (RFC 3339)
  bytes              payload=@FILE for the content of a file, else base64
  any JSON value     value='{\"a\": 1}' value=5; what is no JSON is taken as text
  lists              tags=a,b  or  tags=a tags=b  or  tags='[\"a,b\"]'
  nested fields      filter.name=x  compare.0.key=x  labels.colour=red

The whole request as JSON: --data '{…}', --data - for standard input, or '{…}' in place of the
arguments. The response is shown as indented JSON, with --json on one line as the service gave it.

A stream of responses is a task: each message is shown as it comes, with --json each on one line.
Ctrl-C cancels the task, a second one leaves it. Standard error tells which messages were missed
and, on a terminal, how far the task is. With --detach the task goes on without op-dbusctl:
  op-dbusctl call --raw context_manager Export > contexts.jsonl
  op-dbusctl tasks watch \"$(op-dbusctl call --detach context_manager Export)\"

A stream of requests is read from standard input with --data -, one JSON object on each line, over
gRPC only. A line that is wrong breaks the stream off, which is not the same as its end:
  jq -c '.[] | {remember: {key, value}}' values.json | op-dbusctl call memory BulkRemember --data -";

const BATCH_HELP: &str = "\
The calls, as a JSON list or as objects one after the other:
  {\"agent\": \"memory\", \"operation\": \"recall\", \"arguments\": {\"key\": \"host\"}, \"id\": \"h\"}
  {\"agent\": \"memory\", \"operation\": \"remember\",
   \"arguments\": {\"key\": \"copy\", \"value\": {\"$result\": \"h/value\"}}}

  arguments   the request as JSON (`op-dbusctl describe AGENT OPERATION`)
  id          the name by which others refer to the call
  after       the ids of calls to wait for, whatever comes of them
  timeout     how long the call may take, as \"5s\"
  request_id  a name for the request: repeated, it gives the first one's result

In the arguments, {\"$result\": \"ID/POINTER\"} stands for what is at that JSON pointer in the result of
the call ID; {\"$result\": \"ID\"} for the whole result. A member that is itself called $result is
written $$result.";

/// Talks to op-dbus: lists, describes and calls its agents, over gRPC or D-Bus.
#[derive(Debug, Parser)]
#[command(name = "op-dbusctl", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
pub(super) struct Global {
    /// Which transport to take; auto: gRPC if it accepts a connection, else D-Bus; legacy: the older
    /// interface on D-Bus, for `call` and the operations that have an older name
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        value_name = "TRANSPORT",
        env = "OP_DBUS_VIA"
    )]
    pub(super) via: Via,
    /// The gRPC address, as unix:/run/op-dbus/grpc.sock, http://127.0.0.1:50051 or https://host:50443
    #[arg(long, global = true, value_name = "ADDRESS", visible_alias = "endpoint")]
    pub(super) address: Option<GrpcAddress>,
    #[command(flatten)]
    pub(super) credentials: Credentials,
    /// The bus: system, session or a D-Bus address
    #[arg(long, global = true, value_name = "BUS")]
    pub(super) bus: Option<Bus>,
    /// The service's name on the bus [default: org.opdbus.Agents1]
    #[arg(long, global = true, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// The service's configuration file, read for where to find the service [default:
    /// /etc/op-dbus/grpc.toml]
    #[arg(long, global = true, value_name = "FILE", env = "OP_DBUS_CONFIG", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
    /// How long a call may take, as 30s or 5m [default: 30s, or what
    /// the configuration says; for a task as long as the service lets it]
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_timeout)]
    pub(super) timeout: Option<Duration>,
    /// Write JSON, on one line
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// When to use colour; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    pub(super) color: Color,
    /// Say on standard error which way the calls take
    #[arg(short, long, global = true)]
    pub(super) verbose: bool,
}

impl Global {
    pub(super) fn call_options(&self) -> CallOptions {
        CallOptions { timeout: self.timeout, ..CallOptions::default() }
    }
}

/// Which transport to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Via {
    Auto,
    Grpc,
    Dbus,
    Legacy,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the agents
    Agents,
    /// Describe an agent, or one operation with its arguments and ready-made calls
    Describe {
        /// The agent's id
        #[arg(add = ArgValueCompleter::new(complete::agents))]
        agent: String,
        /// The operation, as Remember or remember
        #[arg(add = ArgValueCompleter::new(complete::operations))]
        operation: Option<String>,
    },
    /// Call an operation
    Call(Call),
    /// Run a program with the rights of the caller, confined and limited by the service
    Run(Run),
    /// Make several calls in one round trip
    Batch(Batch),
    /// List, watch, await and cancel tasks: the calls that may outlive their client
    Tasks(Tasks),
    /// List, show and end sessions
    Sessions(Sessions),
    /// List, show, approve and reject calls that must be approved
    Approvals(Approvals),
    /// Show who may call what, and why
    Policy(Policy),
    /// Check and read the audit log: what was refused, and what changed something
    Audit(Audit),
    /// Follow the move of clients from D-Bus to gRPC, and take it on or back
    Migration(Migration),
    /// Make the calls that change nothing over D-Bus and over gRPC, and show where answers differ
    ///
    /// Each operation that only reads is called with an empty request, and with one in which every text
    /// is a name that nothing has. It ends with 1 if answers differ, or if nothing could be compared.
    /// What differs from call to call over one way is left out.
    Parity {
        /// Only this agent's operations; `agents` for the service's own
        #[arg(add = ArgValueCompleter::new(complete::agents))]
        agent: Option<String>,
    },
    /// Measure how long a call that does nothing takes
    Ping {
        /// How many calls, one after the other
        #[arg(short, long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        count: u32,
    },
    /// Show what was called over which transport; with --json every metric as JSON
    Metrics {
        /// The Prometheus text as the service gives it
        #[arg(long, conflicts_with = "json")]
        raw: bool,
    },
    /// Show how the service is doing
    Status,
    /// Make tokens, with which programs act as a user
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Work with the service's configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Write the completion script of a shell
    ///
    /// For bash: source <(op-dbusctl completions bash)
    Completions {
        #[arg(value_parser = PossibleValuesParser::new(complete::SHELLS))]
        shell: String,
    },
    /// Write the manual page, or all of them into a folder
    #[command(hide = true)]
    Man {
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        folder: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check a configuration file as op-dbusd does when it starts
    Check {
        /// The file; if not given that of --config, else the one that op-dbusd reads by itself
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
#[command(after_help = CALL_HELP)]
pub(super) struct Call {
    /// The agent's id; `agents` for the service's own operations
    #[arg(add = ArgValueCompleter::new(complete::agents))]
    pub(super) agent: String,
    /// The operation, as Remember or remember
    #[arg(add = ArgValueCompleter::new(complete::operations))]
    pub(super) operation: String,
    /// The arguments as key=value, or the whole request as a JSON object
    #[arg(value_name = "KEY=VALUE", add = ArgValueCompleter::new(complete::keys))]
    pub(super) arguments: Vec<String>,
    /// The whole request as a JSON object; `-` reads it from standard input, for a stream of requests
    /// one on each line
    #[arg(long, value_name = "JSON", conflicts_with = "arguments")]
    pub(super) data: Option<String>,
    /// Start the call as a task, print the task's id and do not wait
    #[arg(short, long, conflicts_with = "raw")]
    pub(super) detach: bool,
    /// Write the bytes that the first bytes field of each message holds, and nothing else
    #[arg(long, conflicts_with = "json")]
    pub(super) raw: bool,
    /// A name for this request: repeated with the same name, it gives the first one's result
    #[arg(long, value_name = "ID")]
    pub(super) request_id: Option<String>,
    /// The approval that this very call was given, after it had ended with APPROVAL_REQUIRED
    #[arg(long, value_name = "ID", add = ArgValueCompleter::new(complete::approvals))]
    pub(super) approval_id: Option<String>,
    /// Let polkit ask you to authenticate, should the call need that, and wait for it
    #[arg(short, long)]
    pub(super) interactive: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = BATCH_HELP)]
pub(super) struct Batch {
    /// The file with the calls; `-` for standard input
    #[arg(value_hint = ValueHint::FilePath)]
    pub(super) file: PathBuf,
    /// Run the calls side by side; those that change the same thing keep their order
    #[arg(short, long)]
    pub(super) parallel: bool,
    /// How many run side by side; implies --parallel
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_parallel: Option<u32>,
    /// Make no further call once one has failed
    #[arg(long)]
    pub(super) stop_on_error: bool,
    /// Show the results in the order in which the calls ended
    #[arg(long)]
    pub(super) as_completed: bool,
    /// A name for the whole batch: repeated with the same name, it gives the first one's results
    #[arg(long, value_name = "ID")]
    pub(super) request_id: Option<String>,
}
