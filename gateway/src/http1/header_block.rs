//! Header blocks: preformatted header lines in wire format.

/// Names and values of lines that the gateway generated, each `Name: value` with its CRLF.
pub(crate) fn split_lines(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines.split(|&byte| byte == b'\n').filter_map(|line| {
        let line = line.strip_suffix(b"\r")?;
        let colon = memchr::memchr(b':', line)?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_into_names_and_values() {
        let cut = |lines: &'static str| split_lines(lines.as_bytes()).collect::<Vec<_>>();
        assert_eq!(cut("A: b\r\nC:d:e \r\n"), [(&b"A"[..], &b"b"[..]), (b"C", b"d:e")]);
        assert_eq!(cut("Empty:\r\n"), [(&b"Empty"[..], &b""[..])]);
        assert!(cut("").is_empty() && cut("no colon\r\n").is_empty() && cut("A: no end").is_empty());
    }
}
