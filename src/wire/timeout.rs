//! The time that a call has left (`grpc-timeout`), read and written.

use std::time::Duration;

/// Digits beyond these are not written.
const MAX_NUMBER: u128 = 99_999_999;

/// A gRPC timeout: one to eight digits and a unit.
#[cfg(feature = "daemon")]
pub(crate) fn timeout(value: &[u8]) -> Result<Duration, &'static str> {
    const FORM: &str = "must be 1 to 8 digits and one of the units H, M, S, m, u, n";
    let (unit, digits) = value.split_last().ok_or(FORM)?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(FORM);
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Ok(Duration::from_secs(number * 3600)),
        b'M' => Ok(Duration::from_secs(number * 60)),
        b'S' => Ok(Duration::from_secs(number)),
        b'm' => Ok(Duration::from_millis(number)),
        b'u' => Ok(Duration::from_micros(number)),
        b'n' => Ok(Duration::from_nanos(number)),
        _ => Err(FORM),
    }
}

/// Writes `timeout` in the finest unit that its eight digits hold; a time beyond all is the longest.
pub(crate) fn timeout_text(timeout: Duration) -> String {
    let units = [(timeout.as_micros(), 'u'), (timeout.as_millis(), 'm')];
    for (number, unit) in units {
        if number <= MAX_NUMBER {
            return format!("{number}{unit}");
        }
    }
    format!("{}S", u128::from(timeout.as_secs()).min(MAX_NUMBER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for (millis, read) in [(0, 0), (1, 1), (99_999, 99_999), (100_000_000, 100_000_000)] {
            let text = timeout_text(Duration::from_millis(millis));
            assert_eq!(timeout(text.as_bytes()), Ok(Duration::from_millis(read)), "{text}");
        }
        let longest = timeout_text(Duration::MAX);
        assert_eq!(timeout(longest.as_bytes()), Ok(Duration::from_secs(99_999_999)));
    }
}
