//! What the operator said: read from TOML and the environment, checked as a whole, reported as a whole.

mod settings;

pub use settings::*;
