//! The `commands` agent: runs programs with the rights of the caller. How a program is confined and ended
//! is `process`'s.

mod config;

pub use config::Config;
