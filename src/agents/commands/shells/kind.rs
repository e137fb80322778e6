//! The shells that can be kept, and how each is told to run a text and to say what came of it. It starts
//! none.
//!
//! A shell reads orders from its standard input, a line each. A text is never among them: it stands in
//! descriptor 4, which the shell sources, and has neither the orders nor descriptors 3 and 4 while it
//! runs. What came of it the shell writes to descriptor 3, between two tokens that no text can know
//! beforehand.

use std::ffi::OsString;

use super::marker::Token;
use crate::error::Error;

/// What runs the texts of a shell of Python.
const DRIVER: &str = include_str!("driver.py");

/// What gives a shell as people use it: interactive, so that neither an error nor an interrupt ends it,
/// but without anything that a terminal is needed for.
const BASH: [&str; 6] = ["bash", "--noprofile", "--norc", "--noediting", "+H", "-i"];

/// A shell that can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sh,
    Bash,
    Python,
}

impl Kind {
    /// What `name` may be, the best first.
    pub(super) fn named(name: &str) -> Result<&'static [Self], Error> {
        match name {
            "" => Ok(&[Self::Bash, Self::Sh]),
            "sh" => Ok(&[Self::Sh]),
            "bash" => Ok(&[Self::Bash]),
            "python3" => Ok(&[Self::Python]),
            _ => Err(Error::invalid("shell", format!("{name:?} is none of sh, bash and python3"))),
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sh => "sh",
            Self::Bash => "bash",
            Self::Python => "python3",
        }
    }

    pub(super) fn argv(self) -> Vec<String> {
        let argv: &[&str] = match self {
            Self::Sh => &["sh", "-i"],
            Self::Bash => &BASH,
            Self::Python => &["python3", "-u", "-c", DRIVER],
        };
        argv.iter().map(|&argument| argument.to_owned()).collect()
    }

    /// Variables without which a shell would print what is no output, or keep the orders in a history.
    pub(super) fn environment(self) -> Vec<(OsString, OsString)> {
        let names: &[&str] = match self {
            Self::Sh | Self::Bash => &["PS1", "PS2", "HISTFILE"],
            Self::Python => &[],
        };
        names.iter().map(|name| (name.into(), OsString::new())).collect()
    }

    /// The first text of a shell. An interactive shell ignores a termination, and would go on with the
    /// rest of a text whose command was ended by it.
    pub(super) const fn first_text(self) -> &'static str {
        match self {
            Self::Sh => "trap 'exit 143' TERM",
            Self::Bash => "set +o history; trap 'exit 143' TERM",
            Self::Python => "",
        }
    }

    /// What is put into descriptor 4 for a text.
    pub(super) fn source(self, text: &str) -> String {
        match self {
            // On the same line, so that errors name the lines of the text.
            Self::Sh | Self::Bash => format!("exec 4<&-;{text}\n"),
            Self::Python => text.to_owned(),
        }
    }

    /// The order to run what is in descriptor 4.
    ///
    /// `command` keeps `sh` from giving up the whole line for an error in the text; `bash` gives it up,
    /// so the report is a line of its own as well. The descriptors that the text does not get, or may
    /// change, the shell puts back afterwards, whatever the text did.
    pub(super) fn order(self, token: &Token) -> String {
        let report = self.report(token);
        match self {
            Self::Sh | Self::Bash => format!(
                "command . /proc/self/fd/4 </dev/null 3>&- 4</proc/self/fd/4; {report}{report}"
            ),
            Self::Python => format!("run {token}\n"),
        }
    }

    /// The order to say what came of the last text.
    pub(super) fn report(self, token: &Token) -> String {
        match self {
            // No trace of it (`set -x`) goes to the errors.
            Self::Sh | Self::Bash => format!(
                "{{ command printf '<{token}:%s:%s:{token}>\\n' \"$?\" \"${{PWD-}}\" >&3; }} 2>/dev/null\n"
            ),
            Self::Python => format!("report {token}\n"),
        }
    }
}
