//! Any text as the file of the configuration: it is refused with a place that is in it, or it holds, and
//! then what `--check-config` prints of it says the same.

use op_dbus::config::{self, Problems};

/// The input is the text.
pub(super) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    // The same keys as a text of its own, as the migration's service takes them.
    if let Err(problems) = config::rollout(text) {
        check(&problems, text);
    }
    let loaded = match config::from_text(text) {
        Ok(loaded) => loaded,
        Err(problems) => return check(&problems, text),
    };
    // Tokens are printed without their digests, which nobody needs to see.
    let has_tokens = |name: &str, value: &str| name == "grpc.token" && value != "[]";
    if loaded.entries.iter().any(|entry| has_tokens(entry.name, &entry.value)) {
        return;
    }
    let printed = loaded.annotated();
    let again = config::from_text(&printed)
        .unwrap_or_else(|problems| panic!("what holds is refused: {problems}\n{printed}"));
    let changed = loaded.changed(&again);
    assert!(changed.is_empty(), "printed and read, it says something else: {changed:?}\n{printed}");
}

/// Each problem says something, of a place that there is.
fn check(problems: &Problems, text: &str) {
    assert!(!problems.0.is_empty(), "refused without a problem");
    // What is wrong at the end stands in a line that may have nothing yet.
    let lines = text.split('\n').count() + 1;
    for problem in &problems.0 {
        assert!(!problem.text.is_empty(), "{problem:?}");
        assert!(
            problem.place.is_none_or(|(line, _)| line <= lines),
            "{problem:?} of {lines} lines"
        );
    }
}
