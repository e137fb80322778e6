//! Who may run what: rules on the parsed arguments and on the file that is really executed.

mod rule;

pub use rule::{Decision, Rule};
