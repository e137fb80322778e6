//! The command line of programs that the service runs. Nothing is carried out here.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueHint;
use clap::builder::PossibleValuesParser;

use crate::ctl::arguments::parse_timeout;

const RUN_HELP: &str = "\
Examples:
  op-dbusctl run -- ls -l                     in the folder where op-dbusctl runs
  op-dbusctl run --limit 5m -- make test      ended after five minutes, with all that it started
  op-dbusctl run --profile network -- curl -sS https://example.org
  op-dbusctl run --input data.json -- jq .name
  op-dbusctl run -v -- true                   tells what the kernel enforces

The program's output, errors and exit code are those of op-dbusctl. It is an argument vector and no
shell text: pipes and wildcards are the shell's that op-dbusctl runs in. Ctrl-C ends it with all that
it started.

Profiles, as far as the service's configuration lets them be asked for:
  read      reads its folder, runs nothing from it, no network
  build     reads and runs from its folder, writes only to its temporary folder, no network
  test      writes in its folder and may use Unix sockets
  exec      writes in its folder, no network; the default
  network   writes in its folder, with network
  none      the caller's own rights

Exit codes: the program's own; 128 and the signal's number if a signal ended it, as 130 for Ctrl-C; 124 if
a limit did, 125 if it could not be run.";

#[derive(Debug, clap::Args)]
#[command(after_help = RUN_HELP)]
pub(in crate::ctl) struct Run {
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGV", value_hint = ValueHint::CommandWithArguments)]
    pub(in crate::ctl) argv: Vec<String>,
    /// Where it runs [default: here]
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(in crate::ctl) directory: Option<PathBuf>,
    /// A variable of its environment; can be given several times
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(in crate::ctl) env: Vec<String>,
    /// A file that is its input; `-` for standard input [default: none]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::ctl) input: Option<PathBuf>,
    /// What it may touch [default: exec]
    #[arg(short, long, value_name = "PROFILE", value_parser = PossibleValuesParser::new(PROFILES))]
    pub(in crate::ctl) profile: Option<String>,
    /// Do not run it unless the kernel can enforce all of the profile
    #[arg(long)]
    pub(in crate::ctl) require: bool,
    /// How long it may run, as 30s or 5m [default: as the service's configuration says]
    #[arg(short, long, value_name = "TIME", value_parser = parse_timeout)]
    pub(in crate::ctl) limit: Option<Duration>,
}

const PROFILES: [&str; 6] = ["read", "build", "test", "exec", "network", "none"];
