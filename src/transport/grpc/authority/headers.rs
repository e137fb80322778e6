//! Follows one header block in HPACK form, byte by byte, and overwrites what is illegal in a literal
//! `:authority`. Which name an index means is known only for the static table.

const NAME: &[u8] = b":authority";
/// The place of `:authority` in HPACK's static table.
const NAME_INDEX: u32 = 1;
/// What stands in for an illegal byte.
const STAND_IN: u8 = b'-';
/// An integer that takes more bytes than this is no HPACK that a client means.
const MAX_INTEGER_BYTES: u8 = 4;

/// The block is no HPACK.
#[derive(Debug)]
pub(super) struct Malformed;

/// The position in a header block.
#[derive(Debug)]
pub(super) struct Headers {
    state: State,
    /// True if the value to come is that of `:authority`.
    is_authority: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// At the first byte of a field.
    Field,
    /// At the first byte of a name or a value.
    Length(Part),
    /// Further in an integer.
    Integer { what: Integer, value: u32, seen: u8 },
    /// In a name; so many bytes are left, so many of `:authority` were met.
    Name { left: u32, met: Option<u8> },
    /// In a value.
    Value { left: u32, kind: Value },
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Name,
    Value,
}

/// What an integer counts.
#[derive(Clone, Copy, Debug)]
enum Integer {
    /// An indexed field or a table size: nothing follows.
    Whole,
    /// The index of a literal field's name: its value follows.
    NameIndex,
    /// The length of a string.
    Length { part: Part, huffman: bool },
}

/// What to do with a value's bytes.
#[derive(Clone, Copy, Debug)]
enum Value {
    /// Nothing.
    Foreign,
    /// An authority that has been legal so far; true at its first byte.
    Legal { first: bool },
    /// A socket's path.
    Path,
}

impl Headers {
    /// At the begin of a block.
    pub(super) fn new() -> Self {
        Self { state: State::Field, is_authority: false }
    }

    /// Takes the next byte and makes it legal.
    pub(super) fn byte(&mut self, byte: &mut u8) -> Result<(), Malformed> {
        self.state = match self.state {
            State::Field => self.field(*byte),
            State::Length(part) => {
                let what = Integer::Length { part, huffman: *byte & 0x80 != 0 };
                self.integer(what, *byte, 0x7f)
            }
            State::Integer { what, value, seen } => self.more(what, value, seen, *byte)?,
            State::Name { left, met } => self.name(left, met, *byte),
            State::Value { left, kind } => value(left, kind, byte),
        };
        Ok(())
    }

    fn field(&mut self, byte: u8) -> State {
        self.is_authority = false;
        match byte {
            // An indexed field.
            0x80.. => self.integer(Integer::Whole, byte, 0x7f),
            // A literal that enters the table.
            0x40.. => self.literal(byte, 0x3f),
            // A new size of the table.
            0x20.. => self.integer(Integer::Whole, byte, 0x1f),
            // A literal that does not enter the table.
            _ => self.literal(byte, 0x0f),
        }
    }

    fn literal(&mut self, byte: u8, mask: u8) -> State {
        if byte & mask == 0 {
            State::Length(Part::Name)
        } else {
            self.integer(Integer::NameIndex, byte, mask)
        }
    }

    /// Reads the first byte of an integer, which has the bits of `mask`.
    fn integer(&mut self, what: Integer, byte: u8, mask: u8) -> State {
        let value = u32::from(byte & mask);
        if byte & mask == mask {
            State::Integer { what, value, seen: 0 }
        } else {
            self.counted(what, value)
        }
    }

    /// Reads a further byte of an integer: seven bits, lowest first.
    fn more(&mut self, what: Integer, value: u32, seen: u8, byte: u8) -> Result<State, Malformed> {
        if seen == MAX_INTEGER_BYTES {
            return Err(Malformed);
        }
        let value = value.saturating_add(u32::from(byte & 0x7f) << (7 * u32::from(seen)));
        Ok(if byte & 0x80 == 0 {
            self.counted(what, value)
        } else {
            State::Integer { what, value, seen: seen + 1 }
        })
    }

    fn counted(&mut self, what: Integer, value: u32) -> State {
        match what {
            Integer::Whole => State::Field,
            Integer::NameIndex => {
                self.is_authority = value == NAME_INDEX;
                State::Length(Part::Value)
            }
            Integer::Length { part: Part::Name, .. } if value == 0 => State::Length(Part::Value),
            Integer::Length { part: Part::Name, huffman } => {
                State::Name { left: value, met: (!huffman).then_some(0) }
            }
            Integer::Length { part: Part::Value, .. } if value == 0 => State::Field,
            Integer::Length { part: Part::Value, huffman } => {
                let kind = match self.is_authority && !huffman {
                    true => Value::Legal { first: true },
                    false => Value::Foreign,
                };
                State::Value { left: value, kind }
            }
        }
    }

    fn name(&mut self, left: u32, met: Option<u8>, byte: u8) -> State {
        let met = met.filter(|met| NAME.get(usize::from(*met)) == Some(&byte)).map(|met| met + 1);
        if left > 1 {
            return State::Name { left: left - 1, met };
        }
        self.is_authority = met.is_some_and(|met| usize::from(met) == NAME.len());
        State::Length(Part::Value)
    }
}

/// Takes one byte of a value.
fn value(left: u32, kind: Value, byte: &mut u8) -> State {
    let kind = match kind {
        Value::Foreign => Value::Foreign,
        Value::Legal { first } if begins_path(first, *byte) || !is_legal(*byte) => Value::Path,
        Value::Legal { .. } => Value::Legal { first: false },
        Value::Path => Value::Path,
    };
    // A colon or a bracket is legal in an authority, but not wherever a path may have it.
    if matches!(kind, Value::Path) && !is_plain(*byte) {
        *byte = STAND_IN;
    }
    if left > 1 { State::Value { left: left - 1, kind } } else { State::Field }
}

/// True if no authority begins with this byte, but a path may.
fn begins_path(first: bool, byte: u8) -> bool {
    first && !byte.is_ascii_alphanumeric() && byte != b'['
}

/// True for a byte that may stand somewhere in an authority.
fn is_legal(byte: u8) -> bool {
    is_plain(byte) || b"!$&'()*+,;=:[]@".contains(&byte)
}

/// True for a byte that may stand anywhere in an authority.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}
