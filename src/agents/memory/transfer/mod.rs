//! Export and Import: keys leave and enter the store as text.

mod export;
mod import;
mod line;
mod lines;

pub(super) use export::export;
pub(super) use import::import;

use crate::error::Error;
use crate::proto::opdbus::agent::memory::v1::ExportFormat;

/// There is one format.
fn check_format(field: &str, format: i32) -> Result<(), Error> {
    match ExportFormat::try_from(format) {
        Ok(ExportFormat::Unspecified | ExportFormat::JsonLines) => Ok(()),
        Err(_unknown) => Err(Error::invalid(field, "is none there is")),
    }
}
