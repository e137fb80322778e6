//! Gives every input of `tests/fuzz/corpus` to its fuzz target: what was found once stays found, and a target
//! that no longer builds or starts is seen without fuzzing.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

use targets::{ALL, THREADS};

/// The most that the inputs may take in the repository, in bytes.
const MAX_BYTES: u64 = 200_000;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

/// The names in a folder, without what follows a dot.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// The inputs of a target, sorted.
fn inputs(target: &str) -> Vec<PathBuf> {
    let folder = folder().join("corpus").join(target);
    let mut inputs: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    inputs
}

#[test]
fn every_target_has_a_program_and_inputs() {
    let known: BTreeSet<String> = ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&folder().join("corpus")), known);
    assert_eq!(names(&folder().join("fuzz_targets")), known);
    let mut bytes = 0;
    for (target, _) in ALL {
        let inputs = inputs(target);
        assert!(inputs.len() >= 5, "{target} has only {} inputs", inputs.len());
        bytes += inputs.iter().map(|input| input.metadata().unwrap().len()).sum::<u64>();
    }
    assert!(bytes <= MAX_BYTES, "the inputs have {bytes} bytes");
}

#[test]
fn every_input_is_survived() {
    // Also what panics in a task, where nobody else sees it.
    let panics = Arc::new(Mutex::new(Vec::new()));
    let own = thread::current().id();
    let (heard, before) = (Arc::clone(&panics), take_hook());
    set_hook(Box::new(move |panic| {
        let here = thread::current();
        if here.id() == own || here.name() == Some(THREADS) {
            heard.lock().unwrap().push(panic.to_string());
        }
        before(panic);
    }));
    for (name, make) in ALL {
        let mut target = make();
        for input in inputs(name) {
            target(&fs::read(&input).unwrap());
            let panics = panics.lock().unwrap();
            assert!(panics.is_empty(), "{}: {panics:?}", input.display());
        }
    }
}
