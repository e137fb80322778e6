//! The settings of the commands agent (`[commands]`). They are checked where the configuration is.

use serde::{Deserialize, Serialize};

/// The settings of the commands agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {}
