//! The command line of who the user is where the service does not see his process. Nothing is read here.

use std::path::PathBuf;

use clap::{Subcommand, ValueHint};

use crate::ctl::arguments::parse_timeout;

const TOKEN_HELP: &str = "\
Examples:
  op-dbusctl token new ci --user build --expires 90d
  op-dbusctl token new dashboard --user alice --risk read --operation 'memory.*'

The token is shown once and stored nowhere. The configuration holds its SHA-256, by which the service
knows it again. Whoever has the token acts as the user, within the operations and risks that it is for.
To revoke it, remove it from the configuration: systemctl reload op-dbus.";

/// By what the user is known.
#[derive(Debug, clap::Args)]
pub(in crate::ctl) struct Credentials {
    /// The root certificates, as PEM, that the server's certificate must come from; for https
    #[arg(long, global = true, value_name = "FILE", env = "OP_DBUS_CA", value_hint = ValueHint::FilePath)]
    pub(in crate::ctl) ca: Option<PathBuf>,
    /// The certificate to show the server, as PEM; needs --key
    #[arg(long, global = true, value_name = "FILE", env = "OP_DBUS_CERT", value_hint = ValueHint::FilePath)]
    pub(in crate::ctl) cert: Option<PathBuf>,
    /// The key of --cert, as PEM
    #[arg(long, global = true, value_name = "FILE", env = "OP_DBUS_KEY", value_hint = ValueHint::FilePath)]
    pub(in crate::ctl) key: Option<PathBuf>,
    /// A file with a token, which gRPC calls then bear: they are made as the token's user
    #[arg(long, global = true, value_name = "FILE", env = "OP_DBUS_TOKEN_FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::ctl) token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
#[command(after_help = TOKEN_HELP)]
pub(in crate::ctl) enum TokenCommand {
    /// Make a token: print it, and the lines for the configuration
    #[command(after_help = TOKEN_HELP)]
    New(NewToken),
}

/// A token to make.
#[derive(Debug, clap::Args)]
pub(in crate::ctl) struct NewToken {
    /// What it is called in logs and in the configuration: lower-case letters, digits and -
    #[arg(value_name = "TOKEN_NAME")]
    pub(in crate::ctl) token_name: String,
    /// The local user that it stands for: a name or a uid
    #[arg(long, value_name = "USER")]
    pub(in crate::ctl) user: String,
    /// For how long it is taken, as 90d; without it until it is removed
    #[arg(long, value_name = "TIME", value_parser = parse_timeout)]
    pub(in crate::ctl) expires: Option<std::time::Duration>,
    /// An operation that it is for, as memory.recall or memory.*; may be repeated [default: all]
    #[arg(long = "operation", value_name = "AGENT.OPERATION")]
    pub(in crate::ctl) operations: Vec<String>,
    /// A risk that it is for: read, write, execute, deploy or admin; may be repeated [default: all]
    #[arg(long = "risk", value_name = "RISK")]
    pub(in crate::ctl) risks: Vec<String>,
}
