//! The checks that several keys share, and the problems that they found.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::keys::Key;
use crate::config::locate;
use crate::config::problem::{Problem, Problems};
use crate::files::Source;

/// The longest path of a Unix socket, in bytes; the kernel's limit without the final zero.
const MAX_SOCKET_PATH: usize = 107;

/// Collects problems.
pub(super) struct Checker<'a> {
    sources: &'a [Source],
    problems: Vec<Problem>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(sources: &'a [Source]) -> Self {
        Self { sources, problems: Vec::new() }
    }

    /// `settings`, unless a problem was found.
    pub(super) fn finish<T>(self, settings: T) -> Result<T, Problems> {
        if self.problems.is_empty() { Ok(settings) } else { Err(Problems(self.problems)) }
    }

    /// Notes a problem with a key.
    pub(super) fn reject<T>(&mut self, key: &Key<T>, text: impl Into<String>) {
        let source = key.at.map(|(source, offset)| (&self.sources[source], offset));
        self.problems.push(Problem {
            file: source.map(|(source, _)| source.path.clone()),
            place: source.map(|(source, offset)| locate::place(&source.text, offset)),
            key: Some(key.name.to_owned()),
            text: text.into(),
        });
    }

    /// The file and line that set a key; empty for a default.
    pub(super) fn origin<T>(&self, key: &Key<T>) -> String {
        let place = key.at.map(|(source, offset)| {
            let source = &self.sources[source];
            format!("{}:{}", source.path.display(), locate::place(&source.text, offset).0)
        });
        place.unwrap_or_default()
    }

    /// A number of something.
    pub(super) fn size(&mut self, key: &Key<i64>, range: RangeInclusive<i64>, unit: &str) -> usize {
        if !range.contains(&key.value) {
            let (least, most) = range.into_inner();
            self.reject(
                key,
                format!("{} is out of range: from {least} to {most} {unit}", key.value),
            );
        }
        usize::try_from(key.value).unwrap_or_default()
    }

    /// A time.
    pub(super) fn millis(&mut self, key: &Key<i64>, range: RangeInclusive<i64>) -> Duration {
        Duration::from_millis(self.size(key, range, "milliseconds") as u64)
    }

    /// Notes a problem if `key` is larger than `bound`. It is shown where a file sets one of them.
    pub(super) fn not_above(&mut self, key: &Key<i64>, bound: &Key<i64>) {
        if key.value > bound.value {
            let text = format!(
                "{} is {}, which is more than {} ({})",
                key.name, key.value, bound.name, bound.value
            );
            self.reject(if key.is_set() { key } else { bound }, text);
        }
    }

    /// A number that need not be whole.
    pub(super) fn number(&mut self, key: &Key<f64>, range: RangeInclusive<f64>) -> f64 {
        if !range.contains(&key.value) {
            let (least, most) = range.into_inner();
            let text = format!("{} is out of range: from {least} to {most}", key.value);
            self.reject(key, text);
        }
        key.value
    }

    /// One of some words.
    pub(super) fn one_of<T: Copy, const N: usize>(
        &mut self,
        key: &Key<String>,
        words: [(&str, T); N],
    ) -> T {
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == key.value) {
            return *value;
        }
        let known = words.map(|(word, _)| format!("{word:?}")).join(", ");
        self.reject(key, format!("{:?} is none of {known}", key.value));
        // Stands in until `finish` refuses the whole.
        words[0].1
    }

    /// An absolute path; none if it is empty.
    pub(super) fn path(&mut self, key: &Key<String>) -> Option<PathBuf> {
        match path(&key.value) {
            Ok(path) => path,
            Err(problem) => {
                self.reject(key, problem);
                Some(PathBuf::from(&key.value))
            }
        }
    }

    /// The path of a Unix socket; none if it is empty.
    pub(super) fn socket_path(&mut self, key: &Key<String>) -> Option<PathBuf> {
        if key.value.len() > MAX_SOCKET_PATH {
            self.reject(
                key,
                format!(
                    "the path has {} bytes; the path of a socket has at most {MAX_SOCKET_PATH}",
                    key.value.len()
                ),
            );
        }
        self.path(key)
    }

    /// A loopback address with a port; none if it is empty.
    pub(super) fn loopback(&mut self, key: &Key<String>) -> Option<SocketAddr> {
        let address = self.address(key)?;
        if address.ip().is_loopback() {
            return Some(address);
        }
        let text = format!(
            "{} is not a loopback address; only 127.0.0.1 and [::1] are served without TLS, others by \
             tls.listen",
            address.ip()
        );
        self.reject(key, text);
        None
    }

    /// An address with a port; none if it is empty.
    pub(super) fn address(&mut self, key: &Key<String>) -> Option<SocketAddr> {
        if key.value.is_empty() {
            return None;
        }
        let address = key.value.parse::<SocketAddr>();
        if let Err(error) = &address {
            let text = format!("{:?}: {error}; write it as \"127.0.0.1:50051\"", key.value);
            self.reject(key, text);
        }
        address.ok()
    }
}

/// An absolute path; none if it is empty.
///
/// # Errors
/// What is wrong with it.
pub(super) fn path(text: &str) -> Result<Option<PathBuf>, String> {
    match text {
        "" => Ok(None),
        path if path.starts_with('/') && !path.contains('\0') => Ok(Some(PathBuf::from(path))),
        path => Err(format!("{path:?} is no absolute path; it must begin with /")),
    }
}
