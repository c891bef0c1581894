//! How a claim becomes the value of a header field: which of its values, and in which encoding.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::config::{ClaimEncoding, ClaimFormat};
use crate::tokens::ClaimValue;

/// Appends a claim as a field's value, if it can be one. Nothing that is appended can end the field.
pub(crate) fn push_claim(claim: ClaimValue<'_>, format: &ClaimFormat, out: &mut Vec<u8>) -> bool {
    if let Some(text) = &format.present {
        if is_present(claim) {
            encode(text, format.encoding, out);
        }
        return is_present(claim);
    }
    let Some((mut elements, is_list)) = elements(claim) else { return false };
    if !format.map.is_empty() {
        let mapped = elements.iter().filter_map(|element| format.map.get(&**element));
        let mapped: Vec<Cow<'_, str>> = mapped.map(|text| Cow::Borrowed(text.as_str())).collect();
        elements = Vec::new();
        mapped.into_iter().for_each(|text| {
            if !elements.contains(&text) {
                elements.push(text)
            }
        });
    }
    if !format.one_of.is_empty() {
        let chosen = format.one_of.iter().find(|wanted| elements.iter().any(|element| *element == **wanted));
        elements = chosen.map(|text| Cow::Borrowed(text.as_str())).into_iter().collect();
    }
    let is_chosen = !format.map.is_empty() || !format.one_of.is_empty();
    if elements.is_empty() && is_chosen {
        return false;
    }
    match (format.encoding, &elements[..]) {
        (ClaimEncoding::Percent, elements) => push_joined(elements, is_list, push_escaped, out),
        (ClaimEncoding::Utf8, elements) => push_joined(elements, is_list, push_raw, out),
        (encoding, [one]) if !is_list => encode(one, encoding, out),
        // The list is one text then; the commas of its elements are escaped as usual.
        (encoding, elements) => {
            let elements: Vec<String> =
                elements.iter().map(|element| element.replace('%', "%25").replace(',', "%2C")).collect();
            encode(&elements.join(","), encoding, out);
        }
    }
    true
}

/// What a claim says of itself by being there: not where it is false, null or empty.
fn is_present(claim: ClaimValue<'_>) -> bool {
    match claim {
        ClaimValue::Text(text) => !text.is_empty(),
        ClaimValue::Texts(texts) => !texts.is_empty(),
        ClaimValue::Number(_) => true,
        ClaimValue::Json(Value::Null | Value::Bool(false)) => false,
        ClaimValue::Json(Value::String(text)) => !text.is_empty(),
        ClaimValue::Json(Value::Array(elements)) => !elements.is_empty(),
        ClaimValue::Json(Value::Object(members)) => !members.is_empty(),
        ClaimValue::Json(_) => true,
    }
}

/// The texts of a claim, and whether they are a list; nothing for objects and lists of other things.
fn elements(claim: ClaimValue<'_>) -> Option<(Vec<Cow<'_, str>>, bool)> {
    let one = |text| Some((vec![text], false));
    match claim {
        ClaimValue::Text(text) => one(Cow::Borrowed(text)),
        ClaimValue::Json(Value::String(text)) => one(Cow::Borrowed(text)),
        ClaimValue::Texts(texts) => {
            Some((texts.iter().map(|text| Cow::Borrowed(text.as_str())).collect(), true))
        }
        ClaimValue::Number(number) => one(Cow::Owned(number.to_string())),
        ClaimValue::Json(Value::Array(elements)) => {
            let texts: Option<Vec<_>> =
                elements.iter().map(|element| element.as_str().map(Cow::Borrowed)).collect();
            Some((texts?, true))
        }
        ClaimValue::Json(scalar @ (Value::Number(_) | Value::Bool(_))) => one(Cow::Owned(scalar.to_string())),
        ClaimValue::Json(_) => None,
    }
}

fn push_joined(
    elements: &[Cow<'_, str>],
    is_list: bool,
    push: fn(&str, bool, &mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    for (place, element) in elements.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        push(element, is_list, out);
    }
}

fn encode(text: &str, encoding: ClaimEncoding, out: &mut Vec<u8>) {
    match encoding {
        ClaimEncoding::Percent => push_escaped(text, false, out),
        ClaimEncoding::Utf8 => push_raw(text, false, out),
        ClaimEncoding::Rfc8187 => push_extended(text, out),
        ClaimEncoding::Rfc2047 => push_encoded_words(text, out),
        ClaimEncoding::Base64 => out.extend_from_slice(STANDARD.encode(text).as_bytes()),
    }
}

fn push_escape(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("%{byte:02X}").as_bytes());
}

/// Percent-encodes every byte outside visible ASCII and `%` itself, and the comma where it separates elements.
fn push_escaped(text: &str, in_list: bool, out: &mut Vec<u8>) {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
        return out.extend_from_slice(text.as_bytes());
    }
    for &byte in text.as_bytes() {
        if byte.is_ascii_graphic() && byte != b'%' && !(in_list && byte == b',') {
            out.push(byte);
        } else {
            push_escape(byte, out);
        }
    }
}

/// UTF-8 as it is. Only what would end the field, vanish at its ends or separate elements is percent-encoded.
fn push_raw(text: &str, in_list: bool, out: &mut Vec<u8>) {
    let inner = text.trim().len();
    let start = text.len() - text.trim_start().len();
    for (at, c) in text.char_indices() {
        let at_an_end = at < start || at >= start + inner;
        if c.is_control() || at_an_end || (in_list && c == ',') {
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_escape(byte, out));
        } else {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

/// `UTF-8''text`, where all but attr-char is percent-encoded (RFC 8187 section 3.2.1).
fn push_extended(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"UTF-8''");
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            out.push(byte);
        } else {
            push_escape(byte, out);
        }
    }
}

/// An encoded word has at most 75 characters (RFC 2047 section 2): so many bytes of text in base64.
const ENCODED_WORD_BYTES: usize = 45;

/// Encoded words, where the text is not visible ASCII that could not be taken for one.
fn push_encoded_words(text: &str, out: &mut Vec<u8>) {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') && text.trim() == text;
    if is_plain && !text.contains("=?") {
        return out.extend_from_slice(text.as_bytes());
    }
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.len().min(ENCODED_WORD_BYTES);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (word, behind) = rest.split_at(end);
        out.extend_from_slice(format!("=?UTF-8?B?{}?=", STANDARD.encode(word)).as_bytes());
        if !behind.is_empty() {
            out.push(b' ');
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pushed(claim: &Value, format: &ClaimFormat) -> Option<String> {
        let mut out = Vec::new();
        let pushed = push_claim(ClaimValue::Json(claim), format, &mut out);
        assert!(!out.iter().any(|byte| byte.is_ascii_control()), "{claim}");
        pushed.then(|| String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn claim_values_cannot_break_out_of_their_field() {
        for (claim, value) in [
            (json!("alice"), Some("alice")),
            (json!("a\r\nX-Auth-Roles: admin"), Some("a%0D%0AX-Auth-Roles:%20admin")),
            (json!("root "), Some("root%20")),
            (json!("100%"), Some("100%25")),
            (json!("アリス"), Some("%E3%82%A2%E3%83%AA%E3%82%B9")),
            (json!(["user", "a,b"]), Some("user,a%2Cb")),
            (json!([]), Some("")),
            (json!(7), Some("7")),
            (json!({"$ne": 1}), None),
            (json!(null), None),
            (json!([{"a": 1}]), None),
        ] {
            assert_eq!(pushed(&claim, &ClaimFormat::default()).as_deref(), value, "{claim}");
        }
    }

    #[test]
    fn each_encoding_is_the_one_that_its_standard_describes() {
        use ClaimEncoding::*;
        let long = "é".repeat(40);
        for (encoding, claim, value) in [
            (Utf8, json!("Jürgen Müller"), "Jürgen Müller"),
            (Utf8, json!("100% \"x\" \\ o'y"), "100% \"x\" \\ o'y"),
            (Utf8, json!("a\r\nX-Auth-Roles: admin"), "a%0D%0AX-Auth-Roles: admin"),
            (Utf8, json!(" root\u{85}"), "%20root%C2%85"),
            (Utf8, json!(["ä", "b,c"]), "ä,b%2Cc"),
            (Rfc8187, json!("Jürgen Müller"), "UTF-8''J%C3%BCrgen%20M%C3%BCller"),
            (Rfc8187, json!("o'y*"), "UTF-8''o%27y%2A"),
            (Rfc8187, json!(["a", "b"]), "UTF-8''a%2Cb"),
            (Rfc2047, json!("alice"), "alice"),
            (Rfc2047, json!("Jürgen"), "=?UTF-8?B?SsO8cmdlbg==?="),
            (Rfc2047, json!("=?UTF-8?B?cm9vdA==?="), "=?UTF-8?B?PT9VVEYtOD9CP2NtOXZkQT09Pz0=?="),
            (Rfc2047, json!("a\r\nb"), "=?UTF-8?B?YQ0KYg==?="),
            (Base64, json!("Jürgen"), "SsO8cmdlbg=="),
            (Base64, json!(["a", "b,c"]), "YSxiJTJDYw=="),
            (Base64, json!(7), "Nw=="),
        ] {
            let format = ClaimFormat { encoding, ..ClaimFormat::default() };
            assert_eq!(pushed(&claim, &format).as_deref(), Some(value), "{encoding:?} {claim}");
        }
        let format = ClaimFormat { encoding: Rfc2047, ..ClaimFormat::default() };
        let words = pushed(&json!(long), &format).unwrap_or_default();
        assert!(words.split(' ').count() == 2 && words.split(' ').all(|word| word.len() <= 75), "{words}");
    }

    #[test]
    fn values_are_mapped_chosen_or_only_announced() {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
        };
        let grafana = ClaimFormat {
            map: map(&[("admin", "Admin"), ("boss", "Admin"), ("user", "Viewer")]),
            one_of: vec!["Admin".into(), "Viewer".into()],
            ..ClaimFormat::default()
        };
        let mapped = ClaimFormat { one_of: Vec::new(), ..grafana.clone() };
        let present = ClaimFormat { present: Some("true".into()), ..ClaimFormat::default() };
        for (format, claim, value) in [
            (&grafana, json!(["user", "admin"]), Some("Admin")),
            (&grafana, json!(["user", "x"]), Some("Viewer")),
            (&grafana, json!("user"), Some("Viewer")),
            (&grafana, json!(["x"]), None),
            (&grafana, json!([]), None),
            (&grafana, json!("Admin"), None),
            (&mapped, json!(["user", "boss", "admin", "x"]), Some("Viewer,Admin")),
            (&present, json!("x"), Some("true")),
            (&present, json!(true), Some("true")),
            (&present, json!({"a": 1}), Some("true")),
            (&present, json!(0), Some("true")),
            (&present, json!(false), None),
            (&present, json!(null), None),
            (&present, json!(""), None),
            (&present, json!([]), None),
        ] {
            assert_eq!(pushed(&claim, format).as_deref(), value, "{format:?} {claim}");
        }
    }
}
