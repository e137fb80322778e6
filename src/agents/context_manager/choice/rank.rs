//! Ranks texts by the words of a query (BM25). It keeps no index: contexts are small enough to be read.

use std::collections::HashMap;

const K1: f64 = 1.2;
const B: f64 = 0.75;

/// The words of a text: runs of letters and digits, in lower case.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

/// How well each text matches the query; 0 if no word of the query is in it.
pub(super) fn rank<'a>(query: &str, texts: impl ExactSizeIterator<Item = &'a str>) -> Vec<f64> {
    let mut terms: HashMap<String, usize> = HashMap::new();
    for word in words(query) {
        let next = terms.len();
        terms.entry(word).or_insert(next);
    }
    let count = texts.len();
    let mut found_in = vec![0_u32; terms.len()];
    let mut texts_terms = Vec::with_capacity(count);
    let mut length_sum = 0_u32;
    for text in texts {
        let mut length = 0_u32;
        let mut frequencies = vec![0_u32; terms.len()];
        for word in words(text) {
            length = length.saturating_add(1);
            if let Some(term) = terms.get(&word) {
                frequencies[*term] += 1;
            }
        }
        for (total, frequency) in found_in.iter_mut().zip(&frequencies) {
            *total += u32::from(*frequency > 0);
        }
        length_sum = length_sum.saturating_add(length);
        texts_terms.push((length, frequencies));
    }
    let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let mean = (f64::from(length_sum) / count).max(1.0);
    let weights: Vec<f64> = found_in
        .into_iter()
        .map(|found| {
            let found = f64::from(found);
            (1.0 + (count - found + 0.5) / (found + 0.5)).ln()
        })
        .collect();
    texts_terms
        .into_iter()
        .map(|(length, frequencies)| {
            let norm = K1 * (1.0 - B + B * f64::from(length) / mean);
            let parts = frequencies.into_iter().zip(&weights).map(|(frequency, weight)| {
                let frequency = f64::from(frequency);
                weight * frequency * (K1 + 1.0) / (frequency + norm)
            });
            parts.sum()
        })
        .collect()
}
