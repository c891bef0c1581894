//! What is done for upstreams beside requests: names are looked up anew, and servers are asked whether they are well.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Method;
use tokio::net::lookup_host;
use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::config::{HealthCheck, UpstreamProtocol};
use crate::upstream::connection::UpstreamConnection;
use crate::upstream::http2;
use crate::upstream::outlier_ejection::Endpoint;
use crate::upstream::upstream::{Upstream, millis, name_of, of_one_family};

/// How finely the times of look-ups and checks are kept.
const TICK: Duration = Duration::from_millis(50);
/// A name of which nothing is known is looked up again so soon.
const SOON: Duration = Duration::from_secs(1);
/// A server's whole answer to a check is read up to so many bytes.
const READ_SIZE: usize = 4 * 1024;

/// Cares for the upstreams that are in force, for good.
pub(crate) async fn care(upstreams: impl Fn() -> Vec<Arc<Upstream>>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // When each server is asked next; those that are gone drop out.
    let mut asked_at: HashMap<*const Endpoint, u64> = HashMap::new();
    loop {
        ticks.tick().await;
        let now = millis();
        let mut still_asked = HashMap::new();
        for upstream in upstreams() {
            if upstream.has_names() && now >= upstream.resolve_at.load(Ordering::Relaxed) {
                resolve(&upstream);
            }
            let Some(check) = &upstream.settings.health else { continue };
            for endpoint in upstream.endpoints() {
                let key = Arc::as_ptr(&endpoint);
                let due = asked_at.get(&key).copied().unwrap_or(now);
                let next = if now >= due { now + check.interval.as_millis() as u64 } else { due };
                still_asked.insert(key, next);
                if now >= due {
                    spawn_local(ask(Arc::clone(&upstream), endpoint, check.clone()));
                }
            }
        }
        asked_at = still_asked;
    }
}

/// Looks the names of an upstream up, unless somebody is at it. A failure changes nothing.
fn resolve(upstream: &Arc<Upstream>) {
    if upstream.resolving.swap(true, Ordering::Relaxed) {
        return;
    }
    let upstream = Arc::clone(upstream);
    spawn_local(async move {
        let mut found = HashMap::new();
        for (place, url) in upstream.settings.urls.iter().enumerate() {
            let Some(name) = name_of(url) else { continue };
            match lookup_host(name).await {
                Ok(addresses) => drop(found.insert(place, of_one_family(addresses))),
                Err(error) => {
                    tracing::warn!(upstream = upstream.name(), name = name.0, %error, "a name cannot be looked up; the servers that were known stay");
                }
            }
        }
        let now = millis();
        upstream.update(&found, now);
        let wait = match upstream.endpoints().is_empty() {
            true => SOON.min(upstream.settings.resolve_interval),
            false => upstream.settings.resolve_interval,
        };
        upstream.resolve_at.store(now + wait.as_millis() as u64, Ordering::Relaxed);
        upstream.resolving.store(false, Ordering::Relaxed);
    });
}

/// Asks a server whether it is well.
async fn ask(upstream: Arc<Upstream>, endpoint: Arc<Endpoint>, check: HealthCheck) {
    let asking = timeout(check.timeout, async {
        match upstream.settings.protocol {
            UpstreamProtocol::Http1 => answer(&upstream, &endpoint, &check).await,
            UpstreamProtocol::Http2 => http2::status_of(&upstream, &endpoint, &check.path).await,
        }
    });
    let well = matches!(asking.await, Ok(Some(200..=399)));
    let counter = if well { &upstream.counts.checks_passed } else { &upstream.counts.checks_failed };
    counter.fetch_add(1, Ordering::Relaxed);
    endpoint.checked(well, millis(), &check);
}

/// The status of a server's answer.
async fn answer(upstream: &Upstream, endpoint: &Endpoint, check: &HealthCheck) -> Option<u16> {
    let mut connection = UpstreamConnection::open(upstream, endpoint).await.ok()?;
    let host = upstream.settings.urls[endpoint.url].authority();
    let request = format!(
        "{} {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: auth-gateway-health\r\nConnection: close\r\n\r\n",
        Method::GET,
        check.path
    );
    let UpstreamConnection { socket, input, head, deadline } = &mut connection;
    socket.write_all(deadline, check.timeout, request.as_bytes(), |_| {}).await.ok()?;
    loop {
        match head.parse(input.filled()).ok()? {
            Some(length) if head.status().is_informational() => input.consume(length),
            Some(_) => return Some(head.status().as_u16()),
            None => {
                if poll_fn(|cx| socket.poll_read(cx, input, READ_SIZE)).await.ok()? == 0 {
                    return None;
                }
            }
        }
    }
}
