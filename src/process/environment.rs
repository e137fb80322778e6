//! The environment of a program, built up from nothing: a fixed part, what the daemon's own may pass
//! on, and what the caller gives. It never passes on a secret, nor what makes a program load code.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use crate::error::Error;

/// Where programs are looked for if the caller gives no `PATH`.
pub const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// What is passed on from the daemon's own environment.
pub const PASSED_ON: &[&str] = &["LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "TZ"];

/// Names that are refused: they hold secrets, ...
const REFUSED_ENDINGS: &[&str] = &[
    "_ACCESS_KEY",
    "_API_KEY",
    "_CREDENTIALS",
    "_PASSWD",
    "_PASSWORD",
    "_PRIVATE_KEY",
    "_SECRET",
    "_TOKEN",
];
/// ... lead to services that act for the user, or make the program load what it did not ask for, ...
const REFUSED_BEGINNINGS: &[&str] = &["AWS_", "DBUS_", "DYLD_", "LD_", "LISTEN_", "OP_DBUS_"];
/// ... or both.
const REFUSED: &[&str] = &[
    "BASH_ENV",
    "CREDENTIALS_DIRECTORY",
    "ENV",
    "GLIBC_TUNABLES",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "NOTIFY_SOCKET",
    "PASSWORD",
    "SECRET",
    "SSH_AUTH_SOCK",
    "TOKEN",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
];

/// Why a program never gets the variable `name`, if so. Case does not matter.
#[must_use]
pub fn refusal(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    if REFUSED_ENDINGS.iter().any(|ending| name.ends_with(ending))
        || REFUSED_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        || REFUSED.contains(&name.as_str())
    {
        return Some(
            "no program gets this variable, which may hold a secret or change what it loads",
        );
    }
    None
}

/// The environment of a program whose caller gives it `given`, and which has a terminal or not.
///
/// # Errors
///
/// `InvalidArgument` for a name that is empty, not ASCII, given twice or refused, and for a value with
/// a zero byte.
pub(super) fn build(
    given: &[(OsString, OsString)],
    terminal: bool,
) -> Result<BTreeMap<OsString, OsString>, Error> {
    let mut built: BTreeMap<OsString, OsString> = PASSED_ON
        .iter()
        .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
        .collect();
    built.insert("PATH".into(), DEFAULT_PATH.into());
    let term = if terminal { "xterm-256color" } else { "dumb" };
    built.insert("TERM".into(), term.into());
    if !terminal {
        built.insert("NO_COLOR".into(), "1".into());
    }
    let mut seen = Vec::new();
    for (name, value) in given {
        check(name, value)?;
        if seen.contains(&name) {
            return Err(Error::invalid(
                "environment",
                format!("{} is given twice", name.display()),
            ));
        }
        seen.push(name);
        built.insert(name.clone(), value.clone());
    }
    Ok(built)
}

fn check(name: &OsStr, value: &OsStr) -> Result<(), Error> {
    let wrong = |problem: &str| {
        Err(Error::invalid("environment", format!("{}: {problem}", name.display())))
    };
    let Some(text) = name.to_str().filter(|text| text.is_ascii() && !text.is_empty()) else {
        return wrong("a name is one or more ASCII characters");
    };
    if text.contains(['=', '\0']) {
        return wrong("a name has neither = nor a zero byte");
    }
    if value.as_bytes().contains(&0) {
        return wrong("a value has no zero byte");
    }
    refusal(text).map_or(Ok(()), wrong)
}
