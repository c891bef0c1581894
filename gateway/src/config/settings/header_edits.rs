//! `request_headers` and `response_headers` of a route: fields that are set, added and removed.

use crate::config::ClaimFormat;

/// What a route does to the fields of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// `set`: replace all fields of the message with their names, even where their own value is absent.
    pub set: Vec<HeaderLine>,
    /// `add`: are added to the fields of the message.
    pub add: Vec<HeaderLine>,
    /// `remove`: are removed from the message.
    pub remove: Vec<String>,
}

impl HeaderEdits {
    /// Whether there are no edits.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// The names of fields whose value contains a claim.
    pub fn names_of_claims(&self) -> impl Iterator<Item = &str> {
        let contains_claim =
            |line: &&HeaderLine| line.value.iter().any(|part| matches!(part, ValuePart::Claim { .. }));
        self.set.iter().filter(contains_claim).map(|line| line.name.as_str())
    }
}

/// A field that is set or added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderLine {
    /// Its name, in the spelling it is sent with.
    pub name: String,
    /// The parts of its value, in order. If one of them is absent, so is the field.
    pub value: Vec<ValuePart>,
}

/// A part of a field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValuePart {
    /// Text: visible ASCII and blanks.
    Text(String),
    /// `{claims.NAME}`: encoded as in identity headers; absent without an identity, without the claim, and where it is
    /// an object.
    Claim {
        /// Its name.
        name: String,
        /// How it becomes text.
        format: ClaimFormat,
    },
    /// `{request_id}`
    RequestId,
    /// `{client_address}`: the client's IP address, as reported by trusted proxies.
    ClientAddress,
    /// `{host}`: the host of the request, with its port.
    Host,
}
