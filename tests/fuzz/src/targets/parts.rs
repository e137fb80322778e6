//! Takes an input apart. What the parts mean is the target's to say.

/// Takes the next byte off; 0 at the end.
pub(super) fn byte(input: &mut &[u8]) -> u8 {
    input.split_off_first().copied().unwrap_or_default()
}

/// Takes a text off that ends with a byte of 0, or with the input. What is no text is empty.
pub(super) fn text<'a>(input: &mut &'a [u8]) -> &'a str {
    let end = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (text, rest) = input.split_at(end);
    *input = rest.get(1..).unwrap_or_default();
    std::str::from_utf8(text).unwrap_or_default()
}
