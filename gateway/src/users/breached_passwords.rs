//! Breached passwords: a binary search in the sorted file of SHA-1 hashes that Have I Been Pwned offers.
//!
//! The file has some 40 GB, so it is never loaded: a look-up reads some 40 pieces of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::name::hex;

/// The length of a hash in hexadecimal digits.
const HASH_LEN: usize = 40;
/// More than the longest line: a hash, a colon, a count of up to 20 digits, and a line break.
const MAX_LINE: usize = 64;

/// Whether the hash of `password` is in the file. Blocking.
///
/// # Errors
///
/// The file cannot be read, or has a line that does not begin with a hash.
pub(super) fn is_breached(file: &Path, password: &[u8]) -> io::Result<bool> {
    let wanted = hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, password).as_ref()).to_ascii_uppercase();
    let file = File::open(file)?;
    // The hash is at or behind a line that begins in `low..high`.
    let (mut low, mut high) = (0, file.metadata()?.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let Some((start, hash)) = line_from(&file, middle)? else {
            high = middle;
            continue;
        };
        match hash.as_str().cmp(&wanted) {
            std::cmp::Ordering::Equal => return Ok(true),
            std::cmp::Ordering::Less => low = start + HASH_LEN as u64,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    Ok(false)
}

/// The start and the hash of the first line that begins at `offset` or behind it, if there is one.
fn line_from(file: &File, offset: u64) -> io::Result<Option<(u64, String)>> {
    // The byte before shows whether a line begins right at the offset.
    let from = offset.saturating_sub(1);
    let mut bytes = [0; 2 * MAX_LINE];
    let length = read_at_most(file, &mut bytes, from)?;
    let bytes = &bytes[..length];
    let skipped = match offset == 0 {
        true => 0,
        false => match bytes.iter().position(|&byte| byte == b'\n') {
            Some(end) => end + 1,
            None if length < MAX_LINE => return Ok(None),
            None => return Err(no_line(from)),
        },
    };
    let line = &bytes[skipped..];
    if line.is_empty() {
        return Ok(None);
    }
    let hash = line.get(..HASH_LEN).filter(|hash| hash.iter().all(u8::is_ascii_hexdigit));
    let hash = hash.ok_or_else(|| no_line(from + skipped as u64))?;
    Ok(Some((from + skipped as u64, String::from_utf8_lossy(hash).to_ascii_uppercase())))
}

fn read_at_most(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], offset + length as u64)? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

fn no_line(at: u64) -> io::Error {
    let why = format!("at byte {at} there is no line that begins with a SHA-1 hash of {HASH_LEN} digits");
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn hash(password: &str) -> String {
        hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes()).as_ref())
    }

    #[test]
    fn every_line_of_a_file_is_found_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hashes.txt");
        // The vector of FIPS 180-2, as Have I Been Pwned writes hashes.
        assert_eq!(hash("abc").to_uppercase(), "A9993E364706816ABA3E25717850C26C9CD0D89D");
        for (count, line_break, upper) in
            [(1, "\r\n", true), (2, "\n", true), (3, "\n", false), (257, "\r\n", true), (1000, "\n", true)]
        {
            let mut lines: Vec<String> = (0..count)
                .map(|index| {
                    let hash = hash(&format!("breached {index}"));
                    let hash = if upper { hash.to_uppercase() } else { hash };
                    // Counts of different lengths, and lines without one.
                    match index % 3 {
                        0 => hash,
                        _ => format!("{hash}:{}", 7_u64.pow(index % 20)),
                    }
                })
                .collect();
            lines.sort();
            for last_break in ["", line_break] {
                std::fs::write(&path, lines.join(line_break) + last_break).unwrap();
                for index in 0..count {
                    let password = format!("breached {index}");
                    assert!(is_breached(&path, password.as_bytes()).unwrap(), "{password} of {count}");
                }
                for index in 0..100 {
                    let password = format!("another {index}");
                    assert!(!is_breached(&path, password.as_bytes()).unwrap(), "{password} of {count}");
                }
            }
        }
    }

    #[test]
    fn an_empty_file_has_none_and_what_is_no_such_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hashes.txt");
        std::fs::write(&path, "").unwrap();
        assert!(!is_breached(&path, b"password").unwrap());
        for content in ["password\n123456\n", &"x".repeat(1000), "<html>"] {
            std::fs::write(&path, content).unwrap();
            assert!(is_breached(&path, b"password").is_err(), "{content}");
        }
        assert!(is_breached(&folder.path().join("nowhere"), b"password").is_err());
    }
}
