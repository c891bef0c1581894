//! What a route does to header fields: what it takes out, and what it writes, with what is known of the request.

use std::net::IpAddr;
use std::rc::Rc;

use ipnet::IpNet;

use crate::auth::identity::{Identity, MAX_VALUE_LEN, push_value};
use crate::client_addr::Client;
use crate::config::{self, HeaderLine, ValuePart};
use crate::pipeline::Exchange;
use crate::proxy::header_name_set::FoldedNames;
use crate::rejection::{Code, Rejection};
use crate::response::Response;

/// The edits of one route and direction, prepared. Routes without any have none of these.
#[derive(Debug)]
pub(crate) struct HeaderEdits {
    taken_out: FoldedNames,
    written: Vec<Written>,
}

/// What is written.
#[derive(Debug)]
enum Written {
    /// Lines that are the same for every request, ready for the wire.
    Lines(Vec<u8>),
    /// A line whose value depends on the request.
    Line(HeaderLine),
}

/// What is known of a request when fields are written.
#[derive(Clone, Copy)]
pub(crate) struct Occasion<'a> {
    pub(crate) exchange: &'a Exchange<'a>,
    pub(crate) client: &'a Client,
    pub(crate) trusted_proxies: &'a [IpNet],
    pub(crate) identity: Option<&'a Rc<Identity>>,
}

impl Occasion<'_> {
    fn client_address(&self) -> IpAddr {
        self.client.address(self.exchange.request.head(), self.trusted_proxies)
    }
}

impl HeaderEdits {
    /// `None` where there is nothing to do.
    pub(crate) fn new(settings: &config::HeaderEdits) -> Option<HeaderEdits> {
        if settings.is_empty() {
            return None;
        }
        let set_names = settings.set.iter().map(|line| line.name.as_str());
        let taken_out = FoldedNames::new(set_names.chain(settings.remove.iter().map(String::as_str)));
        let mut written = Vec::new();
        for line in settings.set.iter().chain(&settings.add) {
            match (fixed_line(line), written.last_mut()) {
                (None, _) => written.push(Written::Line(line.clone())),
                (Some(fixed), Some(Written::Lines(lines))) => lines.extend_from_slice(&fixed),
                (Some(fixed), _) => written.push(Written::Lines(fixed)),
            }
        }
        Some(HeaderEdits { taken_out, written })
    }

    /// Whether a field that the message has under that name goes, be it because another takes its place.
    pub(crate) fn take_out(&self, name: &[u8]) -> bool {
        self.taken_out.contains(name)
    }

    /// Appends what is written, ready for the wire.
    pub(crate) fn push_lines(&self, occasion: Occasion<'_>, lines: &mut Vec<u8>) -> Result<(), Rejection> {
        for written in &self.written {
            match written {
                Written::Lines(fixed) => lines.extend_from_slice(fixed),
                Written::Line(line) => push_line(line, occasion, lines)?,
            }
        }
        Ok(())
    }

    /// Edits an answer.
    pub(crate) fn apply(&self, occasion: Occasion<'_>, response: &mut Response<'_>) -> Result<(), Rejection> {
        let mut lines = Vec::new();
        self.push_lines(occasion, &mut lines)?;
        response.fields.retain(|name| !self.take_out(name));
        response.fields.push_lines(&lines);
        Ok(())
    }
}

fn fixed_line(line: &HeaderLine) -> Option<Vec<u8>> {
    let mut fixed = format!("{}: ", line.name);
    for part in &line.value {
        let ValuePart::Text(text) = part else { return None };
        fixed.push_str(text);
    }
    fixed.push_str("\r\n");
    Some(fixed.into_bytes())
}

/// A value of which a part is absent is not half written: then there is no such field.
fn push_line(line: &HeaderLine, occasion: Occasion<'_>, lines: &mut Vec<u8>) -> Result<(), Rejection> {
    let start = lines.len();
    lines.extend_from_slice(line.name.as_bytes());
    lines.extend_from_slice(b": ");
    let value_start = lines.len();
    for part in &line.value {
        if !push_part(part, occasion, lines) {
            lines.truncate(start);
            return Ok(());
        }
    }
    if lines.len() - value_start > MAX_VALUE_LEN {
        return Err(Rejection::new(Code::HeadersTooLarge, "a claim is too large for a header field"));
    }
    lines.extend_from_slice(b"\r\n");
    Ok(())
}

/// Appends a part of a value, if there is one. None of them can end the line: text and host are visible ASCII and blanks,
/// ids and addresses are made here or were checked, and claims are encoded.
fn push_part(part: &ValuePart, occasion: Occasion<'_>, out: &mut Vec<u8>) -> bool {
    match part {
        ValuePart::Text(text) => out.extend_from_slice(text.as_bytes()),
        ValuePart::RequestId => out.extend_from_slice(occasion.exchange.request_id.as_bytes()),
        ValuePart::Host => out.extend_from_slice(occasion.exchange.request.host().as_str().as_bytes()),
        ValuePart::ClientAddress => {
            out.extend_from_slice(occasion.client_address().to_string().as_bytes());
        }
        ValuePart::Claim(name) => {
            let claim = occasion.identity.and_then(|identity| identity.claims().get(name));
            return claim.is_some_and(|claim| push_value(claim, out));
        }
    }
    true
}
