//! Tables: columns lined up, the last one wrapped to the terminal's width.

use std::io;

use super::output::{Output, clean};

/// The least width that the last column is wrapped to, however narrow the terminal is.
const MIN_LAST: usize = 24;

/// A table of text.
#[derive(Debug)]
pub(super) struct Table {
    headers: Vec<String>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns. A header that begins with `>` is of a column of numbers.
    pub(super) fn new(headers: &[&str]) -> Self {
        Self {
            right: headers.iter().map(|header| header.starts_with('>')).collect(),
            headers: headers
                .iter()
                .map(|header| header.trim_start_matches('>').to_owned())
                .collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; it has a cell for each column.
    pub(super) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows.push(cells.iter().map(|cell| clean(cell).replace(['\n', '\t'], " ")).collect());
    }

    /// Writes the table with its header.
    pub(super) fn write(&self, indent: usize, output: &mut Output) -> io::Result<()> {
        let lines = self.lines(indent, output.width());
        let paint = output.paint();
        for (index, line) in lines.iter().enumerate() {
            if index == 0 { output.line(&paint.bold(line))? } else { output.line(line)? }
        }
        Ok(())
    }

    /// The lines, the header first.
    fn lines(&self, indent: usize, width: Option<usize>) -> Vec<String> {
        let widths: Vec<usize> = (0..self.headers.len())
            .map(|column| {
                let cells = self.rows.iter().map(|row| length(&row[column]));
                cells.chain([length(&self.headers[column])]).max().unwrap_or_default()
            })
            .collect();
        let last = widths.len() - 1;
        let start = indent + widths[..last].iter().map(|width| width + 2).sum::<usize>();
        let room = width.map(|width| width.saturating_sub(start).max(MIN_LAST));
        let mut lines = Vec::new();
        for row in [&self.headers].into_iter().chain(&self.rows) {
            let mut line = " ".repeat(indent);
            for column in 0..last {
                line.push_str(&padded(&row[column], widths[column], self.right[column]));
                line.push_str("  ");
            }
            if self.right[last] {
                line.push_str(&padded(&row[last], widths[last], true));
                lines.push(line);
                continue;
            }
            let mut parts = wrap(&row[last], room).into_iter();
            line.push_str(&parts.next().unwrap_or_default());
            lines.push(line.trim_end().to_owned());
            lines.extend(parts.map(|part| format!("{}{part}", " ".repeat(start))));
        }
        lines
    }
}

fn padded(text: &str, width: usize, right: bool) -> String {
    let blank = " ".repeat(width.saturating_sub(length(text)));
    if right { blank + text } else { text.to_owned() + &blank }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// Breaks a text into lines of at most `room` characters, between words where there are any.
pub(super) fn wrap(text: &str, room: Option<usize>) -> Vec<String> {
    let Some(room) = room else { return vec![text.to_owned()] };
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && length(&line) + 1 + length(word) > room {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["ID", ">CALLS", "SUMMARY"]);
        table.row(["memory", "7", "Remembers values under keys, durably."]);
        table.row(["é", "1200", "Short\nand \u{1b}[31mred."]);
        table
    }

    #[test]
    fn columns_line_up_and_numbers_stand_right() {
        assert_eq!(
            table().lines(0, None),
            [
                "ID      CALLS  SUMMARY",
                "memory      7  Remembers values under keys, durably.",
                "é        1200  Short and \u{fffd}[31mred.",
            ]
        );
    }

    #[test]
    fn the_last_column_is_wrapped_to_the_terminal() {
        let lines = table().lines(2, Some(42));
        assert_eq!(lines[1], "  memory      7  Remembers values under");
        assert_eq!(lines[2], "                 keys, durably.");
        assert!(lines.iter().all(|line| length(line) <= 42), "{lines:?}");
    }

    #[test]
    fn a_narrow_terminal_leaves_the_last_column_readable() {
        let lines = table().lines(0, Some(10));
        assert_eq!(lines[1], "memory      7  Remembers values under");
    }
}
