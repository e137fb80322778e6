//! How long calls took, in buckets: small in memory and on disk while few of them are in use. It knows
//! no call.

use std::time::Duration;

/// How many buckets there are. The first ends at 4 µs, each further one at √2 times the end of the one
/// before; the last begins at some 190 s and has no end.
pub const BUCKETS: usize = 52;

/// The end of the first bucket is two to this power, in microseconds.
const FIRST_POWER: u32 = 2;

/// The times of calls. Only buckets that are in use take room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram(Vec<(u8, u32)>);

impl Histogram {
    /// Adds a time.
    pub fn add(&mut self, time: Duration) {
        self.add_to(bucket(time), 1);
    }

    /// Adds what another holds.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            self.add_to(*bucket, *count);
        }
    }

    /// How many times it holds.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// The time that this part of all does not exceed (0.99: the 99th percentile), as exact as the
    /// buckets are; `None` if it is empty.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts are far from where a float is inexact"
        )]
        let wanted = (total as f64 * part.clamp(0.0, 1.0)).max(f64::MIN_POSITIVE);
        let mut below = 0.0;
        for (bucket, count) in &self.0 {
            let count = f64::from(*count);
            if below + count >= wanted {
                let (start, end) = bounds(*bucket);
                let inside = (wanted - below) / count;
                return Some(micros(start + (end - start) * inside));
            }
            below += count;
        }
        self.0.last().map(|(bucket, _)| micros(bounds(*bucket).1))
    }

    /// As it is stored: for each bucket its number and its count as a varint.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 3);
        for (bucket, count) in &self.0 {
            bytes.push(*bucket);
            // The same form as a length, which prost offers.
            prost::encode_length_delimiter(*count as usize, &mut bytes).ok();
        }
        bytes
    }

    /// Reads what [`Histogram::encode`] gave. What is no such thing counts as nothing from there on.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> Self {
        let mut read = Self::default();
        while let Some((bucket, rest)) = bytes.split_first() {
            bytes = rest;
            let Ok(count) = prost::decode_length_delimiter(&mut bytes) else { break };
            if usize::from(*bucket) < BUCKETS {
                read.add_to(*bucket, u32::try_from(count).unwrap_or(u32::MAX));
            }
        }
        read
    }

    fn add_to(&mut self, bucket: u8, count: u32) {
        match self.0.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(count),
            Err(at) => self.0.insert(at, (bucket, count)),
        }
    }
}

fn bucket(time: Duration) -> u8 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let power = micros.checked_ilog2().unwrap_or(0);
    if power < FIRST_POWER {
        return 0;
    }
    // Beyond √2 times the power it is in the upper half.
    let upper = u128::from(micros).pow(2) >= 1_u128 << (2 * power + 1);
    let bucket = 1 + 2 * (power - FIRST_POWER) + u32::from(upper);
    u8::try_from(bucket).map_or(LAST, |bucket| bucket.min(LAST))
}

const LAST: u8 = 51;

/// Where a bucket begins and ends, in microseconds.
fn bounds(bucket: u8) -> (f64, f64) {
    let end = |bucket: u8| f64::from(1_u32 << FIRST_POWER) * 2_f64.powf(f64::from(bucket) / 2.0);
    (if bucket == 0 { 0.0 } else { end(bucket - 1) }, end(bucket))
}

/// A time of so many microseconds, to the nearest whole: D-Bus has no finer ones.
fn micros(time: f64) -> Duration {
    Duration::from_secs_f64(time.round() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_between_the_bounds_of_its_bucket() {
        for micros in (0..5000).chain([9_999, 1 << 20, 150_000_000]) {
            let found = bucket(Duration::from_micros(micros));
            let (start, end) = bounds(found);
            let micros = micros as f64;
            assert!(start <= micros + 1e-6 && micros <= end, "{micros} in {start}..{end}");
        }
        assert_eq!(usize::from(bucket(Duration::MAX)), BUCKETS - 1);
        assert_eq!(usize::from(LAST), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_right_to_a_bucket() {
        let mut times = Histogram::default();
        assert_eq!(times.quantile(0.5), None);
        (1..=1000).for_each(|millis| times.add(Duration::from_millis(millis)));
        for (part, millis) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0), (0.0, 1.0)] {
            let found = times.quantile(part).unwrap().as_secs_f64() * 1000.0;
            assert!(
                (found / millis).ln().abs() <= 2_f64.sqrt().ln(),
                "{part}: {found} for {millis}"
            );
        }
    }

    #[test]
    fn what_is_stored_is_read_back_and_added_up() {
        let mut one = Histogram::default();
        let mut other = Histogram::default();
        for micros in [3, 40, 40, 1_000_000] {
            one.add(Duration::from_micros(micros));
        }
        (0..300).for_each(|_| other.add(Duration::from_micros(45)));
        assert_eq!(Histogram::decode(&one.encode()), one);
        one.merge(&Histogram::decode(&other.encode()));
        assert_eq!(one.count(), 304);
        assert_eq!(Histogram::decode(b"\xff\xff\xff"), Histogram::default(), "damage is nothing");
    }
}
