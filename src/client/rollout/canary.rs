//! Which sessions and clients take gRPC at stage `canary`: a stable choice by a hash, which the service
//! makes the same way. Nothing is asked here.

use ring::digest::{Context, SHA256};

/// What a choice is made among.
pub(crate) const WHOLE: u32 = 10_000;

/// Where a session or client stands, from 0 to 9,999: it takes gRPC if that is less than the share.
pub(crate) fn place(salt: &str, id: &str) -> u32 {
    let mut hash = Context::new(&SHA256);
    hash.update(salt.as_bytes());
    hash.update(&[0]);
    hash.update(id.as_bytes());
    let digest = hash.finish();
    // The remainder by the whole can be taken byte by byte.
    let bytes = digest.as_ref().iter().take(8);
    bytes.fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % WHOLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_the_one_that_everybody_makes() {
        let vectors = include_str!("../../../tests/data/canary.txt");
        let mut tried = 0;
        for line in vectors.lines().filter(|line| !line.starts_with('#')) {
            let [salt, id, expected] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            assert_eq!(place(salt, id).to_string(), expected, "{line}");
            tried += 1;
        }
        assert!(tried > 10, "{tried}");
    }

    #[test]
    fn a_share_is_nearly_that_share_of_the_sessions_and_a_larger_one_keeps_them() {
        let below = |share: u32| {
            (0..10_000)
                .map(|number| place("salt", &format!("session {number}")))
                .filter(|place| *place < share)
                .count()
        };
        assert!((400..600).contains(&below(500)), "{}", below(500));
        assert!((2300..2700).contains(&below(2500)), "{}", below(2500));
        assert_eq!((below(0), below(WHOLE)), (0, 10_000));
    }
}
