//! Cuts a text into the pieces that are kept or left out as a whole: blocks of code, lines, and the
//! sentences of long lines. Nothing is lost: the pieces in their order are the text.

/// A line of up to so many bytes is one piece, however many sentences it has.
const SHORT_LINE: usize = 80;

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit<'a> {
    pub(super) text: &'a str,
    /// True if it is a block between two fences.
    pub(super) is_code: bool,
}

/// The pieces of a text.
pub(super) fn units(text: &str) -> Vec<Unit<'_>> {
    let mut units = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (line, after) = rest.split_at(line_end(rest));
        if is_fence(line) {
            let length = block_length(rest);
            let (block, after) = rest.split_at(length);
            units.push(Unit { text: block, is_code: true });
            rest = after;
        } else {
            push_line(line, &mut units);
            rest = after;
        }
    }
    units
}

/// Where the first line ends, with the empty lines around it: they are no pieces of their own.
fn line_end(text: &str) -> usize {
    let mut end = 0;
    let mut has_text = false;
    for line in text.split_inclusive('\n') {
        let is_blank = line.trim().is_empty();
        if has_text && !is_blank {
            break;
        }
        has_text |= !is_blank;
        end += line.len();
    }
    end
}

fn is_fence(line: &str) -> bool {
    line.trim_start().starts_with("```")
}

/// The length of the block that a text begins with: to its closing fence, or to the end of the text.
fn block_length(text: &str) -> usize {
    let mut length = line_end(text);
    while length < text.len() {
        let line = &text[length..length + line_end(&text[length..])];
        length += line.len();
        if is_fence(line) {
            break;
        }
    }
    length
}

fn push_line<'a>(line: &'a str, units: &mut Vec<Unit<'a>>) {
    let mut rest = line;
    if line.len() > SHORT_LINE {
        let mut from = 0;
        while let Some(end) = sentence_end(&rest[from..]) {
            from += end;
            if !rest[from..].trim().is_empty() {
                let (sentence, after) = rest.split_at(from);
                units.push(Unit { text: sentence, is_code: false });
                (rest, from) = (after, 0);
            }
        }
    }
    units.push(Unit { text: rest, is_code: false });
}

/// Where the first sentence ends, with the blanks after it.
fn sentence_end(text: &str) -> Option<usize> {
    let mut characters = text.char_indices().peekable();
    while let Some((_, character)) = characters.next() {
        let ends = match character {
            '.' | '!' | '?' => characters.peek().is_some_and(|(_, next)| next.is_whitespace()),
            '。' | '！' | '？' => true,
            _ => false,
        };
        if ends {
            while characters.next_if(|(_, next)| next.is_whitespace()).is_some() {}
            return Some(characters.peek().map_or(text.len(), |(at, _)| *at));
        }
    }
    None
}
