//! Finds integers in JSON that would be rounded on their way into a `google.protobuf.Value`, which
//! holds every number as a double. It reads text that is known to be JSON and fits its message.

use prost_reflect::{Kind, MessageDescriptor};

use crate::error::Error;

/// Integers with fewer digits are exact in a double.
const SUSPICIOUS_DIGITS: usize = 16;

/// What a JSON value is read as.
#[derive(Clone)]
enum Target {
    /// A `Value`, `Struct` or `ListValue`, or something within one.
    Free,
    /// A message of this type.
    Message(MessageDescriptor),
    /// Each value of an object is read as this: a map field.
    Map(Box<Target>),
    /// A scalar field, which checks its own range.
    Checked,
}

/// Refuses `json`, which fits `descriptor`, if an integer in it would be rounded.
///
/// # Errors
/// `InvalidArgument` naming the integer as it is written.
pub(super) fn require_exact(descriptor: &MessageDescriptor, json: &str) -> Result<(), Error> {
    let digits = |run: &[u8]| run.iter().filter(|byte| byte.is_ascii_digit()).count();
    let suspicious = json
        .as_bytes()
        .chunk_by(|a, b| a.is_ascii_digit() && b.is_ascii_digit())
        .any(|run| digits(run) >= SUSPICIOUS_DIGITS);
    if suspicious {
        Walk { json, at: 0 }.value(&Target::message(descriptor.clone()))?;
    }
    Ok(())
}

impl Target {
    fn message(descriptor: MessageDescriptor) -> Self {
        match descriptor.full_name() {
            "google.protobuf.Value" | "google.protobuf.Struct" | "google.protobuf.ListValue" => {
                Self::Free
            }
            _ => Self::Message(descriptor),
        }
    }

    fn of_kind(kind: Kind) -> Self {
        kind.as_message().map_or(Self::Checked, |message| Self::message(message.clone()))
    }

    /// What the member `name` of an object is read as.
    fn member(&self, name: &str) -> Self {
        match self {
            Self::Free => Self::Free,
            Self::Map(value) => Self::clone(value),
            Self::Checked => Self::Checked,
            Self::Message(message) => {
                let field = message
                    .get_field_by_json_name(name)
                    .or_else(|| message.get_field_by_name(name));
                match field.map(|field| (field.is_map(), field.kind())) {
                    Some((true, Kind::Message(entry))) => {
                        Self::Map(Box::new(Self::of_kind(entry.map_entry_value_field().kind())))
                    }
                    Some((_, kind)) => Self::of_kind(kind),
                    None => Self::Checked,
                }
            }
        }
    }
}

/// A walk over JSON text. What stands between tokens is skipped, so it must be valid.
struct Walk<'a> {
    json: &'a str,
    at: usize,
}

impl Walk<'_> {
    /// Walks over one value. The depth is bounded, because the parser before bounds it.
    fn value(&mut self, target: &Target) -> Result<(), Error> {
        match self.peek() {
            Some(b'{') => self.object(target),
            Some(b'[') => self.list(target),
            Some(b'"') => {
                self.string();
                Ok(())
            }
            _ => self.scalar(target),
        }
    }

    fn object(&mut self, target: &Target) -> Result<(), Error> {
        self.at += 1;
        while self.peek() == Some(b'"') {
            let name = self.string();
            // A name that is written with escapes is read as what it stands for.
            let name = serde_json::from_str::<String>(name).unwrap_or_default();
            self.peek();
            self.at += 1;
            self.value(&target.member(&name))?;
            if self.peek() == Some(b',') {
                self.at += 1;
                self.peek();
            }
        }
        self.at += 1;
        Ok(())
    }

    fn list(&mut self, target: &Target) -> Result<(), Error> {
        self.at += 1;
        while !matches!(self.peek(), Some(b']') | None) {
            self.value(target)?;
            if self.peek() == Some(b',') {
                self.at += 1;
            }
        }
        self.at += 1;
        Ok(())
    }

    /// The text of a string, with its quotes.
    fn string(&mut self) -> &str {
        let start = self.at;
        let bytes = self.json.as_bytes();
        self.at += 1;
        while let Some(byte) = bytes.get(self.at) {
            self.at += if *byte == b'\\' { 2 } else { 1 };
            if *byte == b'"' {
                break;
            }
        }
        self.json.get(start..self.at).unwrap_or_default()
    }

    fn scalar(&mut self, target: &Target) -> Result<(), Error> {
        let rest = self.json.get(self.at..).unwrap_or_default();
        let end = rest.find([',', ']', '}', ' ', '\t', '\r', '\n']).unwrap_or(rest.len());
        let literal = rest.get(..end).unwrap_or_default();
        // At least one, so that the walk ends whatever the text is.
        self.at += end.max(1);
        if matches!(target, Target::Free) && !is_exact(literal) {
            return Err(Error::invalid(
                "arguments",
                format_args!(
                    "the integer {literal} would be rounded, because values hold numbers as \
                     doubles; send it as a string"
                ),
            ));
        }
        Ok(())
    }

    /// The first byte of the next token.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.json.as_bytes().get(self.at..)?;
        let blanks = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.at += blanks;
        rest.get(blanks).copied()
    }
}

/// False for an integer that a double cannot hold. Fractions and exponents are doubles by intent.
fn is_exact(literal: &str) -> bool {
    let digits = literal.strip_prefix('-').unwrap_or(literal);
    if digits.len() < SUSPICIOUS_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return true;
    }
    digits.parse::<f64>().is_ok_and(|double| format!("{double:.0}") == digits)
}

#[cfg(test)]
mod tests {
    use super::super::{Contract, json_to_message};
    use super::*;

    fn input(operation: &str) -> MessageDescriptor {
        let contract = Contract::built_in().unwrap();
        let service = contract.service("opdbus.agent.memory.v1.MemoryService").unwrap();
        service.operation(operation).unwrap().input.clone()
    }

    fn refusal(operation: &str, json: &str) -> Option<String> {
        json_to_message(&input(operation), json).err().map(|error| error.to_string())
    }

    #[test]
    fn an_integer_that_would_be_rounded_is_refused_wherever_it_stands_in_a_value() {
        for (json, literal) in [
            (r#"{"key":"k","value":9007199254740993}"#, "9007199254740993"),
            (r#"{"value": -9007199254740993 ,"key":"k"}"#, "-9007199254740993"),
            (r#"{"value":[1,{"a":[ 18446744073709551617 ]}]}"#, "18446744073709551617"),
            (r#"{"value":{"a\"}":"]","b":12345678901234567890123}}"#, "12345678901234567890123"),
            (r#"{"\u0076alue":9007199254740993}"#, "9007199254740993"),
            ("{\"value\" :\n{ \"x\" : 9007199254740993\n} }", "9007199254740993"),
        ] {
            let text = refusal("Remember", json).unwrap_or_else(|| panic!("{json} was taken"));
            assert!(
                text.contains(&format!("integer {literal} would be rounded")),
                "{json}: {text}"
            );
        }
        let nested = r#"{"success":[{"forget":{"key":"a"}},{"remember":{"key":"k","value":{"n":9007199254740993}}}]}"#;
        assert!(refusal("Transact", nested).is_some_and(|text| text.contains("would be rounded")));
    }

    #[test]
    fn what_is_exact_or_no_integer_of_a_value_is_taken() {
        for json in [
            r#"{"key":"k","value":9007199254740992}"#,
            r#"{"key":"k","value":9007199254740994}"#,
            r#"{"key":"k","value":100000000000000000000}"#,
            r#"{"key":"k","value":1e300}"#,
            r#"{"key":"k","value":0.12345678901234567890}"#,
            r#"{"key":"k","value":"9007199254740993"}"#,
            r#"{"key":"9007199254740993","value":{"9007199254740993":"\"9007199254740993"}}"#,
            r#"{"key":"k","if_version":9007199254740993,"value":[]}"#,
            r#"{"key":"k","ifVersion":"9007199254740993","value":{}, "tags" : [ ] }"#,
        ] {
            assert_eq!(refusal("Remember", json), None, "{json}");
        }
        let increment = r#"{"key":"k","by":9007199254740993}"#;
        assert_eq!(refusal("Increment", increment), None);
    }
}
