#![allow(clippy::unwrap_used)]

use super::test_support::{RedisServer, settings, single};
use super::*;

fn put(id: &str, expected: Option<Version>) -> Put {
    Put {
        key: Key { space: Space::Session, id: id.into() },
        expected,
        value: b"value".to_vec(),
        expires_at: now().saturating_add(Duration::from_secs(60)),
        group: Some("1".into()),
        revoked_until: None,
    }
}

#[tokio::test]
async fn a_swap_whose_response_was_lost_is_recognised_when_it_is_retried() {
    let server = RedisServer::start();
    let store = RedisStore::open(&settings(single(&server))).unwrap();
    let keyspace = &store.client.shared.keyspace;
    let key = put("a", None).key;
    let keys = [
        keyspace.record(&key),
        keyspace.revocations(shard_of("a")),
        keyspace.group(shard_of("a"), Space::Session, "1"),
    ];
    let swap = |expected: Option<Version>, new: Version| {
        let later = now().saturating_add(Duration::from_secs(60)).get().to_string();
        let arguments =
            [written(expected), written(Some(new)), "v".into(), now().get().to_string(), later, "a".into()];
        let arguments: Vec<Vec<u8>> =
            arguments.into_iter().chain([String::new(), "c".into()]).map(String::into_bytes).collect();
        let (keys, client) = (keys.clone(), Arc::clone(&store.client));
        async move { client.swap(shard_of("a"), &keys, &arguments).await.unwrap() }
    };
    let (first, second) = (Version(1), Version(2));
    for _ in 0..3 {
        assert!(swap(None, first).await, "sending it again changes nothing and is no conflict");
    }
    assert!(swap(Some(first), second).await);
    assert!(!swap(None, first).await, "another has swapped since");
    assert_eq!(store.get(&key).await.unwrap().unwrap().version, second);
}

#[tokio::test]
async fn everything_but_the_marks_expires_by_itself() {
    let server = RedisServer::start();
    let store = RedisStore::open(&settings(single(&server))).unwrap();
    store
        .put_if(Put { revoked_until: Some(now().saturating_add(Duration::from_secs(30))), ..put("a", None) })
        .await
        .unwrap();
    let names: Vec<String> = server.ask(&["KEYS", "*"]).unwrap();
    assert_eq!(names.iter().filter(|name| name.ends_with(":mark")).count(), SHARDS);
    let lasting: Vec<&String> = names.iter().filter(|name| !name.ends_with(":mark")).collect();
    assert_eq!(lasting.len(), 3, "a record, a group, and the revoked sessions: {lasting:?}");
    for name in lasting {
        let ttl: i64 = server.ask(&["PTTL", name]).unwrap();
        assert!((1..=30_000 + MAX_CLOCK_SKEW.as_millis() as i64).contains(&ttl), "{name}: {ttl}");
    }
}
