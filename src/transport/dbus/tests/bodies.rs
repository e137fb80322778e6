//! Any body: what fits is read, everything else is an error that names the argument.

use std::collections::HashMap;

use proptest::prelude::*;
use prost_reflect::{DynamicMessage, Value};
use zbus::message::{Body, Message};
use zbus::wire::StructureBuilder;
use zbus::{Array, Dict, Signature, Variant};

use super::messages::Choices;
use super::{descriptor, method, nested, request};
use crate::error::ErrorKind;

type Options<'a> = HashMap<&'a str, Variant<'a>>;

fn body<B: serde::Serialize + zbus::DynamicType>(body: &B) -> Body {
    Message::method_call("/o", "M").build(body).unwrap().body()
}

/// A call of Echo with these options.
fn echo(everything: Options<'_>, options: Options<'_>) -> Body {
    body(&("text", [1_u8].as_slice(), everything, options))
}

/// The error of a call of Echo with an option, or with a field of `everything`.
fn problem(everything: Options<'_>, options: Options<'_>) -> (String, String) {
    let error = request(&method("Echo"), &echo(everything, options)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    (error.fact("field").unwrap().to_owned(), error.message().to_owned())
}

/// What Echo reads from an `everything` with this field.
fn read(name: &str, value: Variant<'_>) -> Value {
    let body = echo([(name, value)].into(), Options::new());
    let (bytes, _) = request(&method("Echo"), &body).unwrap();
    let message = DynamicMessage::decode(descriptor("EchoRequest"), &*bytes).unwrap();
    let everything = message.get_field_by_name("everything").unwrap().into_owned();
    let Value::Message(everything) = everything else { panic!("no message") };
    everything.get_field_by_name(name).unwrap().into_owned()
}

#[test]
fn integers_of_any_type_are_taken_where_they_fit() {
    assert_eq!(read("an_int32", Variant::from(5_u8)), Value::I32(5));
    assert_eq!(read("an_int64", Variant::from(-5_i16)), Value::I64(-5));
    assert_eq!(read("a_uint64", Variant::from(5_i32)), Value::U64(5));
    assert_eq!(read("a_double", Variant::from(5_u64)), Value::F64(5.0));
    assert_eq!(read("int32s", Variant::from(vec![5_u64])), Value::List(vec![Value::I32(5)]));
    let none = Options::new;
    for (name, value) in [
        ("a_uint32", Variant::from(-1)),
        ("an_int32", Variant::from(u32::MAX)),
        ("a_sint64", Variant::from(u64::MAX)),
        ("a_double", Variant::from(u64::MAX)),
        ("a_float", Variant::from(1e300)),
        ("an_int32", Variant::from(5.0)),
        ("an_int32", Variant::from("5")),
        ("a_bool", Variant::from(1)),
        ("a_string", Variant::from(1)),
        ("some_bytes", Variant::from("a")),
        ("nested", Variant::from(vec!["a"])),
        ("int32s", Variant::from(5)),
        ("a_colour", Variant::from("blue")),
        ("a_timestamp", Variant::from("now")),
    ] {
        let (place, text) = problem([(name, value)].into(), none());
        assert_eq!(place, format!("everything.{name}"), "{text}");
    }
}

#[test]
fn enums_go_by_name_in_any_case_or_by_number() {
    for (name, number) in [
        ("red", 1),
        ("Red", 1),
        ("DARK_GREEN", 2),
        ("COLOUR_DARK_GREEN", 2),
        ("unspecified", 0),
        ("7", 7),
        ("-1", -1),
    ] {
        assert_eq!(read("a_colour", Variant::from(name)), Value::EnumNumber(number));
    }
    for name in ["", "+7", "07", "7 ", "colour_", "rot"] {
        let (place, text) = problem([("a_colour", name.into())].into(), Options::new());
        assert_eq!(place, "everything.a_colour");
        assert!(text.contains("unspecified, red, dark_green"), "{text}");
    }
}

#[test]
fn values_take_what_json_has_and_nothing_else() {
    let list = Variant::from(vec!["a"]);
    let value = read("a_value", list);
    let Value::Message(value) = value else { panic!("no message") };
    assert!(value.has_field_by_name("list_value"));
    let exact = Variant::from(1_i64 << 53);
    assert!(matches!(read("a_value", exact), Value::Message(_)));
    for (value, says) in [
        (Variant::from((1_i64 << 53) + 1), "double"),
        (Variant::from(vec![1_u8]), "ay"),
        (Variant::from((1, 2)), "(ii)"),
        (Variant::from(HashMap::from([(1, 2)])), "a{ii}"),
        (Variant::from(Signature::U8), "signature"),
    ] {
        let (place, text) = problem(Options::new(), [("value", value)].into());
        assert_eq!(place, "value");
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn what_is_not_there_or_there_twice_is_named() {
    for (everything, options, place) in [
        (Options::new(), Options::from([("no_such", Variant::from(1))]), "no_such"),
        (Options::from([("no_such", Variant::from(1))]), Options::new(), "everything.no_such"),
        (Options::new(), Options::from([("text", Variant::from("a"))]), "text"),
        (Options::new(), Options::from([("output-fd", Variant::from(1))]), "output-fd"),
        (Options::new(), Options::from([("output-format", Variant::from("xml"))]), "output-format"),
        (Options::new(), Options::from([("handle-token", Variant::from("a-b"))]), "handle-token"),
        (Options::new(), Options::from([("handle-token", Variant::from(""))]), "handle-token"),
        (Options::new(), Options::from([("detach", Variant::from(1))]), "detach"),
        (Options::new(), Options::from([("on-disconnect", Variant::from("die"))]), "on-disconnect"),
        (Options::new(), Options::from([("session-id", Variant::from(""))]), "session-id"),
        (Options::new(), Options::from([("request-id", Variant::from(""))]), "request-id"),
        (Options::new(), Options::from([("request-id", Variant::from(1))]), "request-id"),
        (Options::new(), Options::from([("deadline-ms", Variant::from(-1))]), "deadline-ms"),
        (Options::new(), Options::from([("deadline-ms", Variant::from("1"))]), "deadline-ms"),
        (
            Options::new(),
            Options::from([("traceparent", Variant::from("00-1-2-3"))]),
            "traceparent",
        ),
    ] {
        assert_eq!(problem(everything, options).0, place);
    }
    let both = Options::from([("chosen_string", "a".into()), ("chosen_int64", Variant::from(1))]);
    let (place, text) = problem(both, Options::new());
    assert!(place.starts_with("everything.chosen_"), "{text}");
    assert!(text.contains("together"), "{text}");
}

#[test]
fn the_options_of_a_call_are_taken() {
    let options = Options::from([
        ("request-id", Variant::from("a".repeat(128))),
        ("deadline-ms", Variant::from(5_u8)),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
    ]);
    assert!(request(&method("Echo"), &echo(Options::new(), options)).is_ok());
    let (place, _) =
        problem(Options::new(), [("request-id", Variant::from("a".repeat(129)))].into());
    assert_eq!(place, "request-id");
}

#[test]
fn a_wrong_signature_is_explained() {
    let method = method("Echo");
    let none = Options::new();
    for (body, place) in [
        (body(&()), "text"),
        (body(&none), "text"),
        (body(&("a", "b")), "data"),
        (body(&("a", vec![1_u8], &none)), "options"),
        (body(&("a", vec![1_u8], &none, &none, 5)), "body"),
        (body(&("a", vec![1_u8], HashMap::from([("a", "b")]), &none)), "everything"),
    ] {
        let error = request(&method, &body).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(error.fact("field"), Some(place), "{error}");
        assert!(error.message().contains("Echo takes \"saya{sv}a{sv}\""), "{error}");
    }
}

/// A message as a dictionary, nested as deep as D-Bus itself allows.
fn dictionary(message: &DynamicMessage) -> Variant<'static> {
    let nested = message.get_field_by_name("nested").unwrap();
    let mut fields = HashMap::from([("a_bool", Variant::from(true))]);
    if message.has_field_by_name("nested")
        && let Value::Message(inner) = &*nested
    {
        fields.insert("nested", dictionary(inner));
    }
    Variant::from(fields)
}

#[test]
fn a_request_that_is_too_deep_is_refused() {
    let inside = |levels: usize| [("more", dictionary(&nested(levels - 1)))].into();
    assert!(request(&method("Echo"), &echo(Options::new(), inside(15))).is_ok());
    let (place, text) = problem(Options::new(), inside(16));
    assert!(place.starts_with("more.nested.nested."), "{place}");
    assert!(text.contains("15 levels"), "{text}");
}

/// Any D-Bus value. Dictionaries often have the names of fields as keys.
fn any_variant(choices: &mut Choices<'_>, depth: u8) -> Variant<'static> {
    match choices.below(if depth == 0 { 13 } else { 19 }) {
        0 => Variant::from(choices.byte()),
        1 => Variant::from(choices.below(2) == 1),
        2 => Variant::from(i16::from(choices.byte())),
        3 => Variant::from(u16::from(choices.byte())),
        4 => Variant::from(i32::from(choices.byte()) - 128),
        5 => Variant::from(u32::from(choices.byte())),
        6 => Variant::from(choices.bits().cast_signed()),
        7 => Variant::from(choices.bits()),
        8 => Variant::from(f64::from_bits(choices.bits())),
        9 => Variant::from(choices.text()),
        10 => Variant::from(zbus::ObjectPath::from_static_str_unchecked("/o")),
        11 => Variant::from(Signature::Unit),
        12 => Variant::from(vec![choices.byte(); 3]),
        13 => {
            let first = any_variant(choices, depth - 1);
            let mut array = Array::new(first.value_signature());
            array.append(first).unwrap();
            Variant::from(array)
        }
        14 => {
            let list: Vec<Variant<'_>> =
                (0..choices.below(3)).map(|_| any_variant(choices, depth - 1)).collect();
            Variant::from(list)
        }
        15 => {
            let value = any_variant(choices, depth - 1);
            let mut dict = Dict::new(&Signature::Str, value.value_signature());
            dict.append(Variant::from(field_name(choices)), value).unwrap();
            Variant::from(dict)
        }
        16 => Variant::from((any_variant(choices, depth - 1), choices.byte())),
        17 => Variant::Variant(Box::new(any_variant(choices, depth - 1))),
        _ => Variant::from(any_dictionary(choices, depth - 1)),
    }
}

fn any_dictionary(choices: &mut Choices<'_>, depth: u8) -> HashMap<String, Variant<'static>> {
    (0..choices.below(4)).map(|_| (field_name(choices), any_variant(choices, depth))).collect()
}

fn field_name(choices: &mut Choices<'_>) -> String {
    const OTHERS: [&str; 8] =
        ["more", "texts", "value", "text", "request-id", "deadline-ms", "output-fd", "traceparent"];
    match choices.below(8) {
        0 => choices.text(),
        1 | 2 => OTHERS[usize::from(choices.below(8))].to_owned(),
        _ => {
            let fields: Vec<_> = descriptor("Everything").fields().collect();
            fields[usize::from(choices.byte()) % fields.len()].name().to_owned()
        }
    }
}

/// Reads a body with Echo: a request, or an error that names something.
fn read_any(body: &Body) -> Result<(), TestCaseError> {
    match request(&method("Echo"), body) {
        Ok((bytes, _)) => {
            // What was read is a message, whatever it says.
            let message = DynamicMessage::decode(descriptor("EchoRequest"), &*bytes);
            prop_assert!(message.is_ok());
        }
        Err(error) => {
            prop_assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            let place = error.fact("field").unwrap();
            prop_assert!(error.message().starts_with(place), "{}", error);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn any_signature_is_an_error_or_fits(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut choices = Choices(&bytes);
        let mut builder = StructureBuilder::new();
        for _ in 0..=choices.below(5) {
            builder.push_field(any_variant(&mut choices, 3));
        }
        read_any(&body(&builder.build().unwrap()))?;
    }

    #[test]
    fn any_dictionaries_are_errors_or_fit(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut choices = Choices(&bytes);
        let everything = any_dictionary(&mut choices, 3);
        let options = any_dictionary(&mut choices, 3);
        read_any(&body(&("text", [1_u8].as_slice(), everything, options)))?;
    }
}
