//! Property: a PROXY protocol header is parsed the same however it is split.

use crate::net::parse_proxy_header;

/// The first bytes of a connection.
pub fn proxy_protocol(input: &[u8]) {
    match parse_proxy_header(input) {
        Ok(Some(header)) => {
            assert!(header.length <= input.len());
            let alone = &input[..header.length];
            assert_eq!(parse_proxy_header(alone).as_ref(), Ok(&Some(header)));
            for end in 0..alone.len() {
                assert_eq!(parse_proxy_header(&alone[..end]), Ok(None), "{end}");
            }
        }
        Ok(None) => {}
        Err(_) => {
            let more = [input, b" 1\r\n"].concat();
            assert!(parse_proxy_header(&more).is_err(), "what follows made it good");
        }
    }
}
