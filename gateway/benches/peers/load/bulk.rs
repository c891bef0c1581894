//! Bulk transfer: an upstream that sends and discards large bodies, and a client that does the same.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::Result;

/// The size of a body.
pub(crate) const GIB: u64 = 1 << 30;
/// Where the upstream has a body of that size; everything else is answered with a few bytes.
const LARGE: &str = "/large";
const PIECE: usize = 256 * 1024;

/// Starts the upstream, which lives as long as this program.
pub(crate) fn upstream() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A proxy that closes is no failure.
            thread::spawn(move || serve(stream).ok());
        }
    });
    Ok(address)
}

fn serve(stream: TcpStream) -> Result<()> {
    let mut requests = BufReader::with_capacity(PIECE, stream.try_clone()?);
    let mut answers = stream;
    while let Some((target, length)) = head(&mut requests)? {
        swallow(&mut requests, length)?;
        if target == LARGE {
            write!(answers, "HTTP/1.1 200 OK\r\nContent-Length: {GIB}\r\n\r\n")?;
            send(&mut answers, GIB)?;
        } else {
            answers.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
    }
    Ok(())
}

/// The target of the next request and the length of its body.
fn head(requests: &mut impl std::io::BufRead) -> Result<Option<(String, u64)>> {
    let mut line = String::new();
    if requests.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let target = line.split(' ').nth(1).ok_or("no request line")?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        requests.read_line(&mut line)?;
        if line.trim().is_empty() {
            return Ok(Some((target, length)));
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
}

/// Fetches a GiB.
pub(crate) fn download(address: SocketAddr, token: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {LARGE} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n")?;
    finish(stream, GIB)
}

/// Sends a GiB and waits for the answer.
pub(crate) fn upload(address: SocketAddr, token: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Length: {GIB}\r\n\r\n"
    )?;
    send(&mut stream, GIB)?;
    finish(stream, 2)
}

/// Reads an answer with a body of some length.
fn finish(stream: TcpStream, length: u64) -> Result<()> {
    let mut answer = BufReader::with_capacity(PIECE, stream);
    let mut line = String::new();
    answer.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200") {
        return Err(format!("the answer is {}", line.trim()).into());
    }
    while !line.trim().is_empty() {
        line.clear();
        answer.read_line(&mut line)?;
    }
    swallow(&mut answer, length)
}

fn send(to: &mut impl Write, length: u64) -> Result<()> {
    let piece = vec![b'.'; PIECE];
    for _ in 0..length / PIECE as u64 {
        to.write_all(&piece)?;
    }
    Ok(())
}

fn swallow(from: &mut impl Read, mut length: u64) -> Result<()> {
    let mut piece = vec![0; PIECE];
    while length > 0 {
        let most = piece.len().min(usize::try_from(length).unwrap_or(PIECE));
        match from.read(&mut piece[..most])? {
            0 => return Err("closed in the middle of a body".into()),
            n => length -= n as u64,
        }
    }
    Ok(())
}
