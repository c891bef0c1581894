//! `[warnings]`: silenced warnings.

use super::prelude::*;
use crate::config::diagnostic::WARNINGS;

section! {
    /// Silenced warnings, for what is intended.
    pub struct Warnings {
        /// Names of warnings, as printed in brackets: warning[plain-http].
        silence: Vec<String> = texts(name).or_empty().example("[\"plain-http\"]");
    }
}

fn name(text: &str) -> Result<String, InvalidValue> {
    let known: Vec<&str> = WARNINGS.split(' ').collect();
    match known.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(InvalidValue::unknown(
            format!("there is no warning {}", quoted(text)),
            "warnings",
            text,
            &known,
        )),
    }
}
