//! protobuf's wire format: writing fields and reading them. It knows no message type.

/// The wire types that fields have. Groups are not among them: proto3 has none.
#[derive(Clone, Copy)]
enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

/// Writes the key of a field.
fn push_key(out: &mut Vec<u8>, number: u32, wire_type: WireType) {
    push_varint(out, u64::from(number) << 3 | wire_type as u64);
}

/// Writes a varint.
pub(crate) fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

/// The low seven bits.
fn low_bits(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

/// Writes a field that is a varint.
pub(crate) fn push_varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    push_key(out, number, WireType::Varint);
    push_varint(out, value);
}

/// Writes a field of four bytes.
pub(crate) fn push_fixed32_field(out: &mut Vec<u8>, number: u32, value: u32) {
    push_key(out, number, WireType::Fixed32);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Writes a field of eight bytes.
pub(crate) fn push_fixed64_field(out: &mut Vec<u8>, number: u32, value: u64) {
    push_key(out, number, WireType::Fixed64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Writes a field that is a string or bytes.
pub(crate) fn push_bytes_field(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    push_key(out, number, WireType::Bytes);
    push_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Begins a field that is a message; what is written until [`close`] is its content.
pub(crate) fn open(out: &mut Vec<u8>, number: u32) -> usize {
    push_key(out, number, WireType::Bytes);
    out.len()
}

/// Ends the message that began at `start`. Its length is known only now and takes its place before
/// the content.
pub(crate) fn close(out: &mut Vec<u8>, start: usize) {
    let length = (out.len() - start) as u64;
    if length < 0x80 {
        out.insert(start, low_bits(length));
        return;
    }
    let mut varint = Vec::with_capacity(10);
    push_varint(&mut varint, length);
    out.splice(start..start, varint);
}

/// Signed numbers as protobuf's `sint` types write them.
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl Payload<'_> {
    /// True if it is what a field without presence holds when it was not written.
    pub(crate) fn is_default(&self) -> bool {
        match self {
            Self::Varint(value) | Self::Fixed64(value) => *value == 0,
            Self::Fixed32(value) => *value == 0,
            Self::Bytes(bytes) => bytes.is_empty(),
        }
    }
}

/// The bytes are no protobuf message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Malformed;

/// Reads the fields of a message in the order in which they were written.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Reader<'a> {
    type Item = Result<(u32, Payload<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Reader<'a> {
    fn field(&mut self) -> Result<(u32, Payload<'a>), Malformed> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| Malformed)?;
        if number == 0 {
            return Err(Malformed);
        }
        let payload = match key & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Fixed64(self.fixed64()?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Payload::Bytes(self.take(length)?)
            }
            5 => Payload::Fixed32(self.fixed32()?),
            _ => return Err(Malformed),
        };
        Ok((number, payload))
    }

    /// One varint, as packed lists hold them without keys.
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = *self.array::<1>()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    /// Eight bytes, as packed lists hold them without keys.
    pub(crate) fn fixed64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(*self.array()?))
    }

    /// Four bytes, as packed lists hold them without keys.
    pub(crate) fn fixed32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(*self.array()?))
    }

    /// True if all was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}
