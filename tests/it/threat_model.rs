//! Holds the threat model to its tests: every claim of SECURITY.md names at least one, and each that is
//! named exists. Whether a test shows what is claimed is for readers.

use std::fs;
use std::path::Path;

/// Fewer than this mean that the text is read wrongly.
const CLAIMS_MIN: usize = 25;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The tests in a text, as `tests/it/shares.rs::name` in backticks.
fn named(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|quoted| quoted.split_once("::")).collect()
}

/// True if a file has the test: a function of Rust under its attribute, or a check of the system tests
/// with this text.
fn has(file: &str, test: &str) -> bool {
    let text = read(file);
    if !file.ends_with(".rs") {
        return text.contains(&format!("'{test}'")) || text.contains(&format!("\"{test}\""));
    }
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_it = |line: &&str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ").and_then(|line| line.strip_prefix(test)) == Some("() {")
    };
    let Some(at) = lines.iter().position(is_it) else { return false };
    let above = lines[..at].iter().rev().take_while(|line| !line.is_empty() && **line != "}");
    above.into_iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
}

#[test]
fn every_claim_of_the_threat_model_names_tests_that_exist() {
    let text = read("SECURITY.md");
    let (_, claims) = text.split_once("\n## Claims\n").expect("there are claims");
    let (claims, _) = claims.split_once("\n## Out of scope\n").expect("they end");
    let claims: Vec<&str> = claims.split("\n* ").skip(1).collect();
    assert!(claims.len() >= CLAIMS_MIN, "only {} claims were found", claims.len());
    let without: Vec<_> = claims.iter().filter(|claim| named(claim).is_empty()).collect();
    assert!(without.is_empty(), "without a test: {without:#?}");
    let missing: Vec<_> =
        named(&text).into_iter().filter(|(file, test)| !has(file, test)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}

#[test]
fn a_test_is_told_from_what_is_none() {
    let file = "tests/it/threat_model.rs";
    assert!(has(file, "a_test_is_told_from_what_is_none"));
    assert!(!has(file, "a_test_is_told"));
    assert!(!has(file, "named"));
}
