//! How many tokens a text takes: an estimate, because each model cuts texts in its own way. No model's
//! vocabulary is here.
//!
//! The estimate follows what byte-pair vocabularies of today have in common: a short word with the
//! space before it is one token, long words and numbers are cut, a run of the same sign or of blanks is
//! one token, and letters outside ASCII take about one token for two of them, ideographs one each. On
//! English prose and source code it errs on the high side, so that what it says fits, fits.

/// What stands around a message: its role and its delimiters.
pub(in super::super) const MESSAGE: u64 = 4;

/// Letters of a word beyond which it is cut.
const WORD: u64 = 6;

/// Digits that share a token.
const DIGITS: u64 = 3;

/// Equal signs or blanks that share a token.
const RUN: u64 = 8;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Digit,
    Space,
    Foreign,
    Ideograph,
    Sign(char),
}

/// The tokens of an item with this text.
pub(in super::super) fn of_message(text: &str) -> u64 {
    estimate(text) + MESSAGE
}

/// The tokens of a text.
pub(in super::super) fn estimate(text: &str) -> u64 {
    let mut tokens = 0;
    let mut run: Option<(Class, u64)> = None;
    for character in text.chars() {
        let class = classify(character);
        match &mut run {
            Some((open, length)) if *open == class => *length += 1,
            _ => {
                tokens += run.map_or(0, cost);
                run = Some((class, 1));
            }
        }
    }
    tokens + run.map_or(0, cost)
}

fn cost((class, length): (Class, u64)) -> u64 {
    match class {
        Class::Letter => length.div_ceil(WORD),
        Class::Digit => length.div_ceil(DIGITS),
        // One space belongs to the word after it.
        Class::Space if length == 1 => 0,
        Class::Space | Class::Sign(_) => length.div_ceil(RUN),
        Class::Foreign => length.div_ceil(2),
        Class::Ideograph => length,
    }
}

fn classify(character: char) -> Class {
    match character {
        'a'..='z' | 'A'..='Z' => Class::Letter,
        '0'..='9' => Class::Digit,
        ' ' => Class::Space,
        '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' => {
            Class::Ideograph
        }
        '\u{20000}'.. => Class::Ideograph,
        other if other.is_alphanumeric() => Class::Foreign,
        other => Class::Sign(other),
    }
}
