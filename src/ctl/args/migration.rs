//! The command line of the move to gRPC. Nothing is carried out here.

use std::time::SystemTime;

use clap::{Subcommand, ValueEnum};
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

The ledger keeps who called what over which way: dbus, legacy (the older interface on D-Bus) or grpc. It
is exact to the hour, and further back than three days to the day. A time is one of the calendar (RFC
3339) or how long ago, as 90s, 2h or 7d.";

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
