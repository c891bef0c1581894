//! Header field names: which of them have a meaning to a proxy, including spellings that some upstreams
//! normalise to the same name.

/// A header field as it was received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeaderField<'h> {
    pub(crate) kind: HeaderKind,
    pub(crate) name: &'h [u8],
    pub(crate) value: &'h [u8],
}

/// The meaning of a field's name to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderKind {
    AccessControl,
    Authorization,
    Connection,
    ContentEncoding,
    ContentLength,
    ContentType,
    Cookie,
    Date,
    /// A proof of possession (RFC 9449).
    Dpop,
    Expect,
    Host,
    IfNoneMatch,
    MaxForwards,
    Origin,
    RequestMethod,
    /// `traceparent` (W3C trace context).
    TraceParent,
    /// `tracestate`
    TraceState,
    TransferEncoding,
    Upgrade,
    /// `Via` and `CDN-Loop`: who has passed the message on.
    Via,
    SetCookie,
    Vary,
    Forwarded,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    XRequestId,
    /// Hop-by-hop, removed in both directions (RFC 9110 section 7.6.1).
    HopByHop,
    /// Removed from requests: some upstreams let it override the client address, the path or the method; or
    /// `Proxy`.
    RoutingOverride,
    /// Normalises to one of the names above without being it, such as `Transfer_Encoding`: never interpreted,
    /// never forwarded.
    UnderscoreAlias,
    /// End-to-end without a special meaning.
    Other,
}

/// A byte of a name as normalised by CGI and the like: letters in lower case, digits, and `-` for the rest.
pub(crate) const fn fold(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' => byte + 32,
        b'a'..=b'z' | b'0'..=b'9' => byte,
        _ => b'-',
    }
}

const FOLD: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = fold(i as u8);
        i += 1;
    }
    table
};

impl HeaderKind {
    /// Whether the field belongs to one connection or frames one message (RFC 9110 section 7.6.1, RFC 9112 section 6): the
    /// gateway writes it anew, and never forwards it.
    pub(crate) fn is_of_connection(self) -> bool {
        matches!(
            self,
            HeaderKind::Connection
                | HeaderKind::HopByHop
                | HeaderKind::Upgrade
                | HeaderKind::TransferEncoding
                | HeaderKind::ContentLength
        )
    }

    /// The kind of `name`. Only the plain spelling (letters, digits, `-`) gets a meaning.
    pub(crate) fn of(name: &[u8]) -> HeaderKind {
        if name.is_empty() || name.len() > MAX_NAME_LEN {
            return HeaderKind::Other;
        }
        let first = FOLD[name[0] as usize];
        // Fast path: most names match no known name in length and first letter.
        if FIRST_LETTERS_BY_LENGTH[name.len()] & letter(first) != 0 {
            let same_length = LENGTH_STARTS[name.len()] as usize..LENGTH_STARTS[name.len() + 1] as usize;
            // Nearly all senders spell a known name in one of two ways.
            let usual = |at: &usize| {
                let lower = KNOWN_HEADERS[*at].0;
                lower[0] == first && (name == &TITLE_CASE_NAMES[*at][..name.len()] || name == lower)
            };
            if let Some(at) = same_length.clone().find(usual) {
                return KNOWN_HEADERS[at].1;
            }
            let (folded, is_plain) = folded(name);
            if let Some(at) = same_length.into_iter().find(|&at| PADDED_NAMES[at] == folded) {
                return if is_plain { KNOWN_HEADERS[at].1 } else { HeaderKind::UnderscoreAlias };
            }
        }
        match first == b'x' && OVERRIDE_PREFIXES.iter().any(|family| begins_with(name, family)) {
            true => HeaderKind::RoutingOverride,
            false => HeaderKind::Other,
        }
    }
}

/// A name padded with zeros to a fixed width, so that names are folded and compared many bytes at once.
type PaddedName = [u8; PADDED_LEN];
const PADDED_LEN: usize = 48;

/// A name of at most [`MAX_NAME_LEN`] bytes, folded, and whether only its case differed.
fn folded(name: &[u8]) -> (PaddedName, bool) {
    let mut wide = [0; PADDED_LEN];
    wide[..name.len()].copy_from_slice(name);
    let mut is_plain = true;
    // Branch-free, so that it is vectorised.
    for byte in &mut wide {
        let lower = byte.to_ascii_lowercase();
        let stays = lower.is_ascii_lowercase() | lower.is_ascii_digit() | (lower == b'-') | (lower == 0);
        is_plain &= stays;
        *byte = if stays { lower } else { b'-' };
    }
    (wide, is_plain)
}

fn begins_with(name: &[u8], known: &[u8]) -> bool {
    name.len() >= known.len() && known.iter().zip(name).all(|(&known, &byte)| known == FOLD[byte as usize])
}

/// Prefixes of names that are removed from requests.
const OVERRIDE_PREFIXES: [&[u8]; 2] = [b"x-forwarded-", b"x-envoy-"];

/// The longest name that is looked up, in bytes.
const MAX_NAME_LEN: usize = 40;

/// Every name with a meaning, in lower case; sorted by length, for few names share one.
const KNOWN_HEADERS: [(&[u8], HeaderKind); 57] = [
    (b"te", HeaderKind::HopByHop),
    (b"via", HeaderKind::Via),
    (b"date", HeaderKind::Date),
    (b"dpop", HeaderKind::Dpop),
    (b"host", HeaderKind::Host),
    (b"vary", HeaderKind::Vary),
    (b"proxy", HeaderKind::RoutingOverride),
    (b"cookie", HeaderKind::Cookie),
    (b"expect", HeaderKind::Expect),
    (b"origin", HeaderKind::Origin),
    (b"x-host", HeaderKind::RoutingOverride),
    (b"trailer", HeaderKind::HopByHop),
    (b"upgrade", HeaderKind::Upgrade),
    (b"cdn-loop", HeaderKind::Via),
    (b"forwarded", HeaderKind::Forwarded),
    (b"x-real-ip", HeaderKind::RoutingOverride),
    (b"connection", HeaderKind::Connection),
    (b"set-cookie", HeaderKind::SetCookie),
    (b"keep-alive", HeaderKind::HopByHop),
    (b"tracestate", HeaderKind::TraceState),
    (b"x-client-ip", HeaderKind::RoutingOverride),
    (b"traceparent", HeaderKind::TraceParent),
    (b"x-forwarded", HeaderKind::RoutingOverride),
    (b"content-type", HeaderKind::ContentType),
    (b"max-forwards", HeaderKind::MaxForwards),
    (b"x-request-id", HeaderKind::XRequestId),
    (b"authorization", HeaderKind::Authorization),
    (b"if-none-match", HeaderKind::IfNoneMatch),
    (b"x-http-method", HeaderKind::RoutingOverride),
    (b"x-rewrite-url", HeaderKind::RoutingOverride),
    (b"content-length", HeaderKind::ContentLength),
    (b"http2-settings", HeaderKind::HopByHop),
    (b"true-client-ip", HeaderKind::RoutingOverride),
    (b"x-original-uri", HeaderKind::RoutingOverride),
    (b"x-original-url", HeaderKind::RoutingOverride),
    (b"x-forwarded-for", HeaderKind::XForwardedFor),
    (b"x-original-host", HeaderKind::RoutingOverride),
    (b"cf-connecting-ip", HeaderKind::RoutingOverride),
    (b"content-encoding", HeaderKind::ContentEncoding),
    (b"proxy-connection", HeaderKind::HopByHop),
    (b"x-forwarded-host", HeaderKind::XForwardedHost),
    (b"transfer-encoding", HeaderKind::TransferEncoding),
    (b"x-forwarded-proto", HeaderKind::XForwardedProto),
    (b"x-method-override", HeaderKind::RoutingOverride),
    (b"x-original-method", HeaderKind::RoutingOverride),
    (b"proxy-authenticate", HeaderKind::HopByHop),
    (b"proxy-authorization", HeaderKind::HopByHop),
    (b"x-cluster-client-ip", HeaderKind::RoutingOverride),
    (b"access-control-max-age", HeaderKind::AccessControl),
    (b"x-http-method-override", HeaderKind::RoutingOverride),
    (b"proxy-authentication-info", HeaderKind::HopByHop),
    (b"access-control-allow-origin", HeaderKind::AccessControl),
    (b"access-control-allow-headers", HeaderKind::AccessControl),
    (b"access-control-allow-methods", HeaderKind::AccessControl),
    (b"access-control-expose-headers", HeaderKind::AccessControl),
    (b"access-control-request-method", HeaderKind::RequestMethod),
    (b"access-control-allow-credentials", HeaderKind::AccessControl),
];

/// [`KNOWN_HEADERS`] in the form in which they are compared.
const PADDED_NAMES: [PaddedName; KNOWN_HEADERS.len()] = {
    let mut wide = [[0; PADDED_LEN]; KNOWN_HEADERS.len()];
    let mut at = 0;
    while at < KNOWN_HEADERS.len() {
        let name = KNOWN_HEADERS[at].0;
        let mut byte = 0;
        while byte < name.len() {
            wide[at][byte] = name[byte];
            byte += 1;
        }
        at += 1;
    }
    wide
};

/// [`PADDED_NAMES`] as most clients and servers spell them: a capital at the front and behind each `-`.
static TITLE_CASE_NAMES: [PaddedName; KNOWN_HEADERS.len()] = {
    let mut names = PADDED_NAMES;
    let mut at = 0;
    while at < names.len() {
        let mut byte = 0;
        while byte < PADDED_LEN {
            if byte == 0 || names[at][byte - 1] == b'-' {
                names[at][byte] = names[at][byte].to_ascii_uppercase();
            }
            byte += 1;
        }
        at += 1;
    }
    names
};

/// A bit for a letter; digits and `-` share theirs with letters.
const fn letter(byte: u8) -> u32 {
    1 << (byte & 31)
}

/// Bit set of the first letters of the names of each length.
const FIRST_LETTERS_BY_LENGTH: [u32; MAX_NAME_LEN + 1] = {
    let mut firsts = [0; MAX_NAME_LEN + 1];
    let mut at = 0;
    while at < KNOWN_HEADERS.len() {
        firsts[KNOWN_HEADERS[at].0.len()] |= letter(KNOWN_HEADERS[at].0[0]);
        at += 1;
    }
    firsts
};

/// Index in [`KNOWN_HEADERS`] of the first name of each length, followed by the end.
const LENGTH_STARTS: [u8; MAX_NAME_LEN + 2] = {
    let mut starts = [KNOWN_HEADERS.len() as u8; MAX_NAME_LEN + 2];
    let mut at = KNOWN_HEADERS.len();
    while at > 0 {
        at -= 1;
        assert!(
            at == 0 || KNOWN_HEADERS[at - 1].0.len() <= KNOWN_HEADERS[at].0.len(),
            "KNOWN_HEADERS are sorted by length"
        );
        let mut length = KNOWN_HEADERS[at].0.len();
        // Including shorter lengths without a name.
        while length > 0 && (at == 0 || length > KNOWN_HEADERS[at - 1].0.len()) {
            starts[length] = at as u8;
            length -= 1;
        }
    }
    starts[0] = 0;
    starts
};

impl<'h> HeaderField<'h> {
    /// The members of a comma-separated list (RFC 9110 section 5.6.1), trimmed.
    pub(crate) fn members(&self) -> impl DoubleEndedIterator<Item = &'h [u8]> + use<'h> {
        self.value.split(|&b| b == b',').map(|m| m.trim_ascii()).filter(|m| !m.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_and_its_neighbours_are_not() {
        for (name, kind) in KNOWN_HEADERS {
            assert_eq!(HeaderKind::of(name), kind, "{}", String::from_utf8_lossy(name));
            assert_eq!(HeaderKind::of(&name.to_ascii_uppercase()), kind);
            let (longer, mut other) = ([name, b"z"].concat(), name.to_vec());
            other[name.len() - 1] = b'0';
            for neighbour in [longer, other] {
                let kind = HeaderKind::of(&neighbour);
                assert!(matches!(kind, HeaderKind::Other | HeaderKind::RoutingOverride), "{neighbour:?}");
            }
        }
    }

    #[test]
    fn names_are_compared_without_case() {
        assert_eq!(HeaderKind::of(b"Transfer-Encoding"), HeaderKind::TransferEncoding);
        assert_eq!(HeaderKind::of(b"HOST"), HeaderKind::Host);
        assert_eq!(HeaderKind::of(b"accept"), HeaderKind::Other);
    }

    #[test]
    fn spellings_that_fold_to_a_meaningful_name_are_aliases() {
        for name in ["Transfer_Encoding", "content.length", "X_Forwarded_For", "Host!", "proxy_authorization"]
        {
            let folds_to_longer = name == "Host!";
            let kind = HeaderKind::of(name.as_bytes());
            assert_eq!(
                kind,
                if folds_to_longer { HeaderKind::Other } else { HeaderKind::UnderscoreAlias },
                "{name}"
            );
        }
        assert_eq!(HeaderKind::of(b"X_Custom"), HeaderKind::Other);
    }

    #[test]
    fn families_of_overriding_names_are_known_by_their_prefix() {
        assert_eq!(HeaderKind::of(b"X-Forwarded-Prefix"), HeaderKind::RoutingOverride);
        assert_eq!(HeaderKind::of(b"x-envoy-original-path"), HeaderKind::RoutingOverride);
    }
}
