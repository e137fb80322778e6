//! What is wrong with a configuration, and where: the text that an administrator reads.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, if the problem is in one.
    pub file: Option<PathBuf>,
    /// The line and the column, both counted from 1.
    pub place: Option<(usize, usize)>,
    /// The key, as `grpc.unix_mode`.
    pub key: Option<String>,
    /// What is wrong, as a sentence that says what would be right.
    pub text: String,
}

/// All problems of a configuration; there is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problem {
    /// A file that cannot be read.
    pub(super) fn unreadable(path: PathBuf, error: &io::Error) -> Self {
        let hint = if error.kind() == io::ErrorKind::NotFound {
            "; name an existing file with --config, or leave the option out"
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            "; the user that the service runs as must be able to read it"
        } else {
            ""
        };
        let text = format!("the file cannot be read: {error}{hint}");
        Self { file: Some(path), place: None, key: None, text }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if let Some((line, column)) = self.place {
                write!(f, "{line}:{column}:")?;
            }
            f.write_str(" ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.text)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}
