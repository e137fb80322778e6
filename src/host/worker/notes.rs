//! What a worker says of a call while it runs, told to whoever wants to hear it in this process.

use std::sync::Arc;

use bytes::Bytes;

use crate::call::Reporter;
use crate::contract::{InputWatch, decode};
use crate::proto::opdbus::worker::v1::{Note, note};
use crate::wire::{Hear, Malformed};

/// The longest name of what is counted, in bytes.
const UNIT_BYTES: usize = 64;

/// Passes a call's notes on to those who hear it.
pub(super) fn pass_on(reporter: Arc<dyn Reporter>, watch: Option<Arc<dyn InputWatch>>) -> Hear {
    Box::new(move |bytes: Bytes| {
        let broken = |problem: String| Malformed::Broken(format!("a wrong note: {problem}"));
        let note: Note = decode(bytes).map_err(|error| broken(error.to_string()))?;
        match note.note {
            Some(note::Note::Progress(progress)) => {
                if progress.unit.len() > UNIT_BYTES || progress.unit.contains(char::is_control) {
                    return Err(broken(format!("the unit must have {UNIT_BYTES} bytes at most")));
                }
                reporter.progress(progress.done, progress.total, &progress.unit);
            }
            Some(note::Note::WaitsForInput(waits)) => {
                if let Some(watch) = &watch {
                    watch.waits_for_input(waits);
                }
            }
            None => return Err(broken("it says nothing".to_owned())),
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::contract::encode;
    use crate::proto::opdbus::worker::v1::Progress;

    #[derive(Debug, Default)]
    struct Heard(Mutex<Vec<(u64, u64, String)>>);

    impl Reporter for Heard {
        fn progress(&self, done: u64, total: u64, unit: &str) {
            self.0.lock().unwrap().push((done, total, unit.to_owned()));
        }
    }

    #[test]
    fn what_is_no_note_breaks_the_call() {
        let heard = Arc::new(Heard::default());
        let mut hear = pass_on(Arc::clone(&heard) as _, None);
        let progress = |unit: &str| {
            let progress = Progress { done: 1, total: 2, unit: unit.to_owned() };
            encode(&Note { note: Some(note::Note::Progress(progress)) }).unwrap()
        };
        for wrong in [Bytes::new(), "garbage".into(), progress(&"x".repeat(65)), progress("a\0")] {
            let broken = hear(wrong.clone());
            assert!(matches!(broken, Err(Malformed::Broken(_))), "{wrong:?}");
        }
        assert!(heard.0.lock().unwrap().is_empty());
        hear(progress("files")).unwrap();
        // Nobody wants to hear of this one.
        hear(encode(&Note { note: Some(note::Note::WaitsForInput(true)) }).unwrap()).unwrap();
        assert_eq!(*heard.0.lock().unwrap(), [(1, 2, "files".to_owned())]);
    }
}
