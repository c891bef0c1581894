//! Layout of the keys in Redis.
//!
//! Everything is spread over [`SHARDS`] shards by the record's id. A shard's keys share a hash tag, so a
//! script may use them together, also in a cluster. With the prefix `auth-gateway`, shard 7 has
//!
//! | key | type | content |
//! | --- | --- | --- |
//! | `auth-gateway:{07}:session/ID`, `…:attempts/NAME`, `…:personal-token/ID`, `…:proof/ID` | string | a record: 16 hex digits of version, then
//! the value |
//! | `auth-gateway:{07}:group/USER`, `…:personal-tokens/USER` | sorted set | the user's sessions or tokens in this shard, by expiry |
//! | `auth-gateway:{07}:revocations` | stream | the revocation log: revoked sessions in order, each with its
//! expiry |
//! | `auth-gateway:{07}:mark` | string | the layout's number and the generation id of this store |
//!
//! and all shards share the channel `auth-gateway:revocations`. Everything but the marks has a TTL.

use crate::sessions::store::{Key, Space};

/// Enough to spread evenly over any cluster of reasonable size, and few enough to query all of them at
/// intervals. Part of the layout.
pub(super) const SHARDS: usize = 64;

/// The layout described here. Layout 1 had a sorted set `revoked` in place of the stream; it is converted.
pub(super) const LAYOUT: &str = "2";

/// One of [`SHARDS`].
pub(super) type Shard = usize;

/// Builds the names of keys.
#[derive(Debug)]
pub(super) struct Keyspace {
    prefix: String,
}

impl Keyspace {
    pub(super) fn new(prefix: String) -> Keyspace {
        Keyspace { prefix }
    }

    pub(super) fn record(&self, key: &Key) -> String {
        self.name(shard_of(&key.id), &key.to_string())
    }

    pub(super) fn group(&self, shard: Shard, space: Space, group: &str) -> String {
        let kind = if space == Space::PersonalToken { "personal-tokens" } else { "group" };
        self.name(shard, &format!("{kind}/{group}"))
    }

    pub(super) fn revocations(&self, shard: Shard) -> String {
        self.name(shard, "revocations")
    }

    /// The revoked sessions in layout 1.
    pub(super) fn revoked_of_layout_1(&self, shard: Shard) -> String {
        self.name(shard, "revoked")
    }

    pub(super) fn mark(&self, shard: Shard) -> String {
        self.name(shard, "mark")
    }

    pub(super) fn channel(&self) -> String {
        format!("{}:revocations", self.prefix)
    }

    /// Matches the records of a space, as a glob for SCAN. A prefix has no special characters.
    pub(super) fn pattern(&self, space: Space) -> String {
        format!("{}:{{*}}:{}/*", self.prefix, space.name())
    }

    /// The id in the name of a record.
    pub(super) fn id_of<'n>(&self, space: Space, name: &'n str) -> Option<&'n str> {
        let (_, rest) = name.strip_prefix(&self.prefix)?.strip_prefix(":{")?.split_once("}:")?;
        rest.strip_prefix(space.name())?.strip_prefix('/')
    }

    fn name(&self, shard: Shard, rest: &str) -> String {
        format!("{}:{}:{rest}", self.prefix, tag(shard))
    }
}

/// The hash tag of a shard, with its braces.
pub(super) fn tag(shard: Shard) -> String {
    format!("{{{shard:02}}}")
}

/// The shard of a record, by FNV-1a.
pub(super) fn shard_of(id: &str) -> Shard {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    id.bytes().fold(0x811c_9dc5, step) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_documented() {
        let keyspace = Keyspace::new("auth-gateway".into());
        let key = Key { space: Space::Attempts, id: "alice".into() };
        assert_eq!(shard_of("alice"), 39, "a shard is for ever");
        assert_eq!(keyspace.record(&key), "auth-gateway:{39}:attempts/alice");
        assert_eq!(keyspace.group(7, Space::Session, "1"), "auth-gateway:{07}:group/1");
        assert_eq!(keyspace.id_of(Space::Attempts, &keyspace.record(&key)), Some("alice"));
        assert_eq!(keyspace.id_of(Space::Session, &keyspace.record(&key)), None);
    }

    #[test]
    fn a_braced_name_does_not_leave_its_shard() {
        let keyspace = Keyspace::new("p".into());
        let key = Key { space: Space::Attempts, id: "{x}}".into() };
        let name = keyspace.record(&key);
        assert!(name.starts_with(&format!("p:{}:", tag(shard_of("{x}}")))), "the first braces count");
        assert_eq!(keyspace.id_of(Space::Attempts, &name), Some("{x}}"));
    }

    #[test]
    fn ids_spread_evenly() {
        let mut counts = [0; SHARDS];
        for _ in 0..64_000 {
            counts[shard_of(&crate::sessions::SessionId::random().to_string())] += 1;
        }
        assert!(counts.iter().all(|count| (700..1300).contains(count)), "{counts:?}");
    }
}
