//! Which thing of an agent a request is about, read from the encoded request. What follows from it is
//! not known here.

use bytes::{Buf as _, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_reflect::{Kind, MessageDescriptor};

use super::Operation;
use crate::error::Error;

/// The number of the field `name`, which the option `key` of an operation names.
///
/// # Errors
/// `InvalidArgument` if the request has no such field, or one that is no single text.
pub(super) fn number(request: &MessageDescriptor, name: &str) -> Result<u32, Error> {
    request
        .get_field_by_name(name)
        .filter(|field| field.kind() == Kind::String && !field.is_list())
        .map(|field| field.number())
        .ok_or_else(|| {
            Error::invalid(
                request.full_name(),
                format_args!("the option key names {name}, which is no single text of it"),
            )
        })
}

impl Operation {
    /// The name of the one thing that a request of the operation is about; `None` if it may be about
    /// everything that the agent has, or cannot be read.
    #[must_use]
    pub fn key_of(&self, request: &Bytes) -> Option<Bytes> {
        let wanted = self.key?;
        let mut rest = request.clone();
        // A text that is not there is an empty one; of several the last counts.
        let mut found = Bytes::new();
        while rest.has_remaining() {
            let (number, wire_type) = decode_key(&mut rest).ok()?;
            if number != wanted {
                skip_field(wire_type, number, &mut rest, DecodeContext::default()).ok()?;
                continue;
            }
            let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
            if wire_type != WireType::LengthDelimited || length > rest.len() {
                return None;
            }
            found = rest.split_to(length);
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::contract::Contract;
    use crate::proto::opdbus::agent::memory::v1::{RememberRequest, TransactRequest};

    #[test]
    fn the_key_is_found_wherever_it_stands_and_nothing_else_is_taken_for_it() {
        let contract = Contract::built_in().unwrap();
        let memory = contract.service("opdbus.agent.memory.v1.MemoryService").unwrap();
        let remember = memory.operation("Remember").unwrap();
        let one = RememberRequest {
            key: "k\u{e9}".into(),
            value: Some(prost_types::Value::default()),
            namespace: "n".into(),
            ..RememberRequest::default()
        };
        let mut bytes = one.encode_to_vec();
        assert_eq!(remember.key_of(&bytes.clone().into()).unwrap(), "k\u{e9}");
        let two = RememberRequest { key: "other".into(), ..RememberRequest::default() };
        bytes.extend(two.encode_to_vec());
        assert_eq!(remember.key_of(&bytes.clone().into()).unwrap(), "other");
        assert_eq!(remember.key_of(&Bytes::new()).unwrap(), "");
        bytes.truncate(bytes.len() - 1);
        assert_eq!(remember.key_of(&bytes.into()), None);
        let transact = memory.operation("Transact").unwrap();
        let request = TransactRequest { namespace: "n".into(), ..TransactRequest::default() };
        assert_eq!(transact.key_of(&request.encode_to_vec().into()), None);
    }
}
