//! Times and sizes as people read them. Lengths that were measured are shown by `ping.rs`.

use std::time::SystemTime;

use prost_types::Timestamp;

/// A time in seconds by its two largest units.
pub(super) fn span(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    if days > 0 {
        format!("{days} d {} h", hours % 24)
    } else if hours > 0 {
        format!("{hours} h {} min", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes} min {} s", seconds % 60)
    } else {
        format!("{seconds} s")
    }
}

/// How long ago something was; empty if it is not known.
pub(super) fn age(time: Option<Timestamp>) -> String {
    time.map_or_else(String::new, |time| span((now().seconds - time.seconds).max(0)))
}

/// A time of the calendar in UTC to the second, and how far it is from now.
pub(super) fn moment(time: Timestamp) -> String {
    let distance = time.seconds - now().seconds;
    let distance = match distance > 0 {
        true => format!("in {}", span(distance)),
        false => format!("{} ago", span(-distance)),
    };
    format!("{} ({distance})", Timestamp { nanos: 0, ..time })
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

/// A number of bytes in its largest unit.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = "B";
    let (mut whole, mut tenth) = (bytes, 0);
    for larger in UNITS {
        if whole < 1024 {
            break;
        }
        tenth = whole % 1024 * 10 / 1024;
        whole /= 1024;
        unit = larger;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{whole}.{tenth} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(span(59), "59 s");
        assert_eq!(span(3_700), "1 h 1 min");
        assert_eq!(span(90_000), "1 d 1 h");
        assert_eq!(moment(Timestamp::default()).split(" (").next(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(age(None), "");
    }

    #[test]
    fn sizes_have_one_unit() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(5 << 20), "5.0 MiB");
        assert_eq!(size(u64::MAX), "15.9 EiB");
    }
}
