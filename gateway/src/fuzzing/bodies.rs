//! Property: chunked bodies and response heads are decoded the same in one piece and in many.

use crate::http1::{ChunkDecoder, ResponseHead, ResponseLimits, Step};

/// The first byte is the size of the pieces, the rest a chunked body.
pub fn chunked(input: &[u8]) {
    let Some((&size, body)) = input.split_first() else { return };
    let whole = decode(body, body.len().max(1));
    let pieces = decode(body, usize::from(size).max(1));
    match (&whole, &pieces) {
        (Some(whole), Some(pieces)) => assert_eq!(whole, pieces),
        // A prefix may not yet show an error, but an error stays one.
        (None, None) => {}
        _ => panic!("{whole:?} in one piece, {pieces:?} in pieces of {size}"),
    }
    if let Some((data, true, used)) = whole {
        assert_eq!(naive(&body[..used]).as_deref(), Some(&data[..]));
    }
}

/// The data, whether it is complete, and how many bytes it took.
fn decode(body: &[u8], size: usize) -> Option<(Vec<u8>, bool, usize)> {
    let mut decoder = ChunkDecoder::new();
    let (mut data, mut held, mut used) = (Vec::new(), Vec::new(), 0);
    let mut pieces = body.chunks(size);
    loop {
        match decoder.step(&held).ok()? {
            Step::Data(n) => {
                data.extend(held.drain(..n));
                used += n;
            }
            Step::Skip(n) => {
                held.drain(..n);
                used += n;
            }
            Step::End => return Some((data, true, used)),
            Step::NeedMore => match pieces.next() {
                Some(piece) => held.extend_from_slice(piece),
                None => return Some((data, false, used)),
            },
        }
    }
}

/// Reference decoder: a complete body, with nothing checked but sizes.
fn naive(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let end = body.windows(2).position(|pair| pair == b"\r\n")?;
        let digits: Vec<u8> = body[..end].iter().copied().take_while(u8::is_ascii_hexdigit).collect();
        let size = usize::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?;
        body = &body[end + 2..];
        if size == 0 {
            return body.ends_with(b"\r\n").then_some(data);
        }
        data.extend_from_slice(body.get(..size)?);
        body = body.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

/// A response head of an upstream.
pub fn response_head(input: &[u8]) {
    let mut head = ResponseHead::default();
    let Ok(Some(length)) = head.parse(input, &ResponseLimits::default()) else { return };
    assert!(length <= input.len() && input[..length].ends_with(b"\n"));
    for field in head.headers().iter() {
        assert!(
            !field.name.is_empty() && !field.value.iter().any(|byte| b"\r\n\0".contains(byte)),
            "{field:?}"
        );
    }
    let (status, count) = (head.status(), head.headers().iter().count());
    assert_eq!(head.parse(&input[..length], &ResponseLimits::default()), Ok(Some(length)));
    assert_eq!((head.status(), head.headers().iter().count()), (status, count));
}
