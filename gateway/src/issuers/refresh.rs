//! Fetching of keys in the background: one task for each issuer in the whole process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, spawn_blocking, spawn_local};
use tokio::time::{MissedTickBehavior, interval, sleep};
use url::Url;

use super::address::Reach;
use super::fetch::Answer;
use super::freshness::freshness;
use super::{Issuers, OtherIssuer, discovery, introspection, key_cache};
use crate::clock::now_millis;
use crate::config::IssuerKeys;

/// How soon a changed configuration is followed.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);

/// Fetches the keys of the active configuration's issuers, for ever.
pub(crate) async fn run_background_tasks(issuers: impl Fn() -> Arc<Issuers>) {
    let mut running: Vec<(Arc<OtherIssuer>, [JoinHandle<()>; 2])> = Vec::new();
    let mut ticks = interval(FOLLOW_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let current = issuers();
        running.retain(|(issuer, tasks)| {
            let stays = current.iter().any(|other| Arc::ptr_eq(other, issuer));
            if !stays {
                tasks.iter().for_each(JoinHandle::abort);
            }
            stays
        });
        for issuer in current.iter() {
            if !running.iter().any(|(other, _)| Arc::ptr_eq(other, issuer)) {
                let tasks = [
                    spawn_local(keep_fresh(Arc::clone(issuer))),
                    spawn_local(introspection::run(Arc::clone(issuer))),
                ];
                running.push((Arc::clone(issuer), tasks));
            }
        }
    }
}

async fn keep_fresh(issuer: Arc<OtherIssuer>) {
    let mut location = None;
    while issuer.fetches_keys() {
        tokio::select! {
            () = sleep(issuer.next_fetch_in()) => {}
            () = issuer.wake.notified() => {}
        }
        issuer.begin_fetch();
        let fetched = fetch(&issuer, &mut location).await;
        issuer.finish_fetch(fetched, now_millis().seconds());
    }
}

/// Where a discovery document said that the keys are, and when.
pub(super) struct Location {
    url: Url,
    reach: Reach,
    found: Instant,
}

/// Fetches the keys of an issuer and keeps them, here and on disk. Gives how long they are fresh.
///
/// # Errors
///
/// Why that failed, in words.
async fn fetch(issuer: &Arc<OtherIssuer>, location: &mut Option<Location>) -> Result<Duration, String> {
    let settings = &issuer.settings;
    let answer = take_keys(issuer, location).await?;
    let (kept, now) = (Arc::clone(issuer), now_millis().seconds());
    let saved = spawn_blocking(move || key_cache::save(&kept.settings, now, &answer.body)).await;
    if let Err(error) = saved.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        let path = key_cache::path(settings);
        tracing::warn!(issuer = settings.name, path = %path.display(), %error, "the issuer's keys cannot be kept on disk");
    }
    Ok(freshness(&answer.headers, settings.refresh_min, settings.refresh_max))
}

/// Fetches the keys of an issuer once.
///
/// # Errors
///
/// Why that failed, in words.
pub(super) async fn take_keys(
    issuer: &OtherIssuer,
    location: &mut Option<Location>,
) -> Result<Answer, String> {
    let (settings, client) = (&issuer.settings, &issuer.client);
    // After a failure the document is read again: it may name another address.
    let known = location.take().filter(|known| known.found.elapsed() < settings.refresh_max);
    let known = match (&settings.keys, known) {
        (_, Some(known)) => known,
        (IssuerKeys::Url(url), None) => {
            Location { url: url.clone(), reach: Reach::Anywhere, found: Instant::now() }
        }
        (IssuerKeys::Discovery(document), None) => {
            let answer = client.get(document, Reach::Anywhere).await?;
            let found = discovery::jwks_uri(&answer.body, &settings.issuer, document, answer.from);
            let (url, reach) = found.map_err(|why| format!("{document} {why}"))?;
            Location { url, reach, found: Instant::now() }
        }
        _ => return Err("its keys are not fetched".to_owned()),
    };
    let answer = client.get(&known.url, known.reach).await?;
    issuer.take_keys(&answer.body, now_millis().seconds()).map_err(|why| format!("{} {why}", known.url))?;
    *location = Some(known);
    Ok(answer)
}
