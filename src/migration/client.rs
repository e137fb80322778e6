//! A client as rules name it and the ledger keeps it. Most of it is what the client says of itself, so
//! nothing is authorized by it.

use crate::call::{Attested, Caller, Process};
use crate::proto::opdbus::v1::ClientIdentity;

/// Who made a call. The program and its unit are looked up only when they are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    uid: Option<u32>,
    token: &'a str,
    name: &'a str,
    program: Program<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Program<'a> {
    Process(Option<&'a Process>),
    Known { executable: &'a str, unit: &'a str },
}

impl<'a> Client<'a> {
    /// The client of `caller`, which calls itself `name`.
    #[must_use]
    pub fn of(caller: &'a Caller, name: Option<&'a str>) -> Self {
        let token = match &caller.attested {
            Attested::Token(name) | Attested::Certificate(name) => name,
            Attested::Kernel | Attested::Bus | Attested::Service | Attested::Nobody => "",
        };
        Self {
            uid: caller.uid(),
            token,
            name: name.unwrap_or_default(),
            program: Program::Process(caller.process.as_deref()),
        }
    }

    /// The client that `identity` describes.
    #[must_use]
    pub fn described(identity: &'a ClientIdentity) -> Self {
        let ClientIdentity { uid, unknown, executable, unit, token, name, .. } = identity;
        let uid = if *unknown { None } else { Some(*uid) };
        Self { uid, token, name, program: Program::Known { executable, unit } }
    }

    /// The user.
    #[must_use]
    pub const fn uid(&self) -> Option<u32> {
        self.uid
    }

    /// The name of its token or certificate; empty without one.
    #[must_use]
    pub const fn token(&self) -> &'a str {
        self.token
    }

    /// What it calls itself; empty if it does not.
    #[must_use]
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// Its program, as `/usr/bin/op-chat`; where that cannot be seen, the name of its command; empty if
    /// neither can.
    #[must_use]
    pub fn executable(&self) -> &'a str {
        match self.program {
            Program::Process(process) => {
                let program = process.and_then(Process::client);
                program.map(|program| program.program.as_str()).unwrap_or_default()
            }
            Program::Known { executable, .. } => executable,
        }
    }

    /// Its systemd unit, as `op-chat.service`; empty if it has none.
    #[must_use]
    pub fn unit(&self) -> &'a str {
        match self.program {
            Program::Process(process) => {
                let program = process.and_then(Process::client);
                program.and_then(|program| program.unit.as_deref()).unwrap_or_default()
            }
            Program::Known { unit, .. } => unit,
        }
    }
}
