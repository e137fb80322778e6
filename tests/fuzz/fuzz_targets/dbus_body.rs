//! Any body of a call, and any response as a reply: read or written as the dispatcher does, or
//! refused; what was read as a request is protobuf of its type.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use op_dbus::contract::Contract;
use op_dbus::transport::dbus::fuzzing::Transcoder;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use zbus::Message;
use zbus::wire::Endian;
use zbus::wire::serialized::{Context, Data};

/// An operation: its transcoder, the type of its request, the signature of its arguments.
type Operation = (Transcoder, MessageDescriptor, String);

static OPERATIONS: OnceLock<Vec<Operation>> = OnceLock::new();

// The first byte chooses the operation, the second what is done; the signature is the operation's own
// unless one is given.
fuzz_target!(|input: (u8, u8, &str, &[u8])| {
    let (choice, what, signature, bytes) = input;
    let operations = OPERATIONS.get_or_init(operations);
    let (transcoder, request, own) = &operations[usize::from(choice) % operations.len()];
    if what % 3 == 0 {
        let call = message("", &[]).expect("an empty call is valid");
        if let Ok(reply) = transcoder.reply(&call, bytes) {
            assert!(reply.body().validate().is_ok(), "the reply is no valid message");
        }
        return;
    }
    let signature = if what % 3 == 1 { own } else { signature };
    let Some(call) = message(signature, bytes) else { return };
    for encoded in transcoder.requests(&call).unwrap_or_default() {
        DynamicMessage::decode(request.clone(), encoded).expect("what was read is a request");
    }
});

/// Every operation of the tests' own agent and of the memory agent.
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

/// A little-endian method call with this body; `None` if its header cannot be one.
fn message(signature: &str, body: &[u8]) -> Option<Message> {
    let mut fields = Vec::new();
    for (code, kind, value) in [(1, b'o', "/o"), (3, b's', "M"), (7, b's', ":1.1"), (8, b'g', signature)] {
        fields.resize(usize::next_multiple_of(fields.len(), 8), 0);
        fields.extend([code, 1, kind, 0]);
        if kind == b'g' {
            fields.push(u8::try_from(value.len()).ok()?);
        } else {
            fields.extend(u32::try_from(value.len()).ok()?.to_le_bytes());
        }
        fields.extend(value.as_bytes());
        fields.push(0);
    }
    let mut bytes = vec![b'l', 1, 0, 1];
    bytes.extend(u32::try_from(body.len()).ok()?.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(u32::try_from(fields.len()).ok()?.to_le_bytes());
    bytes.extend(fields);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend(body);
    // SAFETY: zbus checks what it parses; that nothing goes wrong with invalid bytes is what is tried.
    unsafe { Message::from_bytes(Data::new(bytes, Context::new(Endian::Little, 0))) }.ok()
}
