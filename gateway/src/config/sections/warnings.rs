//! `[warnings]`: silenced warnings.

use crate::config::declaration::{section, texts};
use crate::config::diagnostic::WARNINGS;
use crate::config::did_you_mean::suggest;
use crate::config::entry::{InvalidValue, quoted};

section! {
    /// Silenced warnings, for what is intended.
    pub struct Warnings {
        /// Names of warnings, as printed in brackets: warning[plain-http].
        silence: Vec<String> = texts(name).or_empty().example("[\"plain-http\"]");
    }
}

fn name(text: &str) -> Result<String, InvalidValue> {
    match WARNINGS.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(InvalidValue {
            message: format!("there is no warning {}", quoted(text)),
            help: suggest("warnings", text, &WARNINGS),
        }),
    }
}
