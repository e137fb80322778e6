//! The command line of the audit log. Nothing is carried out here.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Subcommand, ValueHint};
use prost_types::Timestamp;

use super::work::Rows;
use crate::call::Interface;
use crate::ctl::arguments::parse_timeout;

const AUDIT_HELP: &str = "\
Examples:
  op-dbusctl audit verify                              0: whole, 1: not, and where
  op-dbusctl audit tail -f                             what is recorded from now on
  op-dbusctl audit search --refused --since 1h
  op-dbusctl audit search --uid 1000 --agent memory --operation forget --outcome OK
  op-dbusctl audit search --interface legacy           who still calls by the older interface
  op-dbusctl audit search --since 2026-01-31T12:00:00Z --all --json

The files are read where they lie, by root or the service's user, also when the service does not run.
A time is one of the calendar (RFC 3339) or how long ago, as 90s or 2h.";

#[derive(Debug, clap::Args)]
#[command(after_help = AUDIT_HELP)]
pub(in crate::ctl) struct Audit {
    /// The folder of the log; if not given, `audit` below [storage] path
    #[arg(long, global = true, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(in crate::ctl) folder: Option<PathBuf>,
    #[command(subcommand)]
    pub(in crate::ctl) command: AuditCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum AuditCommand {
    /// Check that no record was changed, removed or moved
    Verify,
    /// Show the newest records, with -f those that come as well
    Tail {
        #[command(flatten)]
        wanted: Wanted,
        /// How many
        #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
        lines: usize,
        /// Go on with those that come, until Ctrl-C
        #[arg(short, long)]
        follow: bool,
    },
    /// List records, the newest last
    Search {
        #[command(flatten)]
        wanted: Wanted,
        #[command(flatten)]
        rows: Rows,
    },
}

/// Which records are wanted.
#[derive(Debug, clap::Args)]
pub(in crate::ctl) struct Wanted {
    /// Only of calls by this user
    #[arg(long, value_name = "UID")]
    pub(in crate::ctl) uid: Option<u32>,
    /// Only of calls to this agent
    #[arg(long, value_name = "AGENT")]
    pub(in crate::ctl) agent: Option<String>,
    /// Only of this operation, as Remember or remember
    #[arg(long, value_name = "OPERATION")]
    pub(in crate::ctl) operation: Option<String>,
    /// Only of calls by the own interface or by the older one of D-Bus
    #[arg(long, value_name = "INTERFACE", value_parser = Interface::ALL.map(Interface::name))]
    pub(in crate::ctl) interface: Option<String>,
    /// Only with this outcome, as OK or access_denied
    #[arg(long, value_name = "OUTCOME")]
    pub(in crate::ctl) outcome: Option<String>,
    /// Only of calls that were refused
    #[arg(long)]
    pub(in crate::ctl) refused: bool,
    /// Not before this time
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(in crate::ctl) since: Option<SystemTime>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(in crate::ctl) until: Option<SystemTime>,
}

/// A time of the calendar, or so long ago.
pub(super) fn parse_moment(text: &str) -> Result<SystemTime, String> {
    let wrong =
        || format!("{text:?} is neither a time, as 2026-01-31T12:00:00Z, nor one ago, as 2h");
    if let Ok(ago) = parse_timeout(text) {
        return SystemTime::now().checked_sub(ago).ok_or_else(wrong);
    }
    let time: Timestamp = text.parse().map_err(|_| wrong())?;
    SystemTime::try_from(time).map_err(|_| wrong())
}
