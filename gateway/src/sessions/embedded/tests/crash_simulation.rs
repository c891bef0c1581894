//! Crash simulation: the process is killed, or the power fails, at every step of what redb does to the disk:
//! acknowledged changes survive the next start, and others are made or not, never half.

#![allow(clippy::unwrap_used)]

use std::io;
use std::sync::Mutex;

use redb::{Builder, Database, StorageBackend};

use super::*;
use crate::config::Rotation;
use crate::sessions::tests::new_session;
use crate::sessions::{
    Account, LockoutPolicy, LoginDecision, LoginResult, NewTokens, Policy, RefreshError, RevocationReason,
    RotationPolicy, Sessions, SourceNetwork, TokenId,
};

const ACTIVE: Account = Account::Active { credential: [7; 16] };
const MAX_FAILURES: u32 = 5;
/// Sector size: disks write this many bytes atomically.
const SECTOR: usize = 512;

fn policy(mode: Rotation) -> Policy {
    Policy {
        rotation: RotationPolicy { mode, grace: Duration::ZERO, idle_ttl: None },
        session_ttl: Duration::from_millis(1_000_000),
        access_ttl: Duration::from_millis(60_000),
        lockout: LockoutPolicy {
            max_failures: MAX_FAILURES,
            window: Duration::from_millis(100_000),
            duration: Duration::from_millis(100_000),
            escalation: 1,
            max_duration: Duration::from_millis(100_000),
        },
        throttle: None,
        session_limit: None,
    }
}

#[derive(Debug, Clone)]
enum Op {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

impl Op {
    /// Applies the write, or only those of its sectors that `reaches` selects.
    fn apply(&self, image: &mut Vec<u8>, mut reaches: impl FnMut() -> bool) {
        match self {
            Op::SetLen(len) => image.resize(*len as usize, 0),
            Op::Write(offset, data) => {
                let start = *offset as usize;
                if image.len() < start + data.len() {
                    image.resize(start + data.len(), 0);
                }
                for (place, sector) in data.chunks(SECTOR).enumerate() {
                    if reaches() {
                        let at = start + place * SECTOR;
                        image[at..at + sector.len()].copy_from_slice(sector);
                    }
                }
            }
        }
    }
}

/// The durable content of the disk, and the writes since the last sync.
#[derive(Debug, Default)]
struct StoredSectors {
    durable: Vec<u8>,
    since_sync: Vec<Op>,
    cached: Vec<u8>,
    ops: usize,
    cut_before: Option<usize>,
}

#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<StoredSectors>>);

impl Disk {
    fn holding(image: Vec<u8>) -> Disk {
        let sectors = StoredSectors { durable: image.clone(), cached: image, ..StoredSectors::default() };
        Disk(Arc::new(Mutex::new(sectors)))
    }

    fn change(&self, change: impl FnOnce(&mut StoredSectors)) -> io::Result<()> {
        let mut sectors = self.0.lock().unwrap();
        if sectors.cut_before.is_some_and(|cut| sectors.ops >= cut) {
            return Err(io::Error::other("the power is cut"));
        }
        sectors.ops += 1;
        change(&mut sectors);
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let sectors = self.0.lock().unwrap();
        let start = offset as usize;
        let found = sectors.cached.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|sectors| {
            Op::SetLen(len).apply(&mut sectors.cached, || true);
            sectors.since_sync.push(Op::SetLen(len));
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|sectors| {
            sectors.durable = sectors.cached.clone();
            sectors.since_sync.clear();
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(|sectors| {
            let op = Op::Write(offset, data.to_vec());
            op.apply(&mut sectors.cached, || true);
            sectors.since_sync.push(op);
        })
    }
}

/// What a crash leaves of the unsynced writes.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// All of them: the process was killed, the system goes on.
    Killed,
    /// None.
    Lost,
    /// A random subset of sectors, selected by this seed.
    Torn(u64),
}

impl Cut {
    fn image(self, sectors: &StoredSectors) -> Vec<u8> {
        let mut image = sectors.durable.clone();
        let mut seed = match self {
            Cut::Killed => return sectors.cached.clone(),
            Cut::Lost => return image,
            Cut::Torn(seed) => seed,
        };
        let mut coin = || {
            // xorshift64
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed & 1 == 0
        };
        sectors.since_sync.iter().for_each(|op| op.apply(&mut image, &mut coin));
        image
    }
}

/// What was acknowledged before the crash, and what was still pending.
#[derive(Debug, Default)]
struct Acknowledged {
    /// A session and its tokens.
    line: Option<(NewTokens, Vec<TokenId>)>,
    unanswered_refresh: bool,
    ended: Vec<NewTokens>,
    failures: u32,
}

/// A sequence of operations; ends at the first failure.
async fn live(sessions: &Sessions, acknowledged: &mut Acknowledged) -> Option<()> {
    let opened = sessions.open(new_session("1"), UnixMillis::new(1)).await.ok()?;
    acknowledged.line = Some((opened, vec![opened.refresh_token]));
    for round in 0..3_u64 {
        let (_, line) = acknowledged.line.as_mut()?;
        acknowledged.unanswered_refresh = true;
        let now = 10 + round;
        let refreshed = sessions
            .refresh(opened.session, *line.last()?, None, |_| ACTIVE, None, UnixMillis::new(now))
            .await
            .ok()?;
        acknowledged.unanswered_refresh = false;
        line.push(refreshed.successor.unwrap().id);

        let other = sessions.open(new_session("1"), UnixMillis::new(20)).await.ok()?;
        sessions.revoke(other.session, RevocationReason::Logout, UnixMillis::new(21)).await.ok()?;
        acknowledged.ended.push(other);
        fail(sessions, 22).await.ok()??;
        acknowledged.failures += 1;
        sessions.sweep(UnixMillis::new(23)).await.ok()?;
    }
    // And one that is revoked for reuse.
    let stolen = sessions.open(new_session("1"), UnixMillis::new(30)).await.ok()?;
    let second = sessions
        .refresh(stolen.session, stolen.refresh_token, None, |_| ACTIVE, None, UnixMillis::new(31))
        .await
        .ok()?;
    sessions
        .refresh(stolen.session, second.successor.unwrap().id, None, |_| ACTIVE, None, UnixMillis::new(32))
        .await
        .ok()?;
    match sessions
        .refresh(stolen.session, stolen.refresh_token, None, |_| ACTIVE, None, UnixMillis::new(40))
        .await
    {
        Err(RefreshError::Reused) => acknowledged.ended.push(stolen),
        _ => return None,
    }
    Some(())
}

/// A failed login; `None` where the name is locked.
async fn fail(sessions: &Sessions, now: u64) -> Result<Option<()>, StoreError> {
    let network = SourceNetwork::of("192.0.2.1".parse().unwrap());
    match sessions.begin_login("alice", &network, UnixMillis::new(now)).await? {
        LoginDecision::Permitted(permit) => {
            sessions.settle_login(permit, LoginResult::Failed, UnixMillis::new(now)).await.map(Some)
        }
        LoginDecision::Locked { .. } => Ok(None),
        other => panic!("{other:?}"),
    }
}

fn over(database: Database) -> Arc<dyn Store> {
    Arc::new(EmbeddedStore::over(DatabaseHandle::new(database, None)).unwrap())
}

/// Checks that acknowledged changes are there after a start from this image.
async fn check(image: Vec<u8>, mode: Rotation, acknowledged: &Acknowledged) {
    let mut builder = Builder::new();
    let database =
        builder.set_check_integrity_on_open(true).create_with_backend(Disk::holding(image)).unwrap();
    let sessions = Sessions::start(over(database), policy(mode), UnixMillis::new(50)).await.unwrap();
    for ended in &acknowledged.ended {
        assert!(sessions.revocations().is_revoked(&ended.session), "an ended session's access tokens pass");
        let refused = sessions
            .refresh(ended.session, ended.refresh_token, None, |_| ACTIVE, None, UnixMillis::new(51))
            .await;
        assert_eq!(refused, Err(RefreshError::Revoked));
    }
    let mut left = 0;
    // An unsettled permit has expired by then.
    while fail(&sessions, 52 + 10_000).await.unwrap().is_some() {
        left += 1;
    }
    // One more attempt may have been counted than was acknowledged.
    let acknowledged_left = MAX_FAILURES - acknowledged.failures;
    assert!(
        (acknowledged_left.saturating_sub(1)..=acknowledged_left).contains(&left),
        "{left} of {acknowledged_left} attempts left"
    );
    let Some((opened, line)) = &acknowledged.line else { return };
    let refresh = |token: TokenId, now| sessions.refresh(opened.session, token, None, |_| ACTIVE, None, now);
    let newest = *line.last().unwrap();
    match refresh(newest, UnixMillis::new(60)).await {
        // The predecessor is valid: its successor is fixed.
        Ok(refreshed) => {
            let child = refreshed.successor.unwrap().id;
            refresh(child, UnixMillis::new(61)).await.unwrap();
        }
        // The successor was chosen and its response lost: without a grace period that counts as reuse, in
        // `on-use` mode only for clients that adopt their tokens.
        Err(RefreshError::Reused) => {
            assert!(acknowledged.unanswered_refresh && (mode == Rotation::Strict || line.len() > 1));
        }
        Err(error) => panic!("the newest token is answered with {error}"),
    }
    if line.len() > 2 {
        let reused = refresh(line[0], UnixMillis::new(70)).await;
        assert!(matches!(reused, Err(RefreshError::Reused | RefreshError::Revoked)), "reuse was forgiven");
    }
}

#[tokio::test]
async fn a_crash_at_any_step_loses_no_acknowledged_change_and_leaves_none_half_done() {
    for mode in [Rotation::OnUse, Rotation::Strict] {
        let empty = Disk::default();
        state_file::prepare(&Builder::new().create_with_backend(empty.clone()).unwrap()).unwrap();
        let image = empty.0.lock().unwrap().cached.clone();
        let (mut cuts, mut cut_before) = (0, 0);
        loop {
            let disk = Disk::holding(image.clone());
            let database = Builder::new().create_with_backend(disk.clone()).unwrap();
            {
                let mut sectors = disk.0.lock().unwrap();
                sectors.cut_before = Some(sectors.ops + cut_before);
            }
            let mut acknowledged = Acknowledged::default();
            let sessions = Sessions::start(over(database), policy(mode), UnixMillis::new(0)).await.unwrap();
            let lived_to_the_end = live(&sessions, &mut acknowledged).await.is_some();
            // The state at this moment, not after a shutdown.
            let sectors = std::mem::take(&mut *disk.0.lock().unwrap());
            for cut in [
                Cut::Killed,
                Cut::Lost,
                Cut::Torn(cut_before as u64 + 1),
                Cut::Torn(cut_before as u64 + 7919),
            ] {
                check(cut.image(&sectors), mode, &acknowledged).await;
                cuts += 1;
            }
            if lived_to_the_end {
                break;
            }
            cut_before += 1;
        }
        println!("{mode:?}: {cuts} cuts, before each of {cut_before} steps on the disk");
        assert!(cuts > 200);
    }
}
