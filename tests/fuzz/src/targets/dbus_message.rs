//! Messages of D-Bus that are made of any bytes. Who takes them is not known here.

use zbus::Message;
use zbus::wire::Endian;
use zbus::wire::serialized::{Context, Data};

/// The parts of a little-endian method call; an empty one is left out.
#[derive(Clone, Copy, Default)]
pub(super) struct Call<'a> {
    pub(super) flags: u8,
    pub(super) serial: u32,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    pub(super) sender: &'a str,
    pub(super) signature: &'a str,
    pub(super) body: &'a [u8],
}

impl Call<'_> {
    /// The message; `None` if its header cannot be one.
    pub(super) fn message(&self) -> Option<Message> {
        let mut fields = Vec::new();
        for (code, kind, value) in [
            (1, b'o', self.path),
            (2, b's', self.interface),
            (3, b's', self.member),
            (7, b's', self.sender),
            (8, b'g', self.signature),
        ] {
            if value.is_empty() {
                continue;
            }
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
        let mut bytes = vec![b'l', 1, self.flags, 1];
        bytes.extend(u32::try_from(self.body.len()).ok()?.to_le_bytes());
        bytes.extend(self.serial.to_le_bytes());
        bytes.extend(u32::try_from(fields.len()).ok()?.to_le_bytes());
        bytes.extend(fields);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend(self.body);
        read(bytes)
    }
}

/// What zbus takes for a message.
#[expect(
    unsafe_code,
    reason = "that nothing goes wrong with bytes that nobody checked is what is tried"
)]
pub(super) fn read(bytes: Vec<u8>) -> Option<Message> {
    let endian = if bytes.first() == Some(&b'B') { Endian::Big } else { Endian::Little };
    // SAFETY: zbus checks what it parses, and again what it reads of the body.
    unsafe { Message::from_bytes(Data::new(bytes, Context::new(endian, 0))) }.ok()
}
