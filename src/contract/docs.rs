//! The comments of a `.proto` file, found by the place of the element they belong to.

use std::collections::HashMap;

use prost_reflect::FileDescriptor;

/// The comments of one file.
pub(super) struct Docs(HashMap<Vec<i32>, String>);

impl Docs {
    /// Reads the comments that `file` was compiled with.
    pub(super) fn of(file: &FileDescriptor) -> Self {
        let proto = file.file_descriptor_proto();
        let locations = proto.source_code_info.iter().flat_map(|info| &info.location);
        Self(
            locations
                .filter_map(|location| {
                    let text = location.leading_comments.as_deref()?;
                    Some((location.path.clone(), tidy(text)))
                })
                .collect(),
        )
    }

    /// The comment of the element at `path`; empty if it has none.
    pub(super) fn at(&self, path: &[i32]) -> &str {
        self.0.get(path).map_or("", String::as_str)
    }
}

/// Takes off the blank that follows `//` on each line and the white space around the whole.
fn tidy(comment: &str) -> String {
    let lines: Vec<&str> =
        comment.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
    lines.join("\n").trim().to_owned()
}

/// The first sentence of a documentation text, on one line.
pub(super) fn summary(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    match paragraph.find(". ") {
        Some(end) => paragraph[..=end].to_owned(),
        None => paragraph,
    }
}
