//! HeaderField names: which of them mean something to a proxy, also under spellings that some upstreams fold together.

/// One header field as it was received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeaderField<'h> {
    pub(crate) kind: HeaderKind,
    pub(crate) name: &'h [u8],
    pub(crate) value: &'h [u8],
}

/// What a field's name means to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderKind {
    AccessControl,
    Authorization,
    Connection,
    ContentEncoding,
    ContentLength,
    ContentType,
    Date,
    Expect,
    Host,
    IfNoneMatch,
    MaxForwards,
    Origin,
    RequestMethod,
    TransferEncoding,
    Upgrade,
    /// `Via` and `CDN-Loop`: who has passed the message on.
    Via,
    Vary,
    Forwarded,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    XRequestId,
    /// Removed in both directions (RFC 9110 section 7.6.1).
    HopByHop,
    /// Removed from requests: some upstreams let it override the address, the path or the method, or `Proxy`.
    RoutingOverride,
    /// A spelling that folds to one of the names above without being it, such as `Transfer_Encoding`: never
    /// interpreted, never forwarded.
    UnderscoreAlias,
    /// End-to-end and of no interest here.
    Other,
}

/// The byte that upstreams such as CGI see for a byte of a name: letters in lower case, digits, and `-` for the rest.
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
    /// The meaning of `name`. Only the plain spelling (letters, digits, `-`) earns a meaning.
    pub(crate) fn of(name: &[u8]) -> HeaderKind {
        if name.is_empty() || name.len() > LONGEST {
            return HeaderKind::Other;
        }
        let first = FOLD[name[0] as usize];
        // Most names have neither length and first letter of a known one, and are done with.
        if FIRSTS[name.len()] & letter(first) != 0 {
            let (folded, is_plain) = folded(name);
            let same_length = STARTS[name.len()] as usize..STARTS[name.len() + 1] as usize;
            if let Some(at) = same_length.into_iter().find(|&at| WIDE[at] == folded) {
                return if is_plain { NAMES[at].1 } else { HeaderKind::UnderscoreAlias };
            }
        }
        match first == b'x' && OVERRIDING.iter().any(|family| begins_with(name, family)) {
            true => HeaderKind::RoutingOverride,
            false => HeaderKind::Other,
        }
    }
}

/// A name with zeros behind it, as wide for all, so that names are folded and compared many bytes at once.
type Wide = [u8; WIDTH];
const WIDTH: usize = 48;

/// A name of at most [`LONGEST`] bytes, folded, and whether nothing but case was.
fn folded(name: &[u8]) -> (Wide, bool) {
    let mut wide = [0; WIDTH];
    wide[..name.len()].copy_from_slice(name);
    let mut is_plain = true;
    // Without branches, so that it is compiled to vector instructions.
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

/// Families of names that are removed from requests.
const OVERRIDING: [&[u8]; 2] = [b"x-forwarded-", b"x-envoy-"];

/// The longest name that is looked up.
const LONGEST: usize = 40;

/// Every name that means something, in lower case; sorted by length, for few names share one.
const NAMES: [(&[u8], HeaderKind); 52] = [
    (b"te", HeaderKind::HopByHop),
    (b"via", HeaderKind::Via),
    (b"date", HeaderKind::Date),
    (b"host", HeaderKind::Host),
    (b"vary", HeaderKind::Vary),
    (b"proxy", HeaderKind::RoutingOverride),
    (b"expect", HeaderKind::Expect),
    (b"origin", HeaderKind::Origin),
    (b"x-host", HeaderKind::RoutingOverride),
    (b"trailer", HeaderKind::HopByHop),
    (b"upgrade", HeaderKind::Upgrade),
    (b"cdn-loop", HeaderKind::Via),
    (b"forwarded", HeaderKind::Forwarded),
    (b"x-real-ip", HeaderKind::RoutingOverride),
    (b"connection", HeaderKind::Connection),
    (b"keep-alive", HeaderKind::HopByHop),
    (b"x-client-ip", HeaderKind::RoutingOverride),
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

/// [`NAMES`] as they are compared.
static WIDE: [Wide; NAMES.len()] = {
    let mut wide = [[0; WIDTH]; NAMES.len()];
    let mut at = 0;
    while at < NAMES.len() {
        let name = NAMES[at].0;
        let mut byte = 0;
        while byte < name.len() {
            wide[at][byte] = name[byte];
            byte += 1;
        }
        at += 1;
    }
    wide
};

/// A bit for a letter; digits and `-` share theirs with letters.
const fn letter(byte: u8) -> u32 {
    1 << (byte & 31)
}

/// The letters with which the names of each length begin.
const FIRSTS: [u32; LONGEST + 1] = {
    let mut firsts = [0; LONGEST + 1];
    let mut at = 0;
    while at < NAMES.len() {
        firsts[NAMES[at].0.len()] |= letter(NAMES[at].0[0]);
        at += 1;
    }
    firsts
};

/// Where the names of each length start in [`NAMES`], and behind the last length its end.
const STARTS: [u8; LONGEST + 2] = {
    let mut starts = [NAMES.len() as u8; LONGEST + 2];
    let mut at = NAMES.len();
    while at > 0 {
        at -= 1;
        assert!(at == 0 || NAMES[at - 1].0.len() <= NAMES[at].0.len(), "NAMES are sorted by length");
        let mut length = NAMES[at].0.len();
        // Also for the lengths just below that no name has.
        while length > 0 && (at == 0 || length > NAMES[at - 1].0.len()) {
            starts[length] = at as u8;
            length -= 1;
        }
    }
    starts[0] = 0;
    starts
};

impl<'h> HeaderField<'h> {
    /// The members of a comma-separated list (RFC 9110 section 5.6.1), without the blanks around them.
    pub(crate) fn members(&self) -> impl Iterator<Item = &'h [u8]> + use<'h> {
        self.value.split(|&b| b == b',').map(|m| m.trim_ascii()).filter(|m| !m.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_and_its_neighbours_are_not() {
        for (name, kind) in NAMES {
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
