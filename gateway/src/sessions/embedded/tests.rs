#![allow(clippy::unwrap_used)]

mod crash_simulation;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use redb::backends::InMemoryBackend;
use redb::{Builder, Database, StorageBackend};

use super::*;

fn put(id: usize) -> Put {
    let key = Key { space: Space::Session, id: id.to_string() };
    Put {
        key,
        expected: None,
        value: vec![b'x'; 200],
        expires_at: UnixMillis::MAX,
        group: Some("1".into()),
        revoked_until: None,
    }
}

async fn put_all(
    store: &Arc<EmbeddedStore>,
    puts: impl Iterator<Item = Put>,
) -> Vec<Result<PutOutcome, StoreError>> {
    let puts: Vec<_> = puts
        .map(|put| {
            let store = Arc::clone(store);
            tokio::spawn(async move { store.put_if(put).await })
        })
        .collect();
    let mut outcomes = Vec::new();
    for put in puts {
        outcomes.push(put.await.unwrap());
    }
    outcomes
}

/// Fills a file and returns its bytes, both while it is in use and after it was closed.
async fn fill(path: &Path, records: usize) -> (Vec<u8>, Vec<u8>) {
    let store = Arc::new(EmbeddedStore::open(path).unwrap());
    let outcomes = put_all(&store, (0..records).map(put)).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Ok(PutOutcome::Stored)));
    let in_use = fs::read(path).unwrap();
    drop(store);
    (in_use, fs::read(path).unwrap())
}

async fn wait_until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(Instant::now() < end, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn the_file_is_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/state.redb");
    drop(EmbeddedStore::open(&path).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_second_process_is_refused_and_the_first_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let first = EmbeddedStore::open(&path).unwrap();
    assert!(matches!(EmbeddedStore::open(&path), Err(OpenError::InUse(_))));
    drop(first);
    assert!(EmbeddedStore::open(&path).is_ok());
}

#[tokio::test]
async fn of_processes_that_start_together_without_a_file_one_gets_it_and_keeps_it() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let starts: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                thread::spawn(move || EmbeddedStore::open(&path))
            })
            .collect();
        let mut started = Vec::new();
        for start in starts {
            match start.join().unwrap() {
                Ok(store) => started.push(store),
                Err(error) => assert!(matches!(error, OpenError::InUse(_)), "{error}"),
            }
        }
        assert_eq!(started.len(), 1);
        started[0].put_if(put(1)).await.unwrap();
        drop(started);
        let again = EmbeddedStore::open(&path).unwrap();
        assert_eq!(
            again.scan(Space::Session).await.unwrap().len(),
            1,
            "what was promised is in the file that stays"
        );
    }
}

#[test]
fn a_start_that_was_cut_off_leaves_nothing_that_stops_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("state.redb.new"), b"half").unwrap();
    assert!(EmbeddedStore::open(&dir.path().join("state.redb")).is_ok());
}

#[tokio::test]
async fn a_file_that_is_empty_foreign_or_cut_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let (_, whole) = fill(&path, 100).await;
    let cuts = [1, 100, 4096, whole.len() / 2, whole.len() - 1].map(|length| &whole[..length]);
    for content in [&b""[..], b"SQLite format 3\0 and so on"].into_iter().chain(cuts) {
        fs::write(&path, content).unwrap();
        let error = EmbeddedStore::open(&path).err().unwrap();
        assert!(matches!(error, OpenError::Foreign { .. }), "{} bytes: {error}", content.len());
        assert!(!error.to_string().contains('\n'), "{error}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    let foreign = dir.path().join("foreign.redb");
    drop(Database::create(&foreign).unwrap());
    assert!(matches!(EmbeddedStore::open(&foreign), Err(OpenError::Foreign { .. })));
}

#[test]
fn an_inaccessible_file_is_not_reported_as_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    for path in [dir.path().join("folder"), file.join("state.redb")] {
        let error = EmbeddedStore::open(&path).err().unwrap();
        assert!(matches!(error, OpenError::Inaccessible { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_flipped_bit_is_refused_or_harmless_and_never_an_empty_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    drop(EmbeddedStore::open(&path).unwrap());
    let store = Arc::new(EmbeddedStore::open(&path).unwrap());
    store.put_if(put(0)).await.unwrap();
    put_all(&store, (1..200).map(put)).await;
    store.put_if(put(200)).await.unwrap();
    let in_use = fs::read(&path).unwrap();
    drop(store);
    let closed = fs::read(&path).unwrap();
    // After a crash, a damaged last commit cannot be distinguished from one that the crash interrupted: it
    // alone may be missing.
    for (whole, least) in [(closed, 201), (in_use, 200)] {
        let mut refused = 0;
        let flips = if std::env::var_os("AUTH_GATEWAY_LONG").is_some() { 1000 } else { 80 };
        for step in 0..flips {
            // Every fourth flip hits the file's header, where each byte counts.
            let range = if step % 4 == 0 { 320 } else { whole.len() };
            let at = (step * 7919 + 13) * 131 % range;
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (step % 8);
            fs::write(&path, &damaged).unwrap();
            match EmbeddedStore::open(&path) {
                Ok(store) => {
                    let records = store.scan(Space::Session).await.unwrap();
                    assert!((least..=201).contains(&records.len()), "byte {at}: {}", records.len());
                    assert!(records.iter().all(|(_, found)| found.value == [b'x'; 200]), "byte {at}");
                }
                Err(error) => {
                    assert!(matches!(error, OpenError::Foreign { .. }), "byte {at}: {error}");
                    refused += 1;
                }
            }
        }
        assert!(refused > 0, "no flip hit anything");
    }
}

#[tokio::test]
async fn a_sweep_takes_what_has_expired_and_nothing_else_however_much_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(EmbeddedStore::open(&dir.path().join("state.redb")).unwrap());
    let expiring = |id: usize| Put { expires_at: UnixMillis::new(1000 + id as u64), ..put(id) };
    let records = 2 * SWEEP_BATCH + 100;
    put_all(&store, (0..records).map(expiring)).await;
    // One whose expiry moved back and one whose expiry moved forward.
    for (id, expires_at) in [(0, 9_000), (records - 1, 1_000)] {
        let found = store.get(&put(id).key).await.unwrap().unwrap();
        let moved = Put { expected: Some(found.version), expires_at: UnixMillis::new(expires_at), ..put(id) };
        assert_eq!(store.put_if(moved).await.unwrap(), PutOutcome::Stored);
    }
    assert_eq!(store.sweep(UnixMillis::new(999)).await.unwrap(), 0);
    let now = 1000 + 2 * SWEEP_BATCH as u64;
    assert_eq!(store.sweep(UnixMillis::new(now)).await.unwrap(), 2 * SWEEP_BATCH + 1);
    assert_eq!(store.sweep(UnixMillis::new(now)).await.unwrap(), 0);
    assert_eq!(store.scan(Space::Session).await.unwrap().len(), 99);
    assert_eq!(store.group(Space::Session, "1").await.unwrap().len(), 99);
}

/// Storage in memory that counts fsyncs, and fails them on request.
#[derive(Debug, Default)]
struct Disk {
    memory: InMemoryBackend,
    gauge: Arc<Gauge>,
}

#[derive(Debug, Default)]
struct Gauge {
    syncs: AtomicUsize,
    failing: AtomicBool,
}

impl StorageBackend for Disk {
    fn len(&self) -> std::io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.gauge.syncs.fetch_add(1, Ordering::SeqCst);
        if self.gauge.failing.load(Ordering::SeqCst) {
            return Err(std::io::Error::other("the disk is full"));
        }
        self.memory.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.memory.write(offset, data)
    }
}

fn on_disk() -> (Arc<EmbeddedStore>, Arc<Gauge>) {
    let disk = Disk::default();
    let gauge = Arc::clone(&disk.gauge);
    let database = Builder::new().create_with_backend(disk).unwrap();
    state_file::prepare(&database).unwrap();
    (Arc::new(EmbeddedStore::over(DatabaseHandle::new(database, None)).unwrap()), gauge)
}

#[tokio::test]
async fn changes_that_wait_together_share_their_syncs() {
    let (store, gauge) = on_disk();
    let before = gauge.syncs.load(Ordering::SeqCst);
    store.put_if(put(0)).await.unwrap();
    let alone = gauge.syncs.load(Ordering::SeqCst) - before;
    assert!(alone > 0, "an answer without a sync is no promise");
    let outcomes = put_all(&store, (1..=400).map(put)).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Ok(PutOutcome::Stored)));
    let together = gauge.syncs.load(Ordering::SeqCst) - before - alone;
    assert!(together <= 200 * alone, "400 changes took {together} syncs, one alone takes {alone}");
}

#[tokio::test]
async fn after_a_sync_that_failed_nothing_is_promised_or_read_any_more() {
    let (store, gauge) = on_disk();
    store.put_if(put(0)).await.unwrap();
    gauge.failing.store(true, Ordering::SeqCst);
    let error = store.put_if(put(1)).await.unwrap_err();
    assert!(error.to_string().contains("the disk is full"), "{error}");
    gauge.failing.store(false, Ordering::SeqCst);
    let is_refused = |error: StoreError| {
        assert!(matches!(&error, StoreError::Unavailable(text) if text.contains("restart")), "{error}");
    };
    is_refused(store.put_if(put(2)).await.unwrap_err());
    is_refused(store.get(&put(0).key).await.unwrap_err());
    is_refused(store.sweep(UnixMillis::new(0)).await.unwrap_err());
}

#[tokio::test]
async fn a_hundred_thousand_sessions_open_in_a_moment() {
    const SESSIONS: usize = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let store = Arc::new(EmbeddedStore::open(&path).unwrap());
    for first in (0..SESSIONS).step_by(WRITER_QUEUE_LEN) {
        let puts = (first..SESSIONS.min(first + WRITER_QUEUE_LEN)).map(|id| {
            let value = vec![b'x'; 400];
            Put { group: Some((id % 1000).to_string()), value, ..put(id) }
        });
        assert!(put_all(&store, puts).await.iter().all(Result::is_ok));
    }
    // As after a kill, which takes longest: nothing was closed in order.
    let killed = dir.path().join("killed.redb");
    fs::copy(&path, &killed).unwrap();
    drop(store);
    for (path, what) in [(path, "closed"), (killed, "killed")] {
        let started = Instant::now();
        let store = EmbeddedStore::open(&path).unwrap();
        let (opened, bytes) = (started.elapsed(), fs::metadata(&path).unwrap().len());
        assert_eq!(store.scan(Space::Session).await.unwrap().len(), SESSIONS);
        let scanned = started.elapsed();
        println!("{what}: opened in {opened:?}, all read in {scanned:?}, {} MiB", bytes >> 20);
        // One second in an optimised build on an idle machine; this is the upper bound.
        assert!(scanned < Duration::from_secs(10), "{scanned:?}");
    }
}

#[tokio::test]
async fn the_file_does_not_grow_with_what_was_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let store = Arc::new(EmbeddedStore::open(&path).unwrap());
    let mut sizes = Vec::new();
    for generation in 0..12_usize {
        let records = (0..2000).map(|id| {
            let expires_at = generation as u64;
            Put { expires_at: UnixMillis::new(expires_at), ..put(generation * 10_000 + id) }
        });
        assert!(put_all(&store, records).await.iter().all(Result::is_ok));
        assert_eq!(store.sweep(UnixMillis::new(generation as u64)).await.unwrap(), 2000);
        sizes.push(fs::metadata(&path).unwrap().len());
    }
    // The size varies a little with the size of the commits.
    assert!(sizes[3..].iter().max() <= sizes[..3].iter().max(), "{sizes:?}");
}

#[tokio::test]
async fn a_file_that_is_removed_or_replaced_promises_nothing_more_and_is_used_again_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let (path, away) = (dir.path().join("state.redb"), dir.path().join("away"));
    let store = EmbeddedStore::open(&path).unwrap();
    store.put_if(put(0)).await.unwrap();
    fs::rename(&path, &away).unwrap();
    let error = store.put_if(put(1)).await.unwrap_err();
    assert!(error.to_string().contains("removed while it was in use; it is tried again"), "{error}");
    assert!(store.get(&put(0).key).await.is_err());

    drop(EmbeddedStore::open(&path).unwrap());
    wait_until("the other file is noticed", || async {
        store.get(&put(0).key).await.unwrap_err().to_string().contains("replaced by another")
    })
    .await;
    fs::rename(&away, &path).unwrap();
    wait_until("it is used again", || async { store.get(&put(0).key).await.is_ok() }).await;
    // Whether the failed change was made is found out by reading.
    let outcome = store.put_if(put(1)).await.unwrap();
    assert_eq!(outcome == PutOutcome::Conflict, store.scan(Space::Session).await.unwrap().len() == 2);
}
