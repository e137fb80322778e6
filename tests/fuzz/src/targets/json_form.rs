//! Any text as the JSON form of any request: it is refused, or what it describes survives the way to
//! protobuf and back.

use op_dbus::contract::{Contract, json_to_message, message_to_json};
use prost_reflect::MessageDescriptor;

use super::Target;

/// The first byte chooses the message, the rest is the text.
pub(super) fn target() -> Target {
    let requests = requests();
    Box::new(move |input: &[u8]| {
        let Some((choice, text)) = input.split_first() else { return };
        let Ok(text) = std::str::from_utf8(text) else { return };
        try_one(&requests[usize::from(*choice) % requests.len()], text);
    })
}

fn try_one(descriptor: &MessageDescriptor, text: &str) {
    let Ok(bytes) = json_to_message(descriptor, text) else { return };
    let json = message_to_json(descriptor, &bytes).expect("what was read can be written");
    let again = json_to_message(descriptor, &json).expect("what was written can be read");
    let json_again = message_to_json(descriptor, &again).expect("and written again");
    assert_eq!(json, json_again, "the JSON form is not stable");
}

/// The request of every operation, the tests' own agent with every type included.
fn requests() -> Vec<MessageDescriptor> {
    let contract = Contract::built_in().expect("the contract is built in");
    let operations = contract.services.iter().flat_map(|service| &service.operations);
    operations.map(|operation| operation.input.clone()).collect()
}
