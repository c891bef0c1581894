#![allow(clippy::unwrap_used)]

use super::*;
use crate::users::{Pbkdf2Digest, Prehash};

const ARGON2ID: Scheme = Scheme::argon2id(HashCost::DEFAULT);
const BCRYPT: Scheme = Scheme::Bcrypt { cost: 12, prehash: Prehash::None };
const SCRYPT: Scheme = Scheme::Scrypt { log_n: 15, r: 8, p: 1 };
const PBKDF2: Scheme = Scheme::Pbkdf2 { digest: Pbkdf2Digest::Sha256, rounds: 600_000 };

/// A users file with so many users of each scheme.
fn users_with(counts: &[(Scheme, usize)]) -> (tempfile::TempDir, UserSources) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.toml");
    let schemes = counts.iter().flat_map(|&(scheme, count)| std::iter::repeat_n(scheme, count));
    let entry = |(id, scheme)| {
        let hash = PasswordHash::decoy(scheme);
        format!("[[users]]\nid = \"{id}\"\nusername = \"user{id}\"\npassword = {:?}\n", hash.as_str())
    };
    let file: String = schemes.enumerate().map(entry).collect();
    std::fs::write(&path, file).unwrap();
    let users = UserSources::load(&Users::of_file(path)).unwrap().0;
    (folder, users)
}

#[tokio::test]
async fn an_unknown_name_costs_what_the_commonest_hash_costs() {
    for (counts, commonest) in [
        (&[(ARGON2ID, 3), (BCRYPT, 2), (SCRYPT, 2), (PBKDF2, 2)][..], ARGON2ID),
        (&[(ARGON2ID, 2), (BCRYPT, 3), (SCRYPT, 2), (PBKDF2, 2)], BCRYPT),
        (&[(ARGON2ID, 2), (BCRYPT, 2), (SCRYPT, 3), (PBKDF2, 2)], SCRYPT),
        (&[(ARGON2ID, 2), (BCRYPT, 2), (SCRYPT, 2), (PBKDF2, 3)], PBKDF2),
        (&[], ARGON2ID),
    ] {
        let (_folder, users) = users_with(counts);
        assert_eq!(users.decoy().await.scheme(), commonest, "{counts:?}");
    }
}

#[test]
fn a_sample_of_the_table_counts_more_than_who_logs_in() {
    let schemes = Schemes::default();
    schemes.add(BCRYPT);
    assert_eq!(most_common_scheme(&schemes.counts()), BCRYPT, "there is no sample yet");
    assert!(schemes.is_due() && !schemes.is_due(), "one caller takes it");
    assert!(schemes.set_sample(Some(vec![SCRYPT, SCRYPT, BCRYPT])));
    (0..10).for_each(|_| schemes.add(BCRYPT));
    assert_eq!(most_common_scheme(&schemes.counts()), SCRYPT);
    assert!(!schemes.set_sample(Some(vec![SCRYPT, SCRYPT, BCRYPT])), "nothing new");
    schemes.set_sample(None);
    assert!(schemes.is_due(), "after a failure another one is taken");
    assert_eq!(most_common_scheme(&schemes.counts()), SCRYPT, "the last one counts meanwhile");
    // Nothing can be sampled where there are queries in place of a table.
    schemes.set_sample(Some(Vec::new()));
    assert_eq!(most_common_scheme(&schemes.counts()), BCRYPT);
}
