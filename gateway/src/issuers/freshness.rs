//! When keys are fetched again: `Cache-Control` within limits (RFC 9111), and backoff after failures.

use std::time::Duration;

use http::HeaderMap;
use http::header::{AGE, CACHE_CONTROL};

/// How long keys are fresh whose issuer does not say.
const DEFAULT_FRESHNESS: Duration = Duration::from_secs(60 * 60);
const INITIAL_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// How long an answer is fresh, from `min` to `max`.
pub(super) fn freshness(headers: &HeaderMap, min: Duration, max: Duration) -> Duration {
    let mut lifetime = None;
    for value in headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok()) {
        for directive in value.split(',').map(str::trim) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" | "no-cache" => return min,
                "max-age" => {
                    lifetime =
                        lifetime.or(value.trim().trim_matches('"').parse().ok().map(Duration::from_secs));
                }
                _ => {}
            }
        }
    }
    let age =
        headers.get(AGE).and_then(|age| age.to_str().ok()?.trim().parse().ok()).map(Duration::from_secs);
    lifetime
        .map_or(DEFAULT_FRESHNESS, |lifetime| lifetime.saturating_sub(age.unwrap_or_default()))
        .clamp(min, max)
}

/// The wait after this many failures in a row; at first no longer than `min`.
pub(super) fn backoff(failures: u32, min: Duration) -> Duration {
    min.min(INITIAL_BACKOFF).saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX_BACKOFF)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fresh_as_long_as_the_answer_says_within_limits() {
        for (cache_control, age, seconds) in [
            ("max-age=3600", "", 3600),
            ("public, max-age=3600, must-revalidate", "", 3600),
            ("Max-Age=\"3600\"", "600", 3000),
            ("max-age=600, max-age=9000", "", 600),
            ("max-age=1", "", 60),
            ("max-age=0", "", 60),
            ("max-age=99999999999", "", 7200),
            ("max-age=3600", "9999", 60),
            ("max-age=-1", "", 3600),
            ("no-cache", "", 60),
            ("no-store, max-age=3600", "", 60),
            ("", "", 3600),
            ("nonsense", "x", 3600),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [(CACHE_CONTROL, cache_control), (AGE, age)] {
                if !value.is_empty() {
                    headers.insert(name, value.parse().unwrap());
                }
            }
            let limits = (Duration::from_secs(60), Duration::from_secs(7200));
            assert_eq!(freshness(&headers, limits.0, limits.1).as_secs(), seconds, "{cache_control} {age}");
        }
    }

    #[test]
    fn failures_are_repeated_after_longer_and_longer_waits() {
        let waits: Vec<u64> = [1, 2, 3, 6, 7, 8, 4_000_000_000]
            .map(|n| backoff(n, Duration::from_secs(300)).as_secs())
            .to_vec();
        assert_eq!(waits, [1, 2, 4, 32, 60, 60, 60]);
        assert_eq!(backoff(2, Duration::from_millis(100)), Duration::from_millis(200));
    }
}
