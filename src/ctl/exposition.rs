//! The Prometheus text format, read into families and samples. What they mean is not known here.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// One metric with all its samples.
#[derive(Debug, Default)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) help: String,
    pub(super) kind: String,
    pub(super) samples: Vec<Sample>,
}

/// One value.
#[derive(Debug)]
pub(super) struct Sample {
    /// The name, which for a histogram ends in `_bucket`, `_sum` or `_count`.
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

/// Reads a text. A line that is none of the format is left out: a newer service may write more.
pub(super) fn parse(text: &str) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for line in text.lines() {
        if let Some((name, help)) = comment(line, "# HELP ") {
            families.push(Family { name, help, ..Family::default() });
        } else if let Some((name, kind)) = comment(line, "# TYPE ") {
            match families.last_mut().filter(|family| family.name == name) {
                Some(family) => family.kind = kind,
                None => families.push(Family { name, kind, ..Family::default() }),
            }
        } else if let Some(sample) = sample(line)
            && let Some(family) = families.last_mut()
        {
            family.samples.push(sample);
        }
    }
    families
}

/// The families as JSON: a list, as in the text. NaN and the infinities are text.
pub(super) fn to_json(families: &[Family]) -> Value {
    let sample = |sample: &Sample| {
        let value = if sample.value.is_finite() {
            json!(sample.value)
        } else {
            json!(sample.value.to_string())
        };
        json!({ "name": sample.name, "labels": sample.labels, "value": value })
    };
    let family = |family: &Family| {
        json!({
            "name": family.name,
            "type": family.kind,
            "help": family.help,
            "samples": family.samples.iter().map(sample).collect::<Vec<_>>(),
        })
    };
    families.iter().map(family).collect()
}

fn comment(line: &str, prefix: &str) -> Option<(String, String)> {
    let (name, text) = line.strip_prefix(prefix)?.split_once(' ')?;
    Some((name.to_owned(), text.to_owned()))
}

/// Reads `name{label="value",…} 1`.
fn sample(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, tail) = rest.split_once("=\"")?;
            let (value, tail) = quoted(tail)?;
            labels.insert(label.trim().to_owned(), value);
            rest = tail.strip_prefix(',').unwrap_or(tail);
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The text up to the closing quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[index + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_labels_and_escapes_are_read() {
        let text = "# HELP a_total What it counts.\n# TYPE a_total counter\n\
                    a_total{x=\"q\\\"\\\\\\n}\",y=\"2\"} 3\na_total 4 1700000000\nnonsense\n\
                    # HELP h H.\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum NaN\n";
        let families = parse(text);
        assert_eq!(families.len(), 2);
        assert_eq!(families[0].kind, "counter");
        assert_eq!(families[0].help, "What it counts.");
        assert_eq!(families[0].samples.len(), 2);
        assert_eq!(families[0].samples[0].labels["x"], "q\"\\\n}");
        assert!((families[0].samples[1].value - 4.0).abs() < f64::EPSILON);
        assert_eq!(families[1].samples[0].labels["le"], "+Inf");
        let json = to_json(&families);
        assert_eq!(json[0]["samples"][0]["value"], json!(3.0));
        assert_eq!(json[1]["samples"][1]["value"], json!("NaN"));
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        for text in ["a{x=\"1", "a{x", "a{x=\"1\"", "a{", "a", "a{x=\"1\"} ", "a{x=\"\\"] {
            let text = format!("# TYPE a counter\n{text}\n");
            assert!(parse(&text)[0].samples.is_empty(), "{text}");
        }
    }
}
