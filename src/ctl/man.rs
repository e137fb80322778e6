//! `op-dbusctl man`: manual pages from the same description that the command line is read by.

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use super::Outcome;
use super::args::Args;
use super::output::Output;
use super::problem::Problem;

pub(super) fn write(folder: Option<&Path>, output: &mut Output) -> Result<Outcome, Problem> {
    let mut command = Args::command().disable_help_subcommand(true);
    command.build();
    match folder {
        Some(folder) => {
            fs::create_dir_all(folder)?;
            write_pages(&command, folder)?;
        }
        None => page(&command).render(output)?,
    }
    Ok(Outcome::Done)
}

/// Writes the page of a command and those of its commands, as `op-dbusctl-call.1`.
fn write_pages(command: &Command, folder: &Path) -> Result<(), Problem> {
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        write_pages(inner, folder)?;
    }
    page(command).generate_to(folder)?;
    Ok(())
}

fn page(command: &Command) -> Man {
    Man::new(command.clone())
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
        write(Some(folder.path()), &mut output).unwrap();
        for page in ["op-dbusctl.1", "op-dbusctl-call.1", "op-dbusctl-config-check.1"] {
            let text = fs::read_to_string(folder.path().join(page)).unwrap();
            assert!(text.contains(".SH DESCRIPTION") || text.contains(".SH NAME"), "{page}");
        }
        assert!(!folder.path().join("op-dbusctl-man.1").exists());
        let text = fs::read_to_string(folder.path().join("op-dbusctl.1")).unwrap();
        assert!(text.contains("the service cannot be reached"), "the exit codes are documented");
    }
}
