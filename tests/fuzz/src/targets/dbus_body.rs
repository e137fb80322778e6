//! Any body of a call, and any response as a reply: read or written as the dispatcher does, or
//! refused; what was read as a request is protobuf of its type.

use op_dbus::contract::Contract;
use op_dbus::transport::dbus::fuzzing::Transcoder;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use zbus::Message;

use super::Target;
use super::dbus_message::Call;
use super::parts::{byte, text};

/// An operation: its transcoder, the type of its request, the signature of its arguments.
type Operation = (Transcoder, MessageDescriptor, String);

/// The first byte chooses the operation, the second what is done: a reply is written, a body is read that
/// has the operation's own signature, or one that has the signature which comes next.
pub(super) fn target() -> Target {
    let operations = operations();
    Box::new(move |mut input: &[u8]| {
        let choice = usize::from(byte(&mut input));
        let (transcoder, request, own) = &operations[choice % operations.len()];
        let signature = match byte(&mut input) % 3 {
            0 => return write(transcoder, input),
            1 => own.as_str(),
            _ => text(&mut input),
        };
        let Some(call) = call(signature, input) else { return };
        for encoded in transcoder.requests(&call).unwrap_or_default() {
            DynamicMessage::decode(request.clone(), encoded).expect("what was read is a request");
        }
    })
}

fn write(transcoder: &Transcoder, response: &[u8]) {
    let call = call("", &[]).expect("an empty call is valid");
    if let Ok(reply) = transcoder.reply(&call, response) {
        assert!(reply.body().validate().is_ok(), "the reply is no valid message");
    }
}

fn call(signature: &str, body: &[u8]) -> Option<Message> {
    let call = Call { serial: 1, path: "/o", member: "M", sender: ":1.1", ..Call::default() };
    Call { signature, body, ..call }.message()
}

/// Every operation that has a form on D-Bus.
fn operations() -> Vec<Operation> {
    let contract = Contract::built_in().expect("the contract is built in");
    let mut operations = Vec::new();
    for service in &contract.services {
        for operation in &service.operations {
            if let Ok(transcoder) = Transcoder::new(service, &operation.name) {
                let signature = operation.shape.in_signature.clone();
                operations.push((transcoder, operation.input.clone(), signature));
            }
        }
    }
    operations
}
