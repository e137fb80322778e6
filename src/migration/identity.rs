//! Who a client is, for the ledger and the rules of the rollout alike. Nothing is permitted by it: part
//! of it is what a client says of itself.

use crate::call::{Attested, Caller, Process};
use crate::proto::opdbus::v1::ClientIdentity;

/// The client behind a caller that calls itself `name`. It may read files of `/proc` the first time for
/// a process, so it does not belong on the path of a call.
#[must_use]
pub fn identity(caller: &Caller, name: Option<&str>) -> ClientIdentity {
    let token = match &caller.attested {
        Attested::Token(name) | Attested::Certificate(name) => Some(&**name),
        Attested::Kernel | Attested::Bus | Attested::Service | Attested::Nobody => None,
    };
    of(caller.uid(), token, caller.process.as_deref(), name)
}

pub(super) fn of(
    uid: Option<u32>,
    token: Option<&str>,
    process: Option<&Process>,
    name: Option<&str>,
) -> ClientIdentity {
    let client = process.and_then(Process::client);
    ClientIdentity {
        uid: uid.unwrap_or_default(),
        unknown: uid.is_none(),
        executable: client.map(|client| client.program.clone()).unwrap_or_default(),
        unit: client.and_then(|client| client.unit.clone()).unwrap_or_default(),
        token: token.unwrap_or_default().to_owned(),
        name: name.unwrap_or_default().to_owned(),
        others: false,
    }
}
