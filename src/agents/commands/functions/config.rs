//! The bounds of what is kept of functions (`[commands]`).

/// How many functions there may be, and how large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many (`max_functions`).
    pub max_functions: usize,
    /// How many bytes one may have, encoded (`max_function_bytes`).
    pub max_function_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_functions: 256, max_function_bytes: 64 << 10 }
    }
}
