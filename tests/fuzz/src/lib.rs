//! The targets as libFuzzer takes them: a function that is given one input after the other.

pub mod targets;

use std::cell::RefCell;
use std::mem::ManuallyDrop;

use targets::{ALL, Target};

thread_local! {
    // Not dropped: where a thread ends, a runtime can no longer be.
    static TARGET: RefCell<Option<ManuallyDrop<Target>>> = const { RefCell::new(None) };
}

/// Tries `input` on the target with this name, the same one each time.
///
/// # Panics
/// If something is wrong: that is what is looked for.
pub fn feed(name: &str, input: &[u8]) {
    TARGET.with_borrow_mut(|target| {
        let target = target.get_or_insert_with(|| {
            let found = ALL.iter().find(|(known, _)| *known == name);
            let (_, make) = found.expect("there is a target with this name");
            ManuallyDrop::new(make())
        });
        target(input);
    });
}
