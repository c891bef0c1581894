//! Header edits of a route: fields that are removed, and fields that are added, with templates.

use std::rc::Rc;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::client_addr::ClientAddr;
use crate::config::{self, HeaderLine, ValuePart};
use crate::http1::{HeaderNameSet, RequestHead};
use crate::identity::claim_format::push_claim;
use crate::identity::{Identity, MAX_VALUE_LEN};
use crate::rejection::Rejection;
use crate::telemetry::RequestId;

/// The edits of one route and direction, compiled. `None` for routes without any.
#[derive(Debug)]
pub(crate) struct HeaderEdits {
    taken_out: HeaderNameSet,
    written: Vec<Written>,
}

/// What is added.
#[derive(Debug)]
enum Written {
    /// Static lines in wire format.
    Lines(Vec<u8>),
    /// A line whose value depends on the request.
    Line(HeaderLine),
}

/// Values for templates.
#[derive(Clone, Copy)]
pub(crate) struct HeaderTemplateContext<'a> {
    pub(crate) head: &'a RequestHead,
    pub(crate) client: &'a ClientAddr,
    pub(crate) trusted_proxies: &'a [IpNet],
    pub(crate) request_id: &'a RequestId,
    pub(crate) host: &'a str,
    pub(crate) identity: Option<&'a Rc<Identity>>,
}

impl HeaderEdits {
    /// `None` where there are no edits.
    pub(crate) fn new(settings: &config::HeaderEdits) -> Option<HeaderEdits> {
        if settings.is_empty() {
            return None;
        }
        let set_names = settings.set.iter().map(|line| line.name.as_str());
        let taken_out = HeaderNameSet::new(set_names.chain(settings.remove.iter().map(String::as_str)));
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

    /// Whether a field of the message with that name is removed, or replaced.
    pub(crate) fn remove_edited(&self, name: &[u8]) -> bool {
        self.taken_out.contains(name)
    }

    /// Appends the added fields in wire format.
    pub(crate) fn push_lines(
        &self,
        context: HeaderTemplateContext<'_>,
        lines: &mut Vec<u8>,
    ) -> Result<(), Rejection> {
        for written in &self.written {
            match written {
                Written::Lines(fixed) => lines.extend_from_slice(fixed),
                Written::Line(line) => push_line(line, context, lines)?,
            }
        }
        Ok(())
    }

    /// Removes fields from a response.
    pub(crate) fn remove_from(&self, headers: &mut HeaderMap) {
        let taken_out = headers.keys().filter(|name| self.remove_edited(name.as_str().as_bytes()));
        let taken_out: Vec<HeaderName> = taken_out.cloned().collect();
        for name in taken_out {
            headers.remove(name);
        }
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

/// A field is left out if a part of its value is absent.
fn push_line(
    line: &HeaderLine,
    context: HeaderTemplateContext<'_>,
    lines: &mut Vec<u8>,
) -> Result<(), Rejection> {
    let start = lines.len();
    lines.extend_from_slice(line.name.as_bytes());
    lines.extend_from_slice(b": ");
    let value_start = lines.len();
    for part in &line.value {
        if !push_part(part, context, lines) {
            lines.truncate(start);
            return Ok(());
        }
    }
    if lines.len() - value_start > MAX_VALUE_LEN {
        return Err(Rejection::ClaimTooLarge);
    }
    lines.extend_from_slice(b"\r\n");
    Ok(())
}

/// Appends a part of a value, if it is present. No part can end the line: text and host are visible ASCII and
/// blanks, ids and addresses are generated or validated, and claims are encoded.
fn push_part(part: &ValuePart, context: HeaderTemplateContext<'_>, out: &mut Vec<u8>) -> bool {
    match part {
        ValuePart::Text(text) => out.extend_from_slice(text.as_bytes()),
        ValuePart::RequestId => out.extend_from_slice(context.request_id.as_bytes()),
        ValuePart::Host => out.extend_from_slice(context.host.as_bytes()),
        ValuePart::ClientAddress => {
            let address = context.client.address(context.head, context.trusted_proxies);
            out.extend_from_slice(address.to_string().as_bytes());
        }
        ValuePart::Claim { name, format } => {
            let claim = context.identity.and_then(|identity| identity.claims().get(name));
            return claim.is_some_and(|claim| push_claim(claim, format, out));
        }
    }
    true
}
