//! The PROXY protocol, versions 1 and 2: the header in which a TCP load balancer names the client.
//!
//! `ppp` parses the header; this module finds its length, so that nothing behind it is read, and decides what
//! of it is trusted.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;

use ppp::{HeaderResult, v1, v2};
use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// The longest accepted header, in bytes: room for version 2 with addresses and a few extensions (TLVs).
const MAX_HEADER_LEN: usize = 4 * 1024;
/// The longest line of version 1, in bytes, including its CRLF.
const V1_MAX_LEN: usize = 107;
/// The extension about the client's TLS, and the flag in its first byte that says there is some.
const TYPE_SSL: u8 = 0x20;
const CLIENT_SSL: u8 = 1;
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A complete header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ProxyHeader {
    /// Its length at the front of the connection, in bytes.
    pub(crate) length: usize,
    /// The client. `None` for `LOCAL` and `UNKNOWN` headers (a health check of the proxy itself) and for
    /// anything but TCP.
    pub(crate) client: Option<SocketAddr>,
    /// Whether it says that the client's connection to the proxy is TLS (version 2, PP2_TYPE_SSL).
    pub(crate) secure: bool,
}

/// The bytes are no PROXY protocol header.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection does not begin with a PROXY protocol header")]
pub(crate) struct NotAHeader;

/// Parses the header at the front of `input`; `None` while it is incomplete.
pub(crate) fn parse(input: &[u8]) -> Result<Option<ProxyHeader>, NotAHeader> {
    let Some(length) = length(input)? else { return Ok(None) };
    let header = input.get(..length).ok_or(NotAHeader)?;
    let mut secure = false;
    let client = match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(header)) => match header.addresses {
            v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
            v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
            v1::Addresses::Unknown => None,
        },
        HeaderResult::V2(Ok(header)) if header.command == v2::Command::Local => None,
        HeaderResult::V2(Ok(header)) => {
            let mut extensions = header.tlvs().flatten();
            secure = extensions.any(|tlv| {
                tlv.kind == TYPE_SSL && tlv.value.first().is_some_and(|flags| flags & CLIENT_SSL != 0)
            });
            match header.addresses {
                v2::Addresses::IPv4(ip) => Some((ip.source_address, ip.source_port).into()),
                v2::Addresses::IPv6(ip) => Some((ip.source_address, ip.source_port).into()),
                v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
            }
        }
        _ => return Err(NotAHeader),
    };
    Ok(Some(ProxyHeader { length, client, secure }))
}

/// The length of the header at the front of `input`, in bytes, as soon as it is complete. Bytes that cannot
/// become a header are rejected as early as possible.
fn length(input: &[u8]) -> Result<Option<usize>, NotAHeader> {
    let begins_like = |front: &[u8]| {
        let both = front.len().min(input.len());
        input[..both] == front[..both]
    };
    if begins_like(V2_SIGNATURE) {
        let Some(length) = input.get(14..16) else { return Ok(None) };
        let length = 16 + usize::from(u16::from_be_bytes([length[0], length[1]]));
        return match length {
            _ if length > MAX_HEADER_LEN => Err(NotAHeader),
            _ if length > input.len() => Ok(None),
            _ => Ok(Some(length)),
        };
    }
    if !begins_like(b"PROXY ") {
        return Err(NotAHeader);
    }
    match memchr::memchr(b'\n', &input[..input.len().min(V1_MAX_LEN)]) {
        Some(end) => Ok(Some(end + 1)),
        None if input.len() < V1_MAX_LEN => Ok(None),
        None => Err(NotAHeader),
    }
}

/// Reads the header and not a byte more, for what follows may be a TLS handshake. Has no timeout of its own:
/// the caller sets the deadline.
pub(crate) async fn take_proxy_header(socket: &TcpStream) -> io::Result<ProxyHeader> {
    let header = socket
        .async_io(Interest::READABLE, || {
            let mut bytes = [MaybeUninit::uninit(); MAX_HEADER_LEN];
            let ((front, _), _) = recv(socket, &mut bytes, RecvFlags::PEEK)?;
            match parse(front) {
                Ok(Some(header)) => Ok(header),
                Ok(None) if front.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
                // The next bytes wake this task again.
                Ok(None) => Err(io::ErrorKind::WouldBlock.into()),
                Err(e) => Err(io::Error::new(io::ErrorKind::InvalidData, e)),
            }
        })
        .await?;
    // On the heap: an array would be part of every connection's task to its end.
    let mut left = vec![0; header.length];
    while !left.is_empty() {
        socket.readable().await?;
        match socket.try_read(&mut left) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => left.truncate(left.len() - n),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(header)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A version 2 header: signature, version and command, family, length, then the addresses.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        header.extend([0x20 | command, family]);
        header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        header.extend(rest);
        header
    }

    fn client(input: &[u8]) -> Option<String> {
        let header = parse(input).unwrap().unwrap();
        assert_eq!(header.length, input.len());
        header.client.map(|address| address.to_string())
    }

    #[test]
    fn both_versions_name_the_client() {
        assert_eq!(client(b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n").unwrap(), "192.0.2.1:56324");
        assert_eq!(client(b"PROXY TCP6 2001:db8::1 ::1 1 443\r\n").unwrap(), "[2001:db8::1]:1");
        let addresses = [192, 0, 2, 1, 10, 0, 0, 1, 0xdc, 0x04, 1, 0xbb];
        assert_eq!(client(&v2(1, 0x11, &addresses)).unwrap(), "192.0.2.1:56324");
        let with_extension = [&addresses[..], &[0x04, 0, 1, 7]].concat();
        assert_eq!(client(&v2(1, 0x11, &with_extension)).unwrap(), "192.0.2.1:56324");
    }

    #[test]
    fn version_2_states_whether_the_client_came_over_tls() {
        let addresses = [192, 0, 2, 1, 10, 0, 0, 1, 0xdc, 0x04, 1, 0xbb];
        let ssl = |flags: u8, version: &[u8]| {
            let length = (5 + version.len()) as u8;
            [&[0x20, 0, length, flags, 0, 0, 0, 0], version].concat()
        };
        for (extensions, secure) in [
            (Vec::new(), false),
            (ssl(1, b""), true),
            (ssl(7, b"\x21\0\x07TLSv1.3"), true),
            (ssl(0, b""), false),
            ([&[4, 0, 1, 7][..], &ssl(1, b"")].concat(), true),
            (vec![0x20, 0, 9, 1], false),
        ] {
            let header = v2(1, 0x11, &[&addresses[..], &extensions].concat());
            assert_eq!(parse(&header).unwrap().unwrap().secure, secure, "{extensions:?}");
        }
    }

    #[test]
    fn a_local_header_names_no_client() {
        assert_eq!(client(b"PROXY UNKNOWN\r\n"), None);
        assert_eq!(client(&v2(0, 0, &[])), None);
        assert_eq!(client(&v2(0, 0x11, &[9; 12])), None, "LOCAL with addresses");
    }

    #[test]
    fn a_header_is_waited_for_byte_by_byte_and_nothing_behind_it_counts() {
        let v1 = b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n".to_vec();
        for whole in [v1, v2(1, 0x11, &[9; 12])] {
            for end in 1..whole.len() {
                assert_eq!(parse(&whole[..end]), Ok(None), "{end}");
            }
            let more = [&whole[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(parse(&more).unwrap().unwrap().length, whole.len());
        }
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_that_is_seen() {
        for input in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x03\x01\x02\x00",
            b"PROXY TCP4 999.0.2.1 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1 99999\r\n",
            b"PROXY\tTCP4 192.0.2.1 10.0.0.1 1 2\r\n",
            b"proxy TCP4 192.0.2.1 10.0.0.1 1 2\r\n",
        ] {
            assert_eq!(parse(input), Err(NotAHeader), "{}", String::from_utf8_lossy(input));
        }
        let long = [b"PROXY TCP4 ", &[b'1'; MAX_HEADER_LEN][..]].concat();
        assert_eq!(parse(&long), Err(NotAHeader));
        assert_eq!(parse(&v2(1, 0x11, &vec![0; MAX_HEADER_LEN])[..MAX_HEADER_LEN]), Err(NotAHeader));
    }
}
