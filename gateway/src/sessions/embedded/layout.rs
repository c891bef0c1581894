//! What stands where in the state file.

use redb::TableDefinition;

use crate::sessions::UnixMillis;
use crate::sessions::store::{Key, Space, StoreError, Version, Versioned};

/// Keys are `space/id`; values start with [`Header`].
pub(super) const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
/// (group, key of a record).
pub(super) const GROUPS: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("groups");
/// (when a record expires, its key) to its group, or to nothing where it has none: what has expired is at the front.
pub(super) const EXPIRIES: TableDefinition<'_, (UnixMillis, &str), &str> = TableDefinition::new("expiries");
/// One entry, so that a foreign file is told from ours.
pub(super) const FORMAT: TableDefinition<'_, &str, &str> = TableDefinition::new("format");
pub(super) const FORMAT_KEY: &str = "auth-gateway state";
/// 1 had no expiries.
pub(super) const FORMAT_VERSION: &str = "2";

/// What stands before a record's bytes.
pub(super) struct Header {
    pub(super) version: Version,
    pub(super) expires_at: UnixMillis,
}

const HEADER_LEN: usize = 16;

impl Header {
    pub(super) fn encode(&self, value: &[u8]) -> Vec<u8> {
        [&self.version.0.to_be_bytes()[..], &self.expires_at.to_be_bytes(), value].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<(Header, &[u8])> {
        let (header, value) = bytes.split_at_checked(HEADER_LEN)?;
        let number = |at: usize| header[at..at + 8].try_into().ok().map(u64::from_be_bytes);
        Some((Header { version: Version(number(0)?), expires_at: number(8)? }, value))
    }
}

/// A record as it stands in the file.
pub(super) fn versioned(key: &str, bytes: &[u8]) -> Result<Versioned, StoreError> {
    let (header, value) = Header::decode(bytes).ok_or_else(|| StoreError::Corrupt(key.to_owned()))?;
    Ok(Versioned { value: value.to_vec(), version: header.version })
}

/// A key as it stands in the file.
pub(super) fn parse_key(text: &str) -> Option<Key> {
    let (space, id) = text.split_once('/')?;
    let space = Space::ALL.into_iter().find(|s| s.name() == space)?;
    Some(Key { space, id: id.to_owned() })
}
