//! The request that an upstream gets: the client's, cleaned, with what the gateway knows added.

use std::io::Write as _;

use http::Method;

use crate::auth::identity::{Identity, IdentityHeaders};
use crate::client_addr::Client;
use crate::http1::{BodyFraming, Field, FieldKind};
use crate::layers::admission::Admitted;
use crate::proxy::header_edits::HeaderEdits;
use crate::proxy::via::Via;
use crate::proxy::websocket::Handshake;

/// The head of a request as it goes to an upstream. Only [`UpstreamRequest::new`] makes one, out of an admitted
/// request, so what was judged is what is sent.
#[derive(Debug)]
pub(crate) struct UpstreamRequest {
    head: Vec<u8>,
}

/// What a route and a connection add to a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Additions<'a> {
    /// What the target begins with: nothing, or whole segments.
    pub(crate) prefix: &'a str,
    /// Path and query, byte for byte from the admitted target: empty, or from a `/` or the `?` on. So nothing that is put
    /// together of these two has an empty segment, or anything else that the admitted target could not have.
    pub(crate) target: &'a str,
    /// What the upstream sees as `Host`, if not what the client sent.
    pub(crate) host: Option<&'a str>,
    pub(crate) identity: Option<&'a Identity>,
    pub(crate) identity_headers: &'a IdentityHeaders,
    pub(crate) forward_token: bool,
    /// What the route takes out of the client's fields.
    pub(crate) edits: Option<&'a HeaderEdits>,
    /// What the route writes, ready for the wire.
    pub(crate) edit_lines: &'a [u8],
    /// Whom it comes from.
    pub(crate) client: &'a Client,
    pub(crate) via: &'a Via,
    pub(crate) request_id: &'a [u8],
    /// The WebSocket that it asks for.
    pub(crate) upgrade: Option<&'a Handshake<'a>>,
}

impl UpstreamRequest {
    /// The order is the point (CVE-2024-45410): first everything goes that belongs to one hop or that the client
    /// only claims, then what was verified comes in, where nothing can take it out again.
    pub(crate) fn new(request: &Admitted<'_>, add: Additions<'_>) -> UpstreamRequest {
        let mut head = Vec::with_capacity(1024);
        head.extend_from_slice(request.method().as_str().as_bytes());
        head.push(b' ');
        head.extend_from_slice(add.prefix.as_bytes());
        if add.prefix.is_empty() && !add.target.starts_with('/') {
            head.push(b'/');
        }
        head.extend_from_slice(add.target.as_bytes());
        head.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        head.extend_from_slice(add.host.unwrap_or(request.host().as_str()).as_bytes());
        head.extend_from_slice(b"\r\n");

        let nominated = request.head().fields().nominated();
        for field in request.head().fields().iter() {
            if passes(&field, add) && !nominated.contains(field.name) {
                push_line(&mut head, field.name, field.value);
            }
        }
        if let Some(identity) = add.identity {
            head.extend_from_slice(identity.header_lines());
        }
        head.extend_from_slice(add.edit_lines);
        add.client.push_forwarding_lines(request.head(), request.host().as_str(), &mut head);
        push_line(&mut head, b"X-Request-Id", add.request_id);
        head.extend_from_slice(add.via.line(request.head().version()));
        match add.upgrade {
            Some(handshake) => handshake.push_lines(&mut head),
            None => push_framing(&mut head, request),
        }
        head.extend_from_slice(b"\r\n");
        UpstreamRequest { head }
    }

    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }
}

/// Whether a field of the client's may reach the upstream.
fn passes(field: &Field<'_>, add: Additions<'_>) -> bool {
    match field.kind {
        FieldKind::Authorization => {
            add.forward_token && !add.edits.is_some_and(|edits| edits.take_out(field.name))
        }
        FieldKind::Connection
        | FieldKind::HopByHop
        | FieldKind::Upgrade
        | FieldKind::TransferEncoding
        | FieldKind::ContentLength
        | FieldKind::Expect
        | FieldKind::Host
        | FieldKind::Forwarded
        | FieldKind::XForwardedFor
        | FieldKind::XForwardedHost
        | FieldKind::XForwardedProto
        | FieldKind::XRequestId
        | FieldKind::Override
        | FieldKind::Alias => false,
        _ => {
            !add.identity_headers.reserves(field.name)
                && !add.edits.is_some_and(|edits| edits.take_out(field.name))
                && !add.upgrade.is_some_and(|handshake| handshake.rewrites(field.name))
        }
    }
}

/// The framing is written from what was understood, never copied.
fn push_framing(head: &mut Vec<u8>, request: &Admitted<'_>) {
    let expects_body = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    match request.framing() {
        // Writing to a Vec does not fail.
        BodyFraming::Length(n) => drop(write!(head, "Content-Length: {n}\r\n")),
        BodyFraming::Chunked => head.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyFraming::Empty if expects_body => head.extend_from_slice(b"Content-Length: 0\r\n"),
        BodyFraming::Empty | BodyFraming::UntilClose => {}
    }
}

fn push_line(head: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    head.extend_from_slice(name);
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}
