//! Property: an admitted target means the same to all parsers.

use http::Method;

use crate::http1::CanonicalTarget;

/// The first byte selects the method, the rest is the target.
pub fn target(input: &[u8]) {
    let Some((&choice, raw)) = input.split_first() else { return };
    let method = [Method::GET, Method::OPTIONS, Method::POST][usize::from(choice) % 3].clone();
    let Ok(target) = CanonicalTarget::parse(&method, raw) else { return };
    let (whole, path) = (target.as_str(), target.path());
    if whole == "*" {
        assert!(method == Method::OPTIONS && raw == b"*");
        return;
    }
    // What is forwarded is what was received, or its origin form where it had an authority, or `/` where it
    // had no path.
    let absolute = target.authority().is_some();
    assert!(raw == whole.as_bytes() || absolute && (raw.ends_with(whole.as_bytes()) || whole == "/"));
    assert!(whole.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{whole:?}");
    let is_odd = target.oddity().is_some();
    assert!(path.starts_with('/') && !path.contains('\\') && !path.contains('?'));
    assert!(is_odd || !path.contains("//"));

    let decoded = decode_simply(path);
    assert!(decoded.iter().all(|byte| *byte >= b' ' && *byte != 0x7f), "{path:?}");
    assert!(is_odd || !decoded.contains(&b'\\'), "{path:?}");
    for segment in decoded.split(|byte| b"/\\".contains(byte)) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        assert!(name != b"." && name != b"..", "{path:?}");
    }
    if target.has_encoded_slash() {
        assert!(path.to_ascii_lowercase().contains("%2f"));
    } else if !is_odd {
        assert_eq!(target.decoded_path().as_bytes(), decoded, "{path:?}");
        assert_eq!(decoded.iter().filter(|byte| **byte == b'/').count(), path.matches('/').count());
    }

    let again =
        CanonicalTarget::parse(&method, whole.as_bytes()).expect("what was admitted is admitted again");
    assert_eq!((again.as_str(), again.decoded_path()), (whole, target.decoded_path()));
    for prefix in ["/a", "/a/b"] {
        let below = target.below(prefix);
        assert!(whole.ends_with(below));
        assert!(below.is_empty() || below.starts_with('/') || below.starts_with('?'), "{below:?}");
        assert!(is_odd || !below.starts_with("//"), "{below:?}");
    }
}

/// Percent-decoding as a CGI server does it, for every escape.
fn decode_simply(path: &str) -> Vec<u8> {
    let bytes = path.as_bytes();
    let (mut decoded, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| path.get(at + 1..at + 3)).flatten();
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}
