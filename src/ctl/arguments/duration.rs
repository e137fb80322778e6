//! Lengths of time as people write them (`90s`, `1h30m`) and as protobuf's JSON does (`5400s`).

use std::time::Duration;

/// The units, in nanoseconds.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
    ("w", 7 * 86_400 * 1_000_000_000),
];

/// The longest time that `google.protobuf.Duration` can hold, in seconds: some 10,000 years.
const MAX_SECONDS: u128 = 315_576_000_000;

/// Reads a time to wait.
pub(crate) fn parse_timeout(text: &str) -> Result<Duration, String> {
    match nanoseconds(text)? {
        0 => Err("must be more than 0".to_owned()),
        // Bounded by MAX_SECONDS, so that the seconds fit.
        length => {
            Ok(Duration::from_secs(u64::try_from(length / 1_000_000_000).unwrap_or(u64::MAX))
                + Duration::from_nanos(u64::try_from(length % 1_000_000_000).unwrap_or_default()))
        }
    }
}

/// The canonical JSON form, as `5400s` or `-1.5s`.
pub(super) fn canonical(text: &str) -> Result<String, String> {
    let (sign, length) = match text.strip_prefix('-') {
        Some(text) => ("-", nanoseconds(text)?),
        None => ("", nanoseconds(text)?),
    };
    let (seconds, rest) = (length / 1_000_000_000, length % 1_000_000_000);
    if rest == 0 {
        return Ok(format!("{sign}{seconds}s"));
    }
    let fraction = format!("{rest:09}");
    Ok(format!("{sign}{seconds}.{}s", fraction.trim_end_matches('0')))
}

/// Adds up the parts of a length of time, as `1h30m` or `1.5s`.
fn nanoseconds(text: &str) -> Result<u128, String> {
    let wrong = || format!("{text:?} is not a length of time as 90s, 1h30m or 250ms");
    let mut rest = text;
    let mut sum = 0_u128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(end);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        sum = part(number, *scale)
            .and_then(|part| sum.checked_add(part))
            .filter(|sum| *sum <= MAX_SECONDS * 1_000_000_000)
            .ok_or_else(wrong)?;
        rest = tail;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(sum) }
}

/// One number, with a fraction or not, in nanoseconds; what is finer is left out.
fn part(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u128 = whole.parse().ok()?;
    let mut sum = whole.checked_mul(scale)?;
    let mut digit_scale = scale;
    for digit in fraction.chars() {
        digit_scale /= 10;
        sum = sum.checked_add(u128::from(digit.to_digit(10)?) * digit_scale)?;
    }
    (!fraction.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_becomes_canonical() {
        for (text, canonical_form) in [
            ("90s", "90s"),
            ("1h30m", "5400s"),
            ("250ms", "0.25s"),
            ("1.5s", "1.5s"),
            ("1w1d", "691200s"),
            ("-2m", "-120s"),
            ("0s", "0s"),
            ("1ns", "0.000000001s"),
            ("1.0000000019s", "1.000000001s"),
        ] {
            assert_eq!(canonical(text).unwrap(), canonical_form, "{text}");
        }
    }

    #[test]
    fn what_says_no_unit_or_too_much_is_refused() {
        for text in ["", "5", "s", "5x", "1h30", "--1s", "1..5s", ".s", "1.s", "99999999999999w"] {
            assert!(canonical(text).is_err(), "{text}");
        }
        assert!(parse_timeout("0s").is_err());
        assert!(parse_timeout("-1s").is_err());
        assert_eq!(parse_timeout("1m0.5s").unwrap(), Duration::from_millis(60_500));
    }
}
