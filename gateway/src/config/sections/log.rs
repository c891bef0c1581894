//! `[log]`: logs on standard error.

use tracing_subscriber::EnvFilter;

use super::prelude::*;

section! {
    /// Logs on standard error.
    pub struct Log {
        /// error, warn, info, debug, trace, off, or a filter such as "info,auth_gateway=debug".
        level: String = text(filter).default("info");
        /// "human", "json", or "auto": human on a terminal.
        format: LogFormat = choice().default("auto");
        /// The access log: one line for each request.
        access: bool = boolean().default("true");
    }
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// For programs: one JSON object per line.
    Json,
}

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// A filter. One that is a single word must be a level: tracing would take a misspelt one for a module's name
/// and log nothing.
fn filter(text: &str) -> Result<String, InvalidValue> {
    let word = text.trim();
    let is_word = word.chars().all(|c| c.is_ascii_alphanumeric());
    if is_word && !LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word)) {
        let message = format!("unknown log level {}", quoted(text));
        return Err(InvalidValue::unknown(message, "known levels", word, &LEVELS));
    }
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|_| {
        InvalidValue::new(format!("{} is not a log filter", quoted(text)))
            .help("write a level such as \"info\", or \"info,auth_gateway=debug\"")
    })
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{load_diagnostics, minimal, settings};
    use super::*;

    #[test]
    fn levels_and_filters_pass() {
        for level in ["info", "DEBUG", "off", "info,auth_gateway=debug", "auth_gateway::proxy=trace"] {
            let log = settings(minimal() + &format!("[log]\nlevel = \"{level}\"\nformat = \"json\"")).log;
            assert_eq!((log.level.as_str(), log.format, log.access), (level, LogFormat::Json, true));
        }
    }

    #[test]
    fn what_would_log_nothing_is_refused() {
        for (config, message, help) in [
            ("level = \"inof\"", "unknown log level `inof`", "did you mean `info`?"),
            ("level = \"\"", "unknown log level", "known levels: error"),
            ("level = \"auth_gateway=loud\"", "is not a log filter", "auth_gateway=debug"),
            ("format = \"xml\"", "unknown value `xml`", "known values: auto, human, json"),
            ("access = \"yes\"", "expected true or false, found string `yes`", ""),
        ] {
            load_diagnostics(minimal() + "[log]\n" + config).only(message, help);
        }
    }
}
