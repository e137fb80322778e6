//! Standard output: buffered, coloured only where that is wanted, with JSON as an option. What to
//! write is the commands' matter.

use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write};

use serde_json::Value;

use super::args::Color;

/// Standard output.
#[derive(Debug)]
pub(super) struct Output {
    out: BufWriter<StdoutLock<'static>>,
    json: bool,
    paint: Paint,
    error_paint: Paint,
    terminal: bool,
    width: Option<usize>,
}

impl Output {
    pub(super) fn new(json: bool, color: Color) -> Self {
        let stdout = io::stdout().lock();
        let terminal = stdout.is_terminal();
        let wanted = |terminal: bool| match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                terminal
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                    && std::env::var_os("TERM").is_none_or(|value| value != "dumb")
            }
        };
        let width = if terminal {
            terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
        } else {
            None
        };
        Self {
            paint: Paint(wanted(terminal)),
            error_paint: Paint(wanted(io::stderr().is_terminal())),
            out: BufWriter::new(stdout),
            json,
            terminal,
            width,
        }
    }

    /// True if JSON was asked for.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// The colours of standard output.
    pub(super) fn paint(&self) -> Paint {
        self.paint
    }

    /// The colours of standard error.
    pub(super) fn error_paint(&self) -> Paint {
        self.error_paint
    }

    /// True if standard output is a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// The width of the terminal in characters; `None` if the output goes elsewhere.
    pub(super) fn width(&self) -> Option<usize> {
        self.width
    }

    /// Writes a line.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.write_all(b"\n")
    }

    /// Writes a value after its name; the values of all facts line up.
    pub(super) fn fact(&mut self, name: &str, value: &str) -> io::Result<()> {
        let name = format!("{:<14}", clean(name));
        self.line(&format!("{} {}", self.paint.dim(&name), clean(value)))
    }

    /// Writes JSON as it is, on one line.
    pub(super) fn raw_json(&mut self, json: &str) -> io::Result<()> {
        self.line(json.trim_end())
    }

    /// Writes JSON indented for people; as it is if it is none.
    pub(super) fn pretty_json(&mut self, json: &str) -> io::Result<()> {
        match indented(json) {
            Some(text) => self.line(&text),
            None => self.line(&clean(json)),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// JSON indented, with the control characters escaped that JSON itself lets through.
fn indented(json: &str) -> Option<String> {
    let value: Value = serde_json::from_str(json).ok()?;
    let text = serde_json::to_string_pretty(&value).ok()?;
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if ('\u{7f}'..='\u{9f}').contains(&c) {
            safe.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            safe.push(c);
        }
    }
    Some(safe)
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    pub(super) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(super) fn red(self, text: &str) -> String {
        self.with("1;31", text)
    }

    pub(super) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(super) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// A text from elsewhere without the control characters that would steer the terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_steers_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\u{9b}c\nd"), "a\u{fffd}[2Jb\u{fffd}c\nd");
        let shown = indented("{\"b\":\"\u{9b}2J\",\"a\":[1]}").unwrap();
        assert_eq!(shown, "{\n  \"b\": \"\\u009b2J\",\n  \"a\": [\n    1\n  ]\n}");
        assert_eq!(indented("no JSON"), None);
    }
}
