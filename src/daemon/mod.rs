//! The composition root: the only place that knows everything.

pub mod compose;
