//! What can be said of the share of bad calls, however often one looks. It knows no calls, only how many
//! there were and how many of them were bad.
//!
//! # The test
//!
//! Whoever compares two shares again and again with a test that is made for one look finds a difference
//! sooner or later, whether there is one or not. So the bounds here are those of a *confidence sequence*:
//! for calls of which each is bad with the same probability `p`, independently of the others,
//!
//! > P(there is any number of calls after which `p` lies outside of the bounds) ≤ `alpha`
//!
//! however long they are watched and whenever one stops. They come from the likelihood ratio of a mixture
//! of all shares, weighted by the Beta(½, ½) distribution, against one share `p`: with `b` bad and `g`
//! good calls
//!
//! > M(p) = B(b + ½, g + ½) / B(½, ½) / (p^b (1 − p)^g)
//!
//! For the true `p` this is a martingale that begins at 1 and is never negative, so that by Ville's
//! inequality it ever reaches 1/`alpha` with a probability of at most `alpha`. The bounds enclose all `p`
//! with M(p) < 1/`alpha`.
//!
//! H. Robbins, "Statistical methods related to the law of the iterated logarithm", Annals of Mathematical
//! Statistics 41 (1970); S. R. Howard, A. Ramdas, J. McAuliffe, J. Sekhon, "Time-uniform, nonparametric,
//! nonasymptotic confidence sequences", Annals of Statistics 49 (2021).

/// How often an interval is halved for a bound: to less than one in 10^12.
const HALVINGS: u32 = 40;

/// How many calls there were, and how many of them were bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub calls: u64,
    /// The bad ones.
    pub bad: u64,
}

impl Tally {
    /// Adds `calls` calls, all of them `bad` or none.
    pub fn add(&mut self, calls: u64, bad: bool) {
        self.calls = self.calls.saturating_add(calls);
        if bad {
            self.bad = self.bad.saturating_add(calls);
        }
    }

    /// The share of bad calls that was seen; 0 if there was no call.
    #[must_use]
    pub fn share(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.bad as f64 / self.calls as f64 }
    }

    /// The least share of bad calls that they can really have. That this is ever too much, however often
    /// one looks, has a probability of `alpha` at most.
    #[must_use]
    pub fn at_least(&self, alpha: f64) -> f64 {
        if self.bad == 0 { 0.0 } else { self.bound(alpha, 0.0) }
    }

    /// The greatest share; that this is ever too little has a probability of `alpha` at most.
    #[must_use]
    pub fn at_most(&self, alpha: f64) -> f64 {
        if self.bad == self.calls { 1.0 } else { self.bound(alpha, 1.0) }
    }

    /// Where M(p) crosses 1/`alpha` between what was seen and `end`, which lies beyond it.
    fn bound(&self, alpha: f64, end: f64) -> f64 {
        let (bad, good) = (self.bad as f64, (self.calls - self.bad) as f64);
        let mixture = ln_beta(bad + 0.5, good + 0.5) - ln_beta(0.5, 0.5);
        let power = |count: f64, share: f64| if count == 0.0 { 0.0 } else { count * share.ln() };
        let limit = -alpha.ln();
        let is_within = |share: f64| mixture - power(bad, share) - power(good, 1.0 - share) < limit;
        let (mut within, mut beyond) = (self.share(), end);
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(within, beyond);
            if is_within(middle) { within = middle } else { beyond = middle }
        }
        // The side that claims less.
        beyond
    }
}

/// The logarithm of the beta function.
fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// The logarithm of the gamma function for numbers above 0, by Stirling's series, which is exact enough
/// from 10 on; below, by the function's own recurrence.
fn ln_gamma(mut x: f64) -> f64 {
    let mut below = 0.0;
    while x < 10.0 {
        below += x.ln();
        x += 1.0;
    }
    let square = x * x;
    let series = (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / (1260.0 * square)) / square) / x;
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - below
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tally(calls: u64, bad: u64) -> Tally {
        Tally { calls, bad }
    }

    #[test]
    fn the_gamma_function_is_that_of_tables() {
        for (x, expected) in [
            (0.5, 0.572_364_942_924_700_1),
            (1.0, 0.0),
            (5.0, 3.178_053_830_347_946),
            (100.5, 361.435_540_467_777_6),
        ] {
            assert!((ln_gamma(x) - expected).abs() < 1e-9, "{x}: {}", ln_gamma(x));
        }
    }

    #[test]
    fn nothing_seen_says_nothing_and_much_seen_says_much() {
        assert_eq!((tally(0, 0).at_least(0.01), tally(0, 0).at_most(0.01)), (0.0, 1.0));
        let many = tally(100_000, 10_000);
        assert!(many.at_least(0.01) > 0.095 && many.at_most(0.01) < 0.105, "{many:?}");
        let all = tally(10, 10);
        assert!(all.at_least(0.005) > 0.4 && all.at_most(0.005) == 1.0, "{}", all.at_least(0.005));
    }

    /// A small generator of its own, so that the runs below are the same ones every time.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, share: f64) -> bool {
            // SplitMix64.
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = self.0;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^= word >> 31;
            ((word >> 11) as f64) / ((1_u64 << 53) as f64) < share
        }
    }

    /// The guarantee: over a whole run, looked at after every few calls, the bounds are ever wrong in a
    /// share of the runs that is no more than alpha.
    #[test]
    fn bounds_that_are_looked_at_all_the_time_are_ever_wrong_as_seldom_as_promised() {
        const RUNS: u64 = 400;
        let alpha = 0.05;
        for (number, share) in [(1, 0.01), (2, 0.2), (3, 0.5)] {
            let wrong = (0..RUNS).filter(|run| {
                let mut chance = Chance(*run << 20 | number);
                let mut seen = Tally::default();
                (0..2000).any(|call| {
                    seen.add(1, chance.below(share));
                    call % 5 == 0 && (seen.at_least(alpha) > share || seen.at_most(alpha) < share)
                })
            });
            let wrong = wrong.count() as f64 / RUNS as f64;
            assert!(wrong <= alpha, "{share}: wrong in {wrong} of the runs");
        }
    }

    proptest! {
        #[test]
        fn bounds_enclose_what_was_seen_and_tighten(calls in 1_u64..1_000_000, part in 0_u64..=1000) {
            let bad = calls * part / 1000;
            let seen = tally(calls, bad);
            let (least, most) = (seen.at_least(0.01), seen.at_most(0.01));
            prop_assert!((0.0..=1.0).contains(&least) && (0.0..=1.0).contains(&most));
            prop_assert!(least <= seen.share() && seen.share() <= most);
            // Who wants to be wrong more seldom can say less.
            prop_assert!(seen.at_least(0.0001) <= least && most <= seen.at_most(0.0001));
            let more = tally(calls * 4, bad * 4);
            prop_assert!(more.at_most(0.01) - more.at_least(0.01) <= most - least + 1e-9);
        }
    }
}
