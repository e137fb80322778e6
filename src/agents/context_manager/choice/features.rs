//! What makes a sentence worth keeping: decisions, numbers, paths, errors, code. The words it knows are
//! English.

use super::rank::words;
use crate::proto::opdbus::agent::context_manager::v1::Feature;

/// Sorted, as the other lists are.
const DECISIONS: [&str; 17] = [
    "agreed",
    "always",
    "chose",
    "chosen",
    "conclusion",
    "decide",
    "decided",
    "decision",
    "must",
    "never",
    "prefer",
    "require",
    "required",
    "requirement",
    "shall",
    "should",
    "todo",
];

/// The same in two words; an apostrophe ends a word.
const DECISION_PAIRS: [(&str, &str); 9] = [
    ("do", "not"),
    ("don", "t"),
    ("i", "ll"),
    ("i", "will"),
    ("instead", "of"),
    ("let", "s"),
    ("need", "to"),
    ("we", "ll"),
    ("we", "will"),
];

const ERRORS: [&str; 18] = [
    "abort",
    "aborted",
    "cannot",
    "crash",
    "crashed",
    "denied",
    "error",
    "errors",
    "exception",
    "fail",
    "failed",
    "fails",
    "failure",
    "fatal",
    "panic",
    "panicked",
    "timeout",
    "traceback",
];

/// A set of features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Features(u8);

impl Features {
    const DECISION: Self = Self(1);
    const NUMBER: Self = Self(1 << 1);
    const PATH: Self = Self(1 << 2);
    const ERROR: Self = Self(1 << 3);
    pub(super) const CODE: Self = Self(1 << 4);

    /// How much each adds to a score between 0 and 1.
    const BOOSTS: [(Self, f64); 5] = [
        (Self::DECISION, 0.5),
        (Self::ERROR, 0.4),
        (Self::PATH, 0.25),
        (Self::CODE, 0.2),
        (Self::NUMBER, 0.15),
    ];

    /// The set with one feature; `None` if it has no name.
    pub(in super::super) fn named(feature: Feature) -> Option<Self> {
        Some(match feature {
            Feature::Unspecified => return None,
            Feature::Decision => Self::DECISION,
            Feature::Number => Self::NUMBER,
            Feature::Path => Self::PATH,
            Feature::Error => Self::ERROR,
            Feature::Code => Self::CODE,
        })
    }

    /// What a text has.
    pub(super) fn of(text: &str) -> Self {
        let mut features = Self::default();
        let mut before = String::new();
        for word in words(text) {
            let word_is = |list: &[&str]| list.binary_search(&word.as_str()).is_ok();
            let pair_is = |(first, second): &(&str, &str)| before == *first && word == *second;
            if word_is(&DECISIONS) || DECISION_PAIRS.iter().any(pair_is) {
                features = features.and(Self::DECISION);
            }
            if word_is(&ERRORS) {
                features = features.and(Self::ERROR);
            }
            before = word;
        }
        if text.bytes().any(|byte| byte.is_ascii_digit()) {
            features = features.and(Self::NUMBER);
        }
        if text.split_whitespace().any(is_path) {
            features = features.and(Self::PATH);
        }
        features
    }

    pub(in super::super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn shares(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// What the features add to a score.
    pub(super) fn boost(self) -> f64 {
        Self::BOOSTS
            .iter()
            .filter(|(feature, _)| self.shares(*feature))
            .map(|(_, boost)| boost)
            .sum()
    }
}

/// True for `src/main.rs`, `/etc/fstab`, `https://example.org` and `std::fs`, not for `and/or`'s slash
/// alone nor a date's.
fn is_path(token: &str) -> bool {
    let is_name = |part: &&str| part.chars().any(char::is_alphabetic);
    token.contains("://")
        || (token.contains("::") && token.split("::").filter(is_name).count() > 1)
        || (token.starts_with('/') && token.split('/').any(|part| is_name(&part)))
        || (token.contains('/')
            && token.split('/').filter(is_name).count() > 1
            && (token.contains('.') || token.matches('/').count() > 1))
}
