//! The command line of the move to gRPC. Nothing is carried out here.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Subcommand, ValueEnum, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use super::audit::parse_moment;
use super::work::Rows;
use crate::ctl::complete;
use crate::proto::opdbus::v1::Way;

const MIGRATION_HELP: &str = "\
Examples:
  op-dbusctl migration status                       the rules, and who is still on D-Bus
  op-dbusctl migration uses --way legacy --since 1d
  op-dbusctl migration report || mail-it-to-admin   0: nothing blocks the last stage, 3: something does
  op-dbusctl migration plan                         the next safe step of each rule
  op-dbusctl migration advance op-chat              to the next stage, if that is safe
  op-dbusctl migration set op-chat canary 25        of 100 sessions or clients, 25 take gRPC
  op-dbusctl migration rollback op-chat --reason 'errors since noon'
  op-dbusctl migration simulate 60-rollout.toml     what other rules would do to yesterday's calls
  op-dbusctl migration routes --client op-chat      which way the calls of this user take

The ledger keeps who called what over which way: dbus, legacy (the older interface on D-Bus) or grpc. It
is exact to the hour, and further back than three days to the day. A time is one of the calendar (RFC
3339) or how long ago, as 90s, 2h or 7d.

The rules are the [[migration.rule]] tables of the service's configuration; the one that holds for all
other calls is called default. A rule that was moved stays where it is, also over restarts, until its
stage in the configuration changes.";

#[derive(Debug, clap::Args)]
#[command(after_help = MIGRATION_HELP)]
pub(in crate::ctl) struct Migration {
    #[command(subcommand)]
    pub(in crate::ctl) command: MigrationCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum MigrationCommand {
    /// Show the rules with their stages, the share of each way, and the clients still on D-Bus
    Status {
        #[command(flatten)]
        period: Period,
    },
    /// List who called what over which way, the last seen first
    Uses(WantedUses),
    /// Say who is still on D-Bus and what keeps rules from the last stage: ends with 3 if something does
    Report {
        #[command(flatten)]
        period: Period,
    },
    /// Show the next safe step of each rule, and why
    Plan {
        #[command(flatten)]
        period: Period,
    },
    /// Show what comparing both ways found to differ
    Differences {
        /// Only of this operation, as memory.Recall
        operation: Option<String>,
    },
    /// Take a rule to its next stage, or its canary to the next share
    Advance(Move),
    /// Take a rule a stage back; a canary to D-Bus
    Rollback(Move),
    /// Keep a rule where it is, so that nothing moves it by itself
    Hold(Move),
    /// Let a rule that is held go on
    Release(Move),
    /// Take a rule to a stage
    Set(Set),
    /// Show what other rules would do to the calls of the last day
    Simulate {
        /// A file with the [migration] part of a configuration; `-` for standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Show which way the calls of this user take
    Routes {
        /// What the client calls itself
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        client: String,
    },
}

/// A rule to move, and why.
#[derive(Debug, clap::Args)]
pub(in crate::ctl) struct Move {
    /// The rule's name; `default` for the one that stands last
    pub(in crate::ctl) rule: String,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(in crate::ctl) reason: String,
    /// Take the step even if it is not safe
    #[arg(long)]
    pub(in crate::ctl) force: bool,
}

/// A rule and the stage to take it to.
#[derive(Debug, clap::Args)]
pub(in crate::ctl) struct Set {
    #[command(flatten)]
    pub(in crate::ctl) to_move: Move,
    /// The stage
    #[arg(value_parser = ["dbus", "shadow", "canary", "grpc", "final"])]
    pub(in crate::ctl) stage: String,
    /// Of 100 sessions or clients, how many take gRPC at stage canary [default: the first step]
    #[arg(value_parser = parse_share)]
    pub(in crate::ctl) percent: Option<u32>,
}

/// A share in per cent, of 10,000.
fn parse_share(text: &str) -> Result<u32, String> {
    let problem = || "is no share: from 0.01 to 100 per cent".to_owned();
    let percent: f64 = text.trim_end_matches('%').trim().parse().map_err(|_| problem())?;
    let share = (percent * 100.0).round();
    #[expect(clippy::cast_possible_truncation, reason = "what is out of its range is refused")]
    let whole = share as u32;
    if (1.0..=10_000.0).contains(&share) { Ok(whole) } else { Err(problem()) }
}

/// Which time counts.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(in crate::ctl) struct Period {
    /// Calls before this time do not count [default: those of the last seven days do]
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(in crate::ctl) since: Option<SystemTime>,
}

#[derive(Debug, clap::Args)]
pub(in crate::ctl) struct WantedUses {
    /// Only over this way
    #[arg(long, value_enum, value_name = "WAY")]
    pub(in crate::ctl) way: Option<WayName>,
    /// Only of this agent
    #[arg(long, value_name = "AGENT", add = ArgValueCompleter::new(complete::agents))]
    pub(in crate::ctl) agent: Option<String>,
    /// Only by clients whose program, unit, token, name or user id is this
    #[arg(long, value_name = "CLIENT")]
    pub(in crate::ctl) client: Option<String>,
    /// Only those seen since this time
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(in crate::ctl) since: Option<SystemTime>,
    #[command(flatten)]
    pub(in crate::ctl) rows: Rows,
}

/// A way of calling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::ctl) enum WayName {
    Dbus,
    Legacy,
    Grpc,
}

impl From<WayName> for Way {
    fn from(way: WayName) -> Self {
        match way {
            WayName::Dbus => Self::Dbus,
            WayName::Legacy => Self::Legacy,
            WayName::Grpc => Self::Grpc,
        }
    }
}
