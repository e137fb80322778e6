//! The command line of who may do what: approvals and the policy. Nothing is carried out here.

use clap::builder::PossibleValue;
use clap::{Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

use super::work::Rows;
use crate::call::LoginSession;
use crate::ctl::complete;

const APPROVALS_HELP: &str = "\
Examples:
  op-dbusctl approvals                       what waits, of one's own and to decide on
  op-dbusctl approvals show ID               what the call would do
  op-dbusctl approvals approve ID
  op-dbusctl approvals reject ID --reason 'not on a Friday'

A call that must be approved ends with APPROVAL_REQUIRED and an id. Once somebody else has approved it,
its caller repeats the very same call, once, with --approval-id ID.";

const POLICY_HELP: &str = "\
Examples:
  op-dbusctl policy explain alice commands ExecShell
  op-dbusctl policy explain alice commands ExecShell --login-session remote
  op-dbusctl policy show

The rules are the [[policy]] tables of the service's configuration, and after them those that are built
in: every local user may read, write and execute as himself; root and the members of the group
op-dbus-admin may do everything; on deploying and administering by others polkit decides. Everybody may
ask about himself.";

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = APPROVALS_HELP)]
pub(in crate::ctl) struct Approvals {
    #[command(flatten)]
    pub(in crate::ctl) list: ListApprovals,
    #[command(subcommand)]
    pub(in crate::ctl) command: Option<ApprovalsCommand>,
}

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum ApprovalsCommand {
    /// List the calls that must be approved, the newest first; the same as no command
    List(ListApprovals),
    /// Show one of them, with all that is known of what it would do
    Show {
        /// The approval's id
        #[arg(add = ArgValueCompleter::new(complete::approvals))]
        id: String,
    },
    /// Approve calls of others
    Approve {
        /// The approvals' ids
        #[arg(required = true, value_name = "ID", add = ArgValueCompleter::new(complete::approvals))]
        ids: Vec<String>,
    },
    /// Reject calls, also such that were approved and not made yet
    Reject {
        /// The approvals' ids
        #[arg(required = true, value_name = "ID", add = ArgValueCompleter::new(complete::approvals))]
        ids: Vec<String>,
        /// Why, for their callers
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
}

#[derive(Debug, clap::Args)]
pub(in crate::ctl) struct ListApprovals {
    #[command(flatten)]
    pub(in crate::ctl) rows: Rows,
}

#[derive(Debug, clap::Args)]
#[command(after_help = POLICY_HELP)]
pub(in crate::ctl) struct Policy {
    #[command(subcommand)]
    pub(in crate::ctl) command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum PolicyCommand {
    /// Show the rules in force, in the order in which they are asked
    Show,
    /// Say what would come of a user's call, and by which rule
    Explain {
        /// The user, by name or id
        user: String,
        /// The agent's id
        #[arg(add = ArgValueCompleter::new(complete::agents))]
        agent: String,
        /// The operation, as ExecShell or exec_shell
        #[arg(add = ArgValueCompleter::new(complete::operations))]
        operation: String,
        #[command(flatten)]
        by: CallsBy,
    },
}

/// How the user calls.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(in crate::ctl) struct CallsBy {
    /// By the token with this name
    #[arg(long = "by-token", value_name = "NAME")]
    pub(in crate::ctl) token: Option<String>,
    /// With a certificate that bears this name, as spiffe://example.org/chat
    #[arg(long = "by-certificate", value_name = "NAME")]
    pub(in crate::ctl) certificate: Option<String>,
    /// From such a login session
    #[arg(long, value_enum, value_name = "KIND")]
    pub(in crate::ctl) login_session: Option<LoginSession>,
}

impl ValueEnum for LoginSession {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}
