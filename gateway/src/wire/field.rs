//! Field names: which of them mean something to a proxy, also under spellings that some upstreams fold together.

/// One header field as it was received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'h> {
    pub(crate) kind: FieldKind,
    pub(crate) name: &'h [u8],
    pub(crate) value: &'h [u8],
}

/// What a field's name means to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldKind {
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
    Override,
    /// A spelling that folds to one of the names above without being it, such as `Transfer_Encoding`: never
    /// interpreted, never forwarded.
    Alias,
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

impl FieldKind {
    /// The meaning of `name`. Only the plain spelling (letters, digits, `-`) earns a meaning.
    pub(crate) fn of(name: &[u8]) -> FieldKind {
        const LONGEST: usize = 40;
        if name.len() > LONGEST {
            return FieldKind::Other;
        }
        let mut folded = [0_u8; LONGEST];
        let mut plain = true;
        for (to, &from) in folded.iter_mut().zip(name) {
            *to = FOLD[from as usize];
            plain &= *to != b'-' || from == b'-';
        }
        let kind = FieldKind::of_folded(&folded[..name.len()]);
        if plain || kind == FieldKind::Other { kind } else { FieldKind::Alias }
    }

    fn of_folded(name: &[u8]) -> FieldKind {
        match name {
            b"authorization" => FieldKind::Authorization,
            b"connection" => FieldKind::Connection,
            b"content-encoding" => FieldKind::ContentEncoding,
            b"content-length" => FieldKind::ContentLength,
            b"content-type" => FieldKind::ContentType,
            b"date" => FieldKind::Date,
            b"expect" => FieldKind::Expect,
            b"host" => FieldKind::Host,
            b"if-none-match" => FieldKind::IfNoneMatch,
            b"max-forwards" => FieldKind::MaxForwards,
            b"origin" => FieldKind::Origin,
            b"access-control-request-method" => FieldKind::RequestMethod,
            b"transfer-encoding" => FieldKind::TransferEncoding,
            b"upgrade" => FieldKind::Upgrade,
            b"via" => FieldKind::Via,
            b"vary" => FieldKind::Vary,
            b"forwarded" => FieldKind::Forwarded,
            b"x-forwarded-for" => FieldKind::XForwardedFor,
            b"x-forwarded-host" => FieldKind::XForwardedHost,
            b"x-forwarded-proto" => FieldKind::XForwardedProto,
            b"x-request-id" => FieldKind::XRequestId,
            b"keep-alive"
            | b"proxy-connection"
            | b"te"
            | b"trailer"
            | b"http2-settings"
            | b"proxy-authorization"
            | b"proxy-authenticate"
            | b"proxy-authentication-info" => FieldKind::HopByHop,
            b"proxy"
            | b"x-real-ip"
            | b"x-original-url"
            | b"x-original-uri"
            | b"x-original-host"
            | b"x-original-method"
            | b"x-rewrite-url"
            | b"x-http-method"
            | b"x-http-method-override"
            | b"x-method-override"
            | b"true-client-ip"
            | b"cf-connecting-ip"
            | b"x-client-ip"
            | b"x-cluster-client-ip"
            | b"x-host"
            | b"x-forwarded" => FieldKind::Override,
            b"access-control-allow-origin"
            | b"access-control-allow-credentials"
            | b"access-control-allow-headers"
            | b"access-control-allow-methods"
            | b"access-control-expose-headers"
            | b"access-control-max-age" => FieldKind::AccessControl,
            _ if name.starts_with(b"x-forwarded-") || name.starts_with(b"x-envoy-") => FieldKind::Override,
            _ => FieldKind::Other,
        }
    }
}

impl Field<'_> {
    /// The members of a comma-separated list (RFC 9110 section 5.6.1), without the blanks around them.
    pub(crate) fn members(&self) -> impl Iterator<Item = &[u8]> {
        self.value.split(|&b| b == b',').map(|m| m.trim_ascii()).filter(|m| !m.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_case() {
        assert_eq!(FieldKind::of(b"Transfer-Encoding"), FieldKind::TransferEncoding);
        assert_eq!(FieldKind::of(b"HOST"), FieldKind::Host);
        assert_eq!(FieldKind::of(b"accept"), FieldKind::Other);
    }

    #[test]
    fn spellings_that_fold_to_a_meaningful_name_are_aliases() {
        for name in ["Transfer_Encoding", "content.length", "X_Forwarded_For", "Host!", "proxy_authorization"]
        {
            let folds_to_longer = name == "Host!";
            let kind = FieldKind::of(name.as_bytes());
            assert_eq!(kind, if folds_to_longer { FieldKind::Other } else { FieldKind::Alias }, "{name}");
        }
        assert_eq!(FieldKind::of(b"X_Custom"), FieldKind::Other);
    }

    #[test]
    fn families_of_overriding_names_are_known_by_their_prefix() {
        assert_eq!(FieldKind::of(b"X-Forwarded-Prefix"), FieldKind::Override);
        assert_eq!(FieldKind::of(b"x-envoy-original-path"), FieldKind::Override);
    }
}
