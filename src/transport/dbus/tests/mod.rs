//! The mapping between protobuf and D-Bus, without a bus: identity for every message, and a clear
//! error for every body. How calls behave on a real bus is tested in `tests/it/dbus.rs`.

mod bodies;
mod files;
mod managed;
mod messages;

use std::sync::{Arc, LazyLock};

use prost_reflect::{DynamicMessage, MessageDescriptor, Value};
use zbus::message::{Body, Message};

use super::options::Options;
use super::plan::{self, Method};
use super::{call, decode, encode};
use crate::contract::{self, Contract, Service};
use crate::error::{Error, ErrorKind};

/// The contract, read once: types of different reads are never equal.
static CONTRACT: LazyLock<Contract> = LazyLock::new(|| Contract::built_in().unwrap());

fn probe() -> &'static Service {
    CONTRACT.service("opdbus.agent.probe.v1.ProbeService").unwrap()
}

/// The plan of an operation of the probe.
fn method(name: &str) -> Arc<Method> {
    let compiled = plan::compile(probe()).unwrap();
    let found = compiled.into_iter().find(|(operation, _)| operation.name == name);
    found.unwrap().1
}

/// The descriptor of a message of the probe.
fn descriptor(name: &str) -> MessageDescriptor {
    let pool = probe().operations[0].input.parent_pool();
    pool.get_message_by_name(&format!("opdbus.agent.probe.v1.{name}")).unwrap()
}

/// A message as text. Its `Debug` never ends for a type that is recursive.
fn json(message: &DynamicMessage) -> String {
    let bytes = prost::Message::encode_to_vec(message);
    contract::message_to_json(&prost_reflect::ReflectMessage::descriptor(message), &bytes)
        .unwrap_or_else(|error| error.to_string())
}

/// Writes a response as the reply to some call.
fn reply(method: &Method, response: &[u8]) -> Result<Message, Error> {
    let call = Message::method_call("/o", "M").sender(":1.1").build(&()).unwrap();
    encode::reply(method, &call.header(), response)
}

/// Reads a body as a request.
fn request(method: &Method, body: &Body) -> Result<(Vec<u8>, Options), Error> {
    call::check_signature(method, body.signature())?;
    let mut options = Options::default();
    decode::request(method, body, &mut options).map(|request| (request, options))
}

/// An `Everything` with `levels` of itself inside it.
fn nested(levels: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor("Everything"));
    message.set_field_by_name("a_bool", Value::Bool(true));
    if levels > 0 {
        message.set_field_by_name("nested", Value::Message(nested(levels - 1)));
    }
    message
}

/// An `EchoRequest` whose field `name` is `value`.
fn echo(name: &str, value: Value) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor("EchoRequest"));
    let everything = DynamicMessage::new(descriptor("Everything"));
    message.set_field_by_name("everything", Value::Message(everything));
    message.set_field_by_name(name, value);
    message
}

#[test]
fn fifteen_levels_travel_and_more_are_refused() {
    use prost::Message as _;
    let method = method("Echo");
    for field in ["everything", "more"] {
        let message = echo(field, Value::Message(nested(plan::MAX_LEVELS - 1)));
        let body = reply(&method, &message.encode_to_vec()).unwrap();
        body.body().validate().unwrap();
        let (bytes, _) = request(&method, &body.body()).unwrap();
        let read = DynamicMessage::decode(descriptor("EchoRequest"), &*bytes).unwrap();
        assert_eq!(json(&read), json(&message));

        let message = echo(field, Value::Message(nested(plan::MAX_LEVELS)));
        let error = reply(&method, &message.encode_to_vec()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
        assert_eq!(error.fact("limit"), Some("D-Bus nesting"));
    }
}

#[test]
fn a_text_with_nul_is_refused_by_the_name_of_its_field() {
    use prost::Message as _;
    let method = method("Echo");
    let everything = |name: &str, value: Value| {
        let mut message = DynamicMessage::new(descriptor("Everything"));
        message.set_field_by_name(name, value);
        Value::Message(message)
    };
    let text = || Value::String("a\0b".to_owned());
    let map = [(prost_reflect::MapKey::String("a\0".to_owned()), text())].into();
    for (message, place) in [
        (echo("text", text()), "text"),
        (echo("texts", Value::List(vec![text()])), "texts"),
        (echo("everything", everything("a_string", text())), "everything.a_string"),
        (echo("more", everything("chosen_string", text())), "more.chosen_string"),
        (echo("more", everything("string_by_string", Value::Map(map))), "more.string_by_string"),
    ] {
        let error = reply(&method, &message.encode_to_vec()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
        assert_eq!(error.fact("field"), Some(place), "{error}");
        assert!(error.message().contains("U+0000"), "{error}");
    }
}

#[test]
fn bytes_that_are_no_message_are_an_error() {
    let method = method("Echo");
    for bytes in [&[0x0a, 5, 1][..], &[0x0b], &[0x08, 1], &[0x1a, 2, 0x0f, 0], &[0xff; 20], &[0]] {
        let error = reply(&method, bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{bytes:?}");
    }
}
