//! Layout of the state file: tables, keys and record headers.

use redb::TableDefinition;

use crate::sessions::UnixMillis;
use crate::sessions::store::{Key, Space, StoreError, Version, Versioned};

/// Keys are `space/id`; values start with [`Header`].
pub(super) const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
/// (group, key of a record).
pub(super) const GROUPS: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("groups");
/// (expiry of a record, its key) to its group, empty where it has none; expired records come first.
pub(super) const EXPIRIES: TableDefinition<'_, (u64, &str), &str> = TableDefinition::new("expiries");
/// A single entry that identifies the file as ours.
pub(super) const FORMAT: TableDefinition<'_, &str, &str> = TableDefinition::new("format");
pub(super) const FORMAT_KEY: &str = "auth-gateway state";
/// Version 1 had no expiries.
pub(super) const FORMAT_VERSION: &str = "2";

/// The header before a record's bytes.
pub(super) struct Header {
    pub(super) version: Version,
    pub(super) expires_at: UnixMillis,
}

const HEADER_LEN: usize = 16;

impl Header {
    pub(super) fn encode(&self, value: &[u8]) -> Vec<u8> {
        [&self.version.0.to_be_bytes()[..], &self.expires_at.get().to_be_bytes(), value].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<(Header, &[u8])> {
        let (header, value) = bytes.split_at_checked(HEADER_LEN)?;
        let number = |at: usize| header[at..at + 8].try_into().ok().map(u64::from_be_bytes);
        Some((Header { version: Version(number(0)?), expires_at: UnixMillis::new(number(8)?) }, value))
    }
}

/// A record as it is encoded in the file.
pub(super) fn versioned(key: &str, bytes: &[u8]) -> Result<Versioned, StoreError> {
    let (header, value) = Header::decode(bytes).ok_or_else(|| StoreError::Corrupt(key.to_owned()))?;
    Ok(Versioned { value: value.to_vec(), version: header.version })
}

/// A key as it is encoded in the file.
pub(super) fn parse_key(text: &str) -> Option<Key> {
    let (space, id) = text.split_once('/')?;
    let space = Space::ALL.into_iter().find(|s| s.name() == space)?;
    Some(Key { space, id: id.to_owned() })
}
