//! Record encoding, and the compare-and-swap loop: read, decide, swap, and again after a conflict.
//!
//! A record is its format's number followed by JSON. Instances of two versions may share a store during an
//! upgrade: a record of a newer format is rejected with a clear error and never overwritten, as every change
//! begins with reading. A version that changes the format reads the previous one too.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::UnixMillis;
use super::store::{Key, Put, PutOutcome, Store, StoreError};

/// More rounds than concurrent instances could cause; bounds the loop on a broken store.
const MAX_ROUNDS: usize = 1000;

/// The format that is written: with the time a session adopted its tokens, and attempts in flight. No version
/// ever wrote format 2.
const FORMAT: &str = "3";
/// Formats that lack optional members of [`FORMAT`]. Builds before formats were numbered wrote the same as
/// `1`.
const EARLIER_FORMATS: [&str; 2] = ["", "1"];

/// What a decision writes.
#[derive(Debug)]
pub(super) struct Change<T> {
    pub(super) record: T,
    pub(super) expires_at: UnixMillis,
    pub(super) group: Option<String>,
    /// See [`Put::revoked_until`].
    pub(super) revoked_until: Option<UnixMillis>,
}

/// Reads a record, calls `decide` and swaps its result in. After a conflict it decides anew on the new state:
/// a decision is always about the state it changes.
pub(super) async fn update<T: Serialize + DeserializeOwned, R>(
    store: &dyn Store,
    key: &Key,
    mut decide: impl FnMut(Option<T>) -> (Option<Change<T>>, R),
) -> Result<R, StoreError> {
    for _ in 0..MAX_ROUNDS {
        let current = store.get(key).await?;
        let (expected, record) = match current {
            Some(found) => (Some(found.version), Some(decode(key, &found.value)?)),
            None => (None, None),
        };
        let (change, result) = decide(record);
        let Some(Change { record, expires_at, group, revoked_until }) = change else { return Ok(result) };
        let value = encode(key, &record)?;
        let put = Put { key: key.clone(), expected, value, expires_at, group, revoked_until };
        if store.put_if(put).await? == PutOutcome::Stored {
            return Ok(result);
        }
    }
    Err(StoreError::Unavailable(format!("{key} does not come to rest")))
}

fn encode<T: Serialize>(key: &Key, record: &T) -> Result<Vec<u8>, StoreError> {
    let mut bytes = FORMAT.as_bytes().to_vec();
    serde_json::to_writer(&mut bytes, record).map_err(|e| StoreError::Corrupt(format!("{key}: {e}")))?;
    Ok(bytes)
}

/// Decodes a record.
pub(super) fn decode<T: DeserializeOwned>(key: &Key, value: &[u8]) -> Result<T, StoreError> {
    let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
    let (format, json) = value.split_at(digits);
    let is_known = |known: &str| format == known.as_bytes();
    if !is_known(FORMAT) && !EARLIER_FORMATS.into_iter().any(is_known) {
        let format = String::from_utf8_lossy(format);
        return Err(StoreError::Newer(format!("{key} is in format {format}, this version knows {FORMAT}")));
    }
    serde_json::from_slice(json).map_err(|e| StoreError::Corrupt(format!("{key}: {e}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sessions::store::Space;

    fn key() -> Key {
        Key { space: Space::Attempts, id: "alice".into() }
    }

    #[test]
    fn records_carry_their_format_and_those_of_earlier_ones_are_read() {
        let bytes = encode(&key(), &vec![1, 2]).unwrap();
        assert_eq!(bytes, b"3[1,2]");
        for bytes in [&bytes[..], b"1[1,2]", b"[1,2]"] {
            assert_eq!(decode::<Vec<u8>>(&key(), bytes), Ok(vec![1, 2]));
        }
    }

    #[test]
    fn a_newer_format_is_distinguished_from_a_corrupt_record() {
        let error = decode::<Vec<u8>>(&key(), b"4{\"new\":true}").unwrap_err();
        assert!(
            matches!(&error, StoreError::Newer(what) if what.contains("attempts/alice is in format 4")),
            "{error}"
        );
        for rubbish in [&b""[..], b"1", b"3", b"x", b"3[1,2]x"] {
            assert!(matches!(decode::<Vec<u8>>(&key(), rubbish), Err(StoreError::Corrupt(_))), "{rubbish:?}");
        }
    }
}
