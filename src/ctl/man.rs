//! `op-dbusctl man`: manual pages from the same description that the command line is read by.

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use super::args::Args;
use super::output::Output;
use super::problem::Problem;
use super::{OtherPage, Outcome};

/// The section of the manual for commands of users.
const SECTION: &str = "1";

/// Writes this command's page to the output, or the pages of all commands and of `others` into a
/// folder.
pub(super) fn write(
    folder: Option<&Path>,
    others: &[OtherPage],
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let Some(folder) = folder else {
        page(&built(Args::command()), SECTION).render(output)?;
        return Ok(Outcome::Done);
    };
    fs::create_dir_all(folder)?;
    write_pages(&built(Args::command()), SECTION, folder)?;
    for (section, command) in others {
        write_pages(&built(command()), section, folder)?;
    }
    Ok(Outcome::Done)
}

fn built(command: Command) -> Command {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    command
}

/// Writes the page of a command and those of its commands, as `op-dbusctl-call.1`.
fn write_pages(command: &Command, section: &str, folder: &Path) -> Result<(), Problem> {
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        write_pages(inner, section, folder)?;
    }
    page(command, section).generate_to(folder)?;
    Ok(())
}

fn page(command: &Command, section: &str) -> Man {
    Man::new(command.clone())
        .section(section)
        .source(concat!("op-dbus ", env!("CARGO_PKG_VERSION")))
        .manual("op-dbus")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::args::Color;

    #[test]
    fn there_is_a_page_for_every_command() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = Output::new(false, Color::Never);
        let other: OtherPage = ("8", || Command::new("op-dbusd"));
        write(Some(folder.path()), &[other], &mut output).unwrap();
        assert!(folder.path().join("op-dbusd.8").is_file());
        for page in ["op-dbusctl.1", "op-dbusctl-call.1", "op-dbusctl-config-check.1"] {
            let text = fs::read_to_string(folder.path().join(page)).unwrap();
            assert!(text.contains(".SH DESCRIPTION") || text.contains(".SH NAME"), "{page}");
        }
        assert!(!folder.path().join("op-dbusctl-man.1").exists());
        let text = fs::read_to_string(folder.path().join("op-dbusctl.1")).unwrap();
        assert!(text.contains("the service cannot be reached"), "the exit codes are documented");
    }
}
