//! An attack case as encoded in `cases.json`.

use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Debug, Deserialize)]
pub(super) struct Case {
    pub(super) id: String,
    pub(super) category: String,
    pub(super) kind: String,
    pub(super) description: String,
    how: String,
    pub(super) expect: String,
    raw: Option<String>,
    pub(super) token: Option<Map<String, Value>>,
    pub(super) setup: Option<String>,
    #[serde(default, rename = "assert")]
    pub(super) asserts: Map<String, Value>,
}

impl Case {
    pub(super) fn all() -> Vec<Case> {
        serde_json::from_str(include_str!("cases.json")).unwrap()
    }

    /// The template of what is sent: one character is one byte.
    pub(super) fn template(&self) -> &str {
        self.raw.as_deref().unwrap_or(&self.how)
    }
}

/// What is left out or read differently, and why: CONTRACT.md wins where a case and it differ.
pub(super) const LEFT_OUT: &[(&str, &str)] = &[(
    "TOK-038",
    "the Wycheproof vectors bring keys of their own; `modified_rsa_padding_is_refused` makes such signatures",
)];

/// Cases whose expected statuses follow from the contract instead.
pub(super) const ADAPTED: &[(&str, &[u16], &str)] =
    &[("RFR-005", &[200], "the refresh token travels in Authorization, so this is a good refresh")];
