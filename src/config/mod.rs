//! The configuration: files → their shape → merged keys → checked, typed settings. It reads and
//! checks; what the settings do is with the modules that they are for. Only the daemon imports it.

mod keys;
mod locate;
mod problem;
mod settings;
mod tables;

use std::path::{Path, PathBuf};

use crate::files::{self, Source, Unreadable};
use crate::migration::rollout;

pub use keys::Entry;
pub use problem::{Problem, Problems};
pub(crate) use settings::bus;
pub use settings::{Agents, Grpc, Log, LogTarget, MetricsEndpoint, Settings, Starter, Worker};

/// Where the configuration is unless the command line or `OP_DBUS_CONFIG` say otherwise.
pub const DEFAULT_PATH: &str = files::DEFAULT_PATH;

/// A configuration that is complete and free of contradictions.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings, for each module its own.
    pub settings: Settings,
    /// The files that were read, in the order in which they were.
    pub files: Vec<PathBuf>,
    /// Every key with its value and where that was set, for people and to see what a reload changed.
    pub entries: Vec<Entry>,
}

/// Whether the main file must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Its absence is an error: somebody named it.
    Refuse,
    /// Without it the defaults hold: nobody named it.
    UseDefaults,
}

/// The rules of the rollout in `text`, which is the `[migration]` part of a configuration. Looks up users,
/// which may block.
///
/// # Errors
/// Every problem that was found, as [`load`] gives them.
pub fn rollout(text: &str) -> Result<rollout::Config, Problems> {
    settings::from_text(text)
}

/// Reads `path` and then its drop-ins, `<path>.d/*.toml` in the order of their names. A key in a
/// later file replaces the same key of an earlier one; lists are replaced as a whole.
///
/// # Errors
/// Every problem that was found, each with its file, line, column and key where it has them.
pub fn load(path: &Path, missing: Missing) -> Result<Loaded, Problems> {
    let sources = files::sources(path, missing == Missing::UseDefaults);
    let sources =
        sources.map_err(|Unreadable { path, error }| Problem::unreadable(path, &error))?;
    read(sources)
}

/// The configuration that is one file with this text.
///
/// # Errors
/// As [`load`].
#[cfg(feature = "testing")]
pub fn from_text(text: &str) -> Result<Loaded, Problems> {
    read(vec![Source { path: DEFAULT_PATH.into(), text: text.to_owned() }])
}

fn read(sources: Vec<Source>) -> Result<Loaded, Problems> {
    let keys = keys::Keys::merged(&sources)?;
    let settings = settings::check(&keys, &sources)?;
    Ok(Loaded {
        settings,
        entries: keys.entries(&sources),
        files: sources.into_iter().map(|source| source.path).collect(),
    })
}

impl Loaded {
    /// What holds as TOML, each key with where it was set. Tokens are without their digests.
    #[must_use]
    pub fn annotated(&self) -> String {
        let mut text = String::new();
        let mut current = "";
        for entry in &self.entries {
            let (section, key) = entry.name.split_once('.').unwrap_or(("", entry.name));
            if section != current {
                text.push_str(&format!("\n[{section}]\n"));
                current = section;
            }
            let origin = entry.origin.as_deref().unwrap_or("default");
            text.push_str(&format!("{key} = {} # {origin}\n", entry.value));
        }
        text
    }

    /// The keys whose values differ between `self` and `newer`.
    #[must_use]
    pub fn changed<'a>(&self, newer: &'a Self) -> Vec<&'a Entry> {
        // Both lists name every key there is, in the same order.
        std::iter::zip(&self.entries, &newer.entries)
            .filter(|(old, new)| old.value != new.value)
            .map(|(_, new)| new)
            .collect()
    }
}

#[cfg(test)]
mod tests;
