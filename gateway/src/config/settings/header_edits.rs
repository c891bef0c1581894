//! `request_headers` and `response_headers` of a route: what is written, added and taken out.

use crate::config::ClaimFormat;

/// What a route does to the fields of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// `set`: these stand in place of whatever the message has under their names, even where their own value is absent.
    pub set: Vec<HeaderLine>,
    /// `add`: these come beside what the message has.
    pub add: Vec<HeaderLine>,
    /// `remove`: the message goes on without these.
    pub remove: Vec<String>,
}

impl HeaderEdits {
    /// Whether nothing is done.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// The names under which claims are told.
    pub fn names_of_claims(&self) -> impl Iterator<Item = &str> {
        let tells =
            |line: &&HeaderLine| line.value.iter().any(|part| matches!(part, ValuePart::Claim { .. }));
        self.set.iter().filter(tells).map(|line| line.name.as_str())
    }
}

/// A field that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderLine {
    /// Its name, in the spelling it is sent with.
    pub name: String,
    /// The parts of its value, in their order. Where one of them is absent, so is the field.
    pub value: Vec<ValuePart>,
}

/// A part of a field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValuePart {
    /// Text, visible ASCII and blanks.
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
    /// `{client_address}`: an IP address, as far as trusted proxies tell.
    ClientAddress,
    /// `{host}`: what the request was sent to, with its port.
    Host,
}
