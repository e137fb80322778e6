//! What is said beside a call on standard error: how far it is, on a line that is overwritten where
//! that is a terminal, and remarks. Errors are told by `problem.rs`.

use std::io::{self, IsTerminal as _, Write as _};

use super::output::clean;
use crate::proto::opdbus::v1::{Task, TaskProgress};

/// Standard error while a call runs. That it cannot be written is no reason to stop the call.
#[derive(Debug)]
pub(super) struct Notes {
    terminal: bool,
    /// True while the last line is the progress.
    shown: bool,
}

impl Notes {
    pub(super) fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), shown: false }
    }

    /// Shows how far a task is, if the whole is known.
    pub(super) fn progress(&mut self, task: &Task) {
        if let Some(text) = task.progress.as_ref().and_then(progress)
            && self.terminal
        {
            let text = format!("\r\u{1b}[K{}.{}: {text}", task.agent, clean(&task.operation));
            let mut stderr = io::stderr().lock();
            drop(stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()));
            self.shown = true;
        }
    }

    /// Takes the progress away, so that something else can be written.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            drop(io::stderr().lock().write_all(b"\r\x1b[K"));
        }
    }

    /// Says something on a line of its own.
    pub(super) fn say(&mut self, text: &str) {
        self.clear();
        drop(writeln!(io::stderr().lock(), "{}", clean(text)));
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        self.clear();
    }
}

/// How far something is, for people; `None` if the whole is not known.
pub(super) fn progress(progress: &TaskProgress) -> Option<String> {
    let TaskProgress { done, total, unit } = progress;
    let share = u128::from(*done) * 100;
    let share = share.checked_div(u128::from(*total))?.min(100);
    Some(format!("{share} % ({done} of {total} {unit})").replace(" )", ")"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_needs_a_whole() {
        let shown = |done, total, unit: &str| {
            progress(&TaskProgress { done, total, unit: unit.to_owned() })
        };
        assert_eq!(shown(450, 1000, "lines").as_deref(), Some("45 % (450 of 1000 lines)"));
        assert_eq!(shown(7, 5, "").as_deref(), Some("100 % (7 of 5)"));
        assert_eq!(shown(u64::MAX, u64::MAX, "").map(|text| text.starts_with("100 %")), Some(true));
        assert_eq!(shown(3, 0, "lines"), None);
    }
}
