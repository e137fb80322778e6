//! What would really run: the program of a call, and within it those that it is told to run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{followed, wrappers};
use crate::error::{Error, ErrorKind};
use crate::process;

/// How many programs one call may be about.
const LAYERS_MAX: usize = 32;

/// A program that would run.
#[derive(Debug)]
pub(super) struct Layer {
    /// What it is called by, without folders.
    pub(super) name: String,
    /// The file that is executed, with all links followed; none if there is none.
    pub(super) program: Option<PathBuf>,
    /// What it is given.
    pub(super) arguments: Vec<String>,
}

/// A program that another is told to run.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Inner {
    pub(super) argv: Vec<String>,
    /// Where it is looked for, if that is said.
    pub(super) path: Option<String>,
    /// True if it runs in a folder that is not known here.
    pub(super) is_elsewhere: bool,
}

impl Layer {
    /// The program for people.
    pub(super) fn shown(&self) -> String {
        match &self.program {
            Some(program) => program.display().to_string(),
            None => self.name.clone(),
        }
    }
}

/// The program `argv`, which is looked for in `path`, and all that it is told to run, outermost first.
///
/// # Errors
/// `AccessDenied` if it cannot be told what would run.
pub(super) fn of(argv: &[String], path: &str, directory: &Path) -> Result<Vec<Layer>, Error> {
    let first = Inner { argv: argv.to_owned(), path: Some(path.to_owned()), is_elsewhere: false };
    let mut waiting = vec![(first, path.to_owned())];
    let mut layers = Vec::new();
    while let Some((next, path)) = waiting.pop() {
        let Some((name, arguments)) = next.argv.split_first() else { continue };
        let path = next.path.unwrap_or(path);
        if next.is_elsewhere && name.contains('/') && !name.starts_with('/') {
            return Err(unclear(argv, &format!("{name:?} is a path in another folder")));
        }
        let program = process::find_program(OsStr::new(name), OsStr::new(&path), directory);
        let layer = Layer {
            name: Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned(),
            program: program.ok().map(|program| followed(&directory.join(program))),
            arguments: arguments.to_owned(),
        };
        let inner = wrappers::inner(&layer).map_err(|why| unclear(argv, &why))?;
        layers.push(layer);
        if layers.len() + inner.len() > LAYERS_MAX {
            return Err(unclear(argv, "too many programs run each other"));
        }
        waiting.extend(inner.into_iter().rev().map(|inner| (inner, path.clone())));
    }
    Ok(layers)
}

fn unclear(argv: &[String], why: &str) -> Error {
    let name = argv.first().map(String::as_str).unwrap_or_default();
    let text = format!("argv: nobody can tell what {name} would run: {why}");
    Error::new(ErrorKind::AccessDenied, text).with_fact("field", "argv")
}
