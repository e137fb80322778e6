//! How alike two texts are: the cosine of how often each sequence of four characters occurs in them.
//! It knows nothing of steps.

/// Texts that are more alike than this say nearly the same.
pub(super) const THRESHOLD: f64 = 0.9;

/// How many characters a sequence has.
const LENGTH: usize = 4;

/// The size of a sketch: enough that its estimate is off by 0.1 practically never.
const SKETCH: usize = 256;

/// How far below the threshold an estimate may be for the exact figure to be computed.
const MARGIN: f32 = 0.1;

/// How many earlier texts are compared exactly for each one, those first whose estimate is highest.
const EXACT: usize = 8;

/// What is compared of a text.
pub(super) struct Profile {
    /// Each sequence's hash and how often it occurs, sorted by hash.
    counts: Vec<(u64, f64)>,
    /// The length of the vector of counts.
    norm: f64,
    /// A random projection of the vector, of length 1.
    sketch: Vec<f32>,
}

impl Profile {
    /// The profile of a text. Case and the amount of white space make no difference.
    pub(super) fn new(text: &str) -> Self {
        let mut sequences = hashes(text);
        sequences.sort_unstable();
        let counts: Vec<(u64, f64)> = sequences
            .chunk_by(|a, b| a == b)
            .map(|same| (same[0], same.iter().map(|_| 1.0).sum()))
            .collect();
        let norm = counts.iter().map(|(_, count)| count * count).sum::<f64>().sqrt();
        let sketch = sketch(&counts);
        Self { counts, norm, sketch }
    }

    /// From 0, nothing in common, to 1, the same sequences in the same proportions.
    pub(super) fn similarity(&self, other: &Self) -> f64 {
        let (mut left, mut right) = (self.counts.as_slice(), other.counts.as_slice());
        let mut dot = 0.0;
        while let (Some((a, a_count)), Some((b, b_count))) = (left.first(), right.first()) {
            if a == b {
                dot += a_count * b_count;
            }
            if a <= b {
                left = &left[1..];
            }
            if b <= a {
                right = &right[1..];
            }
        }
        let norms = self.norm * other.norm;
        if norms == 0.0 { 0.0 } else { (dot / norms).min(1.0) }
    }

    fn estimate(&self, other: &Self) -> f32 {
        self.sketch.iter().zip(&other.sketch).map(|(a, b)| a * b).sum()
    }
}

/// Which of `others` says nearly the same as `profile`, and how alike they are.
pub(super) fn closest<'a, K: Copy>(
    profile: &Profile,
    others: impl Iterator<Item = (K, &'a Profile)>,
) -> Option<(K, f64)> {
    #[expect(clippy::cast_possible_truncation, reason = "an estimate needs no more digits")]
    let least = THRESHOLD as f32 - MARGIN;
    let mut likely: Vec<(f32, K, &Profile)> = others
        .map(|(key, other)| (profile.estimate(other), key, other))
        .filter(|(estimate, ..)| *estimate >= least)
        .collect();
    likely.sort_by(|a, b| b.0.total_cmp(&a.0));
    likely
        .into_iter()
        .take(EXACT)
        .map(|(_, key, other)| (key, profile.similarity(other)))
        .filter(|(_, similarity)| *similarity > THRESHOLD)
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

/// The hash of each sequence of the text, which is framed by spaces so that its ends count too.
fn hashes(text: &str) -> Vec<u64> {
    let mut characters = vec![' '];
    for word in text.split_whitespace() {
        characters.extend(word.chars().flat_map(char::to_lowercase));
        characters.push(' ');
    }
    characters
        .windows(LENGTH)
        .map(|window| {
            let packed = window
                .iter()
                .fold(0_u64, |packed, character| packed.rotate_left(16) ^ u64::from(*character));
            mix(packed)
        })
        .collect()
}

/// Spreads what differs in a number over all of its bits.
fn mix(number: u64) -> u64 {
    let hash = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Adds each count to one place of the sketch, or takes it away, as its hash says: what differs
/// cancels out on average, so that long texts do not look alike by chance.
#[expect(clippy::cast_possible_truncation, reason = "an estimate needs no more digits")]
fn sketch(counts: &[(u64, f64)]) -> Vec<f32> {
    let mut sketch = vec![0.0_f64; SKETCH];
    for (hash, count) in counts {
        let place = usize::try_from(hash >> 32).unwrap_or(0) % SKETCH;
        sketch[place] += if hash & 1 == 0 { *count } else { -count };
    }
    let norm = sketch.iter().map(|part| part * part).sum::<f64>().sqrt();
    sketch.iter().map(|part| if norm == 0.0 { 0.0 } else { (part / norm) as f32 }).collect()
}

#[cfg(test)]
mod tests {
    use super::{Profile, THRESHOLD, closest, mix};

    fn similarity(a: &str, b: &str) -> f64 {
        Profile::new(a).similarity(&Profile::new(b))
    }

    #[test]
    fn the_same_words_are_the_same_whatever_case_and_space() {
        let same = similarity("The linker is\n slow.", "the LINKER  is slow.");
        assert!((same - 1.0).abs() < 1e-9, "{same}");
        assert!(similarity("abcd", "wxyz") < 1e-9);
        assert!(similarity("", "anything").abs() < 1e-9);
    }

    #[test]
    fn a_changed_word_in_a_sentence_is_nearly_the_same_and_another_sentence_is_not() {
        let text = "The build is slow because the linker reads all object files from a network disk, \
                    so a local copy of the object files should make it fast";
        let again = text.replace("should make", "would make");
        let other = "The tests are slow because each of them starts a database and waits until it is \
                     ready, so one database for all of them should do";
        assert!(similarity(text, &again) > THRESHOLD);
        assert!(similarity(text, other) < 0.6);
    }

    #[test]
    fn the_closest_is_found_among_many_long_ones() {
        let long = |seed: u64| -> String {
            (0..400).map(|word| format!("w{} ", mix(seed * 1000 + word) % 5000)).collect()
        };
        let profiles: Vec<Profile> = (0..200).map(|seed| Profile::new(&long(seed))).collect();
        let near = Profile::new(&format!("{} and a little more", long(42)));
        let found = closest(&near, profiles.iter().enumerate()).map(|(index, _)| index);
        assert_eq!(found, Some(42));
        let far = Profile::new(&long(1000));
        assert!(closest(&far, profiles.iter().enumerate()).is_none());
    }
}
