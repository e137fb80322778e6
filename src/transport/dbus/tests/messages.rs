//! Identity: any message, written as a D-Bus body and read again, is the same message.

use std::collections::HashMap;

use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

use super::{descriptor, json, method, reply, request};

/// Choices read from bytes, so that a failing case shrinks with them; zeros when they are used up.
pub(super) struct Choices<'a>(pub(super) &'a [u8]);

impl Choices<'_> {
    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u8) -> u8 {
        self.byte() % end
    }

    /// Eight bytes; often a small or an extreme number.
    pub(super) fn bits(&mut self) -> u64 {
        match self.below(4) {
            0 => u64::from(self.byte()),
            1 => u64::MAX - u64::from(self.byte()),
            2 => 1 << self.below(64),
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    pub(super) fn text(&mut self) -> String {
        const LETTERS: [char; 8] = ['a', 'Z', '7', ' ', '"', 'ä', '\u{1}', '\u{1f600}'];
        (0..self.below(5)).map(|_| LETTERS[usize::from(self.below(8))]).collect()
    }

    fn float(&mut self) -> f64 {
        let float = f64::from_bits(self.bits());
        if float.is_nan() { 0.5 } else { float }
    }

    /// Microseconds that seconds and nanoseconds of a message can hold, and D-Bus too.
    fn microseconds(&mut self) -> i64 {
        self.bits().cast_signed() / 1_000
    }
}

fn message(descriptor: &MessageDescriptor, choices: &mut Choices<'_>, depth: u8) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    match descriptor.full_name() {
        "google.protobuf.Value" => {
            let (name, value) = any_value(descriptor, choices, depth);
            message.set_field_by_name(name, value);
            return message;
        }
        "google.protobuf.Timestamp" | "google.protobuf.Duration" => {
            let time = choices.microseconds();
            let (seconds, rest) = if descriptor.name() == "Timestamp" {
                (time.div_euclid(1_000_000), time.rem_euclid(1_000_000))
            } else {
                (time / 1_000_000, time % 1_000_000)
            };
            message.set_field_by_name("seconds", Value::I64(seconds));
            let nanos = i32::try_from(rest * 1_000).unwrap();
            message.set_field_by_name("nanos", Value::I32(nanos));
            return message;
        }
        _ => {}
    }
    for field in descriptor.fields() {
        let chosen = match field.containing_oneof() {
            // One member of the oneof at most.
            Some(oneof) if !oneof.is_synthetic() => !oneof.fields().any(|f| message.has_field(&f)),
            _ => true,
        };
        if chosen && choices.below(3) > 0 {
            let value = field_value(&field, choices, depth);
            message.set_field(&field, value);
        }
    }
    message
}

fn any_value(
    descriptor: &MessageDescriptor,
    choices: &mut Choices<'_>,
    depth: u8,
) -> (&'static str, Value) {
    let member = |name: &str| descriptor.get_field_by_name(name).unwrap();
    match choices.below(if depth == 0 { 4 } else { 6 }) {
        0 => ("null_value", Value::EnumNumber(0)),
        1 => ("number_value", Value::F64(choices.float())),
        2 => ("string_value", Value::String(choices.text())),
        3 => ("bool_value", Value::Bool(choices.below(2) == 1)),
        4 => ("struct_value", field_value(&member("struct_value"), choices, depth - 1)),
        _ => ("list_value", field_value(&member("list_value"), choices, depth - 1)),
    }
}

fn field_value(field: &FieldDescriptor, choices: &mut Choices<'_>, depth: u8) -> Value {
    if field.is_map()
        && let Kind::Message(entry) = field.kind()
    {
        let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        let entries: HashMap<MapKey, Value> = (0..choices.below(3))
            .map(|_| {
                let key = kind_value(&key.kind(), choices, 0).into_map_key().unwrap();
                (key, kind_value(&value.kind(), choices, depth))
            })
            .collect();
        return Value::Map(entries);
    }
    if field.is_list() {
        let length = choices.below(4);
        return Value::List(
            (0..length).map(|_| kind_value(&field.kind(), choices, depth)).collect(),
        );
    }
    kind_value(&field.kind(), choices, depth)
}

#[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
fn kind_value(kind: &Kind, choices: &mut Choices<'_>, depth: u8) -> Value {
    match kind {
        Kind::Bool => Value::Bool(choices.below(2) == 1),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(choices.bits() as i32),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(choices.bits() as u32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(choices.bits().cast_signed()),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(choices.bits()),
        Kind::Float => Value::F32(choices.float() as f32),
        Kind::Double => Value::F64(choices.float()),
        Kind::String => Value::String(choices.text()),
        Kind::Bytes => Value::Bytes((0..choices.below(9)).map(|_| choices.byte()).collect()),
        // Known numbers are 0 to 2.
        Kind::Enum(_) => Value::EnumNumber(i32::from(choices.below(6)) - 2),
        Kind::Message(of) if depth == 0 && !of.full_name().starts_with("google.") => {
            Value::Message(DynamicMessage::new(of.clone()))
        }
        Kind::Message(of) => Value::Message(message(of, choices, depth.saturating_sub(1))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// `EchoRequest` and `EchoResponse` have the same fields, some of them arguments and some not, and
    /// `Everything` as both.
    #[test]
    fn a_message_is_the_same_after_a_body(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let method = method("Echo");
        let of = descriptor("EchoRequest");
        let mut sent = message(&of, &mut Choices(&bytes), 3);
        if !sent.has_field_by_name("everything") {
            // An argument cannot be absent.
            let everything = DynamicMessage::new(descriptor("Everything"));
            sent.set_field_by_name("everything", Value::Message(everything));
        }
        // Encoding leaves out what was set to its default, which is the same message.
        let sent = DynamicMessage::decode(of.clone(), &*sent.encode_to_vec()).unwrap();
        let body = reply(&method, &sent.encode_to_vec()).unwrap().body();
        body.validate().unwrap();
        let (encoded, _) = request(&method, &body).unwrap();
        let received = DynamicMessage::decode(of, &*encoded).unwrap();
        prop_assert!(sent == received, "{}\n{}", json(&sent), json(&received));
    }
}
