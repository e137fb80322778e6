//! Who may run what: rules on the parsed arguments and on the file that is really executed, never on the
//! beginning of a text.
//!
//! Programs that run another one are looked through, so that the rules see that one as well, and the
//! strictest answer counts. A text for an interpreter is refused, since nobody can tell what it does, and
//! sent to the operation that bears the higher risk. This keeps honest callers to the rules; what a
//! program can touch, whatever it is, is bounded by its confinement and by its user's rights.

mod layers;
mod pattern;
mod rule;
mod texts;
mod who;
mod wrappers;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::agents::WorkerSettings;
use crate::call::Context;
use crate::error::{Error, ErrorKind};
use crate::process::{self, Directory, Spec};

use layers::Layer;
use who::Who;

pub use rule::{Decision, Rule};

/// The longest preview, in characters.
const PREVIEW_MAX: usize = 400;

/// What a call says about its program besides the program itself.
#[derive(Clone, Copy)]
pub(super) struct Program {
    /// True if the operation is one for texts, which the program is given.
    pub(super) is_text: bool,
    /// True if somebody gives the program an input.
    pub(super) reads_input: bool,
}

/// Judges a program: lets it run, or says why not. It looks at files and may ask for users and groups, so
/// that it does not belong on the thread of all calls.
///
/// # Errors
/// `AccessDenied` if a rule forbids it, or if it is a text for an interpreter; `ApprovalRequired` if
/// somebody must approve it first.
pub(super) fn judge(
    settings: Arc<WorkerSettings>,
    context: &Context,
    program: Program,
) -> impl FnOnce(&Spec) -> Result<(), Error> + Send + use<> {
    let is_approved = context.approved.is_some();
    move |spec| {
        let argv = spec.argv.iter().map(|argument| argument.to_string_lossy().into_owned());
        let question = Question {
            argv: argv.collect(),
            path: process::search_path(spec).to_string_lossy().into_owned(),
            directory: match &spec.directory {
                Directory::Path(path) | Directory::Beneath(_, path) => path.clone(),
            },
            program,
            is_approved,
        };
        question.answer(&settings.commands.rules)
    }
}

struct Question {
    argv: Vec<String>,
    path: String,
    directory: PathBuf,
    program: Program,
    is_approved: bool,
}

impl Question {
    fn answer(&self, rules: &[Rule]) -> Result<(), Error> {
        let who = Who::here();
        let mut must_ask = None;
        for (depth, layer) in
            layers::of(&self.argv, &self.path, &self.directory)?.iter().enumerate()
        {
            let rule = rules.iter().enumerate().find(|(_, rule)| rule.matches(layer, who));
            match rule.map(|(_, rule)| rule.decision) {
                Some(Decision::Deny) => return Err(denied(layer, rule)),
                Some(Decision::Ask) => must_ask = must_ask.or(rule),
                Some(Decision::Allow) | None => {}
            }
            let is_asked_for = self.program.is_text && depth == 0;
            let is_named = rule.is_some_and(|(_, rule)| rule.program.is_some());
            if !is_asked_for
                && !is_named
                && let Some(how) = texts::text(layer, self.program.reads_input)
            {
                return Err(is_text(layer, how));
            }
        }
        match must_ask {
            Some((_, rule)) if !self.is_approved => {
                let mut preview = self.preview(who);
                if !rule.reason.is_empty() {
                    preview = format!("{preview} ({})", rule.reason);
                }
                Err(Error::approval_required(preview))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What would run, where and as whom, in one line.
    fn preview(&self, who: &Who) -> String {
        let argv: Vec<String> = self.argv.iter().map(|argument| format!("{argument:?}")).collect();
        let mut argv = argv.join(" ");
        if let Some((end, _)) = argv.char_indices().nth(PREVIEW_MAX) {
            argv.truncate(end);
            argv.push('…');
        }
        format!("run {argv} in {:?} as {who}", self.directory)
    }
}

fn denied(layer: &Layer, rule: Option<(usize, &Rule)>) -> Error {
    let (index, reason) =
        rule.map(|(index, rule)| (index, rule.reason.as_str())).unwrap_or_default();
    let mut text = format!("{} may not be run", layer.shown());
    if !reason.is_empty() {
        text = format!("{text}: {reason}");
    }
    Error::new(ErrorKind::AccessDenied, text)
        .with_fact("program", layer.shown())
        .with_fact("rule", format!("commands.rule {}", index + 1))
}

fn is_text(layer: &Layer, how: &str) -> Error {
    let text = format!(
        "argv: {} would run a text ({how}), which nobody can tell what it does; ExecShell takes texts",
        layer.shown()
    );
    Error::new(ErrorKind::AccessDenied, text)
        .with_fact("field", "argv")
        .with_fact("operation", "ExecShell")
}

/// The file that a path leads to when all links are followed; itself if it leads nowhere.
fn followed(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
