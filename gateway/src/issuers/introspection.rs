//! Introspection of opaque tokens (RFC 7662): one request at a time for each token over all workers, with a bounded cache of responses.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foldhash::fast::RandomState;
use http::HeaderValue;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;

use super::OtherIssuer;
use super::address::Reach;
use super::claims::{Accepted, Origin, accept};
use super::fetch::{Answer, Connection};
use super::other_issuer::count;
use crate::clock::now_millis;
use crate::config::{Introspection, IssuerSettings};
use crate::strict_json;
use crate::tokens::{TokenError, UnixSeconds};

/// Maximum length of an opaque token, in bytes.
const MAX_TOKEN_LEN: usize = 16 * 1024;
/// Maximum number of concurrent requests to one issuer.
const MAX_RUNNING: usize = 128;
/// Maximum number of idle connections to one issuer.
const MAX_IDLE_CONNECTIONS: usize = 8;

/// A token's hash, so that tokens are not kept.
type TokenHash = [u8; 32];

/// The result of an introspection.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    /// The identity, or why the token is not accepted.
    pub(crate) result: Result<Accepted, TokenError>,
    /// Until when the answer counts, in seconds since 1970.
    pub(crate) until: UnixSeconds,
}

/// What is known of a token.
#[derive(Debug)]
pub(crate) enum Introspected {
    Known(Verdict),
    /// A request to the issuer is under way; its verdict is sent here. The sender is dropped where it fails.
    Pending(watch::Receiver<Option<Verdict>>),
    /// Too many requests are under way.
    Busy,
}

/// A request to an issuer.
struct Job {
    hash: TokenHash,
    token: String,
    verdict: watch::Sender<Option<Verdict>>,
}

/// The state of one issuer's introspection.
pub(super) struct Introspector {
    settings: Introspection,
    authorization: HeaderValue,
    answers: Mutex<Answers>,
    jobs: mpsc::UnboundedSender<Job>,
    /// Taken by the background task.
    queue: Mutex<Option<mpsc::UnboundedReceiver<Job>>>,
    last_error: Mutex<Option<String>>,
}

/// Answers in two generations: when the young one is full it becomes the old one, and the previous old one is evicted.
#[derive(Default)]
struct Answers {
    young: HashMap<TokenHash, Verdict, RandomState>,
    old: HashMap<TokenHash, Verdict, RandomState>,
    running: HashMap<TokenHash, watch::Receiver<Option<Verdict>>, RandomState>,
}

impl Answers {
    fn get(&self, hash: &TokenHash, now: UnixSeconds) -> Option<&Verdict> {
        self.young.get(hash).or_else(|| self.old.get(hash)).filter(|verdict| now < verdict.until)
    }

    fn insert(&mut self, hash: TokenHash, verdict: Verdict, capacity: usize) {
        if self.young.len() >= capacity.div_ceil(2).max(1) && !self.young.contains_key(&hash) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, verdict);
    }
}

impl Introspector {
    pub(super) fn new(settings: Introspection) -> Introspector {
        let (jobs, queue) = mpsc::unbounded_channel();
        Introspector {
            authorization: authorization(&settings),
            settings,
            answers: Mutex::default(),
            jobs,
            queue: Mutex::new(Some(queue)),
            last_error: Mutex::default(),
        }
    }

    /// What is known of a token; the issuer is queried where nothing is.
    pub(super) fn introspect(&self, token: &str, now: UnixSeconds) -> Introspected {
        let invalid = |reason| Verdict { result: Err(TokenError::Invalid(reason)), until: now };
        if token.len() > MAX_TOKEN_LEN {
            return Introspected::Known(invalid("larger than 16 KiB"));
        }
        let mut hash = TokenHash::default();
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let mut answers = self.answers();
        if let Some(verdict) = answers.get(&hash, now) {
            return Introspected::Known(verdict.clone());
        }
        if let Some(running) = answers.running.get(&hash) {
            return Introspected::Pending(running.clone());
        }
        if answers.running.len() >= MAX_RUNNING {
            return Introspected::Busy;
        }
        let (verdict, pending) = watch::channel(None);
        // Without a background task, as in a dry run, nothing answers.
        if self.jobs.send(Job { hash, token: token.to_owned(), verdict }).is_ok() {
            answers.running.insert(hash, pending.clone());
        }
        Introspected::Pending(pending)
    }

    /// The error of the last request, if it failed.
    pub(super) fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        // Maps are changed by one call each, so a panic elsewhere leaves them consistent.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends the introspections that workers request to an issuer, until it is aborted.
pub(super) async fn run(issuer: Arc<OtherIssuer>) {
    let Some(introspector) = &issuer.introspector else { return };
    let queue = introspector.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut queue) = queue else { return };
    let idle: Rc<RefCell<Vec<Connection>>> = Rc::default();
    while let Some(job) = queue.recv().await {
        spawn_local(answer(Arc::clone(&issuer), Rc::clone(&idle), job));
    }
}

async fn answer(issuer: Arc<OtherIssuer>, idle: Rc<RefCell<Vec<Connection>>>, job: Job) {
    let Some(introspector) = &issuer.introspector else { return };
    let asked = issuer.client.within_timeout(ask(&issuer, introspector, &idle, &job.token)).await;
    let verdict = asked.and_then(|answer| {
        judge(&issuer.settings, &introspector.settings, &answer.body, now_millis().seconds())
    });
    let (counters, name) = (&issuer.counters, &issuer.settings.name);
    let error = verdict.as_ref().err().map(|why| format!("{} {why}", introspector.settings.url));
    let last_error = {
        let mut last_error = introspector.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *last_error, error.clone())
    };
    match (&last_error, &error) {
        (_, Some(error)) if last_error.as_ref() != Some(error) => {
            tracing::warn!(issuer = name, "tokens cannot be introspected: {error}; they get 503 until then");
        }
        (Some(_), None) => tracing::info!(issuer = name, "tokens can be introspected again"),
        _ => {}
    }
    let mut answers = introspector.answers();
    answers.running.remove(&job.hash);
    match verdict {
        Ok(verdict) => {
            count(if verdict.result.is_ok() { &counters.active } else { &counters.inactive });
            answers.insert(job.hash, verdict.clone(), introspector.settings.cache_size);
            drop(answers);
            job.verdict.send_replace(Some(verdict));
        }
        Err(_) => count(&counters.introspection_failed),
    }
}

/// Sends a request over an idle connection, or else over a new one.
async fn ask(
    issuer: &OtherIssuer,
    introspector: &Introspector,
    idle: &RefCell<Vec<Connection>>,
    token: &str,
) -> Result<Answer, String> {
    let Introspector { settings, authorization, .. } = introspector;
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("token", token)
        .append_pair("token_type_hint", "access_token")
        .finish();
    let mut reused = idle.borrow_mut().pop();
    while let Some(mut connection) = reused.filter(Connection::is_open) {
        // The issuer may have closed it a moment ago; an introspection can be repeated.
        if let Ok(answer) =
            issuer.client.post(&mut connection, &settings.url, authorization, form.clone()).await
        {
            keep(idle, connection);
            return Ok(answer);
        }
        reused = idle.borrow_mut().pop();
    }
    let mut connection = issuer.client.connect(&settings.url, Reach::Anywhere).await?;
    let answer = issuer.client.post(&mut connection, &settings.url, authorization, form).await?;
    keep(idle, connection);
    Ok(answer)
}

fn keep(idle: &RefCell<Vec<Connection>>, connection: Connection) {
    let mut idle = idle.borrow_mut();
    if idle.len() < MAX_IDLE_CONNECTIONS {
        idle.push(connection);
    }
}

/// What an answer means.
///
/// # Errors
///
/// It is no response to an introspection.
fn judge(
    issuer: &IssuerSettings,
    settings: &Introspection,
    json: &[u8],
    now: UnixSeconds,
) -> Result<Verdict, String> {
    let claims =
        strict_json::object(json).ok_or("answers with what is not a JSON object with unique members")?;
    let after = |ttl: Duration| now.saturating_add(ttl.max(Duration::from_secs(1)));
    let negative = |error| Verdict { result: Err(error), until: after(settings.negative_ttl) };
    match claims.get("active") {
        Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => {
            return Ok(negative(TokenError::Invalid("its issuer says that it is not active")));
        }
        _ => return Err("answers without `active`".to_owned()),
    }
    let until = after(settings.cache_ttl);
    Ok(match accept(issuer, &claims, Origin::Introspection(until), now) {
        Ok(accepted) => Verdict { until: until.min(accepted.valid_until), result: Ok(accepted) },
        Err(error) => negative(error),
    })
}

/// HTTP Basic with form-encoded id and secret (RFC 6749 section 2.3.1).
fn authorization(settings: &Introspection) -> HeaderValue {
    let encode = |bytes: &[u8]| form_urlencoded::byte_serialize(bytes).collect::<String>();
    let pair = format!("{}:{}", encode(settings.client_id.as_bytes()), encode(&settings.client_secret));
    // Base64 is visible ASCII.
    let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)));
    let mut value = value.unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::test_support::{ISSUER, NOW, issuer};
    use super::*;
    use serde_json::json;

    const KEYS: &str = "introspection_url = \"https://login.example/i\"\nintrospection_client_id = \"a b:c\"\nintrospection_client_secret = \"p%ä\"\n";

    fn judged(answer: &Value) -> Result<Verdict, String> {
        let issuer = issuer(KEYS);
        judge(
            &issuer,
            issuer.introspection.as_ref().unwrap(),
            answer.to_string().as_bytes(),
            UnixSeconds::new(NOW),
        )
    }

    #[test]
    fn an_answer_counts_no_longer_than_the_token() {
        let good = json!({"active": true, "sub": "u", "username": "x", "aud": "api", "exp": NOW + 5, "token_type": "Bearer"});
        let verdict = judged(&good).unwrap();
        assert_eq!(verdict.until, UnixSeconds::new(NOW + 30));
        let accepted = verdict.result.unwrap();
        assert_eq!((accepted.claims.subject(), accepted.claims.username()), ("kc:u", "kc:u"));
        assert_eq!(accepted.valid_until, UnixSeconds::new(NOW + 35));
        let without_exp = json!({"active": true, "sub": "u", "aud": "api", "iss": ISSUER});
        let verdict = judged(&without_exp).unwrap();
        assert_eq!(verdict.until, UnixSeconds::new(NOW + 30));
        // A stream needs an end.
        assert_eq!(verdict.result.unwrap().claims.session_expires_at(), Some(UnixSeconds::new(NOW + 30)));
    }

    #[test]
    fn what_is_not_active_or_not_for_us_is_refused_and_what_is_no_answer_is_a_failure() {
        for answer in [
            json!({"active": false}),
            json!({"active": false, "sub": "u", "aud": "api"}),
            json!({"active": true, "aud": "api"}),
            json!({"active": true, "sub": "u", "aud": "other"}),
            json!({"active": true, "sub": "u"}),
            json!({"active": true, "sub": "u", "aud": "api", "iss": "https://evil.example"}),
            json!({"active": true, "sub": "u", "aud": "api", "exp": NOW - 60}),
            json!({"active": true, "sub": "u", "aud": "api", "token_type": "DPoP"}),
            json!({"active": true, "sub": "u", "aud": "api", "token_type": "refresh_token"}),
            json!({"active": true, "sub": "u", "aud": "api", "cnf": {"jkt": "x"}}),
        ] {
            let verdict = judged(&answer).unwrap();
            assert!(verdict.result.is_err() && verdict.until == UnixSeconds::new(NOW + 10), "{answer}");
        }
        for answer in
            [json!({"active": "true"}), json!({}), json!([true]), json!({"active": 1}), json!({"error": "x"})]
        {
            assert!(judged(&answer).is_err(), "{answer}");
        }
    }

    #[test]
    fn credentials_are_form_encoded() {
        let value = authorization(issuer(KEYS).introspection.as_ref().unwrap());
        let decoded = STANDARD.decode(value.to_str().unwrap().strip_prefix("Basic ").unwrap()).unwrap();
        assert_eq!(String::from_utf8(decoded).unwrap(), "a+b%3Ac:p%25%C3%A4");
    }

    #[test]
    fn one_token_is_introspected_once_and_the_cache_is_bounded() {
        let introspector =
            Introspector::new(issuer(&format!("{KEYS}introspection_cache_size = 10")).introspection.unwrap());
        let pending = |token: &str| {
            matches!(introspector.introspect(token, UnixSeconds::new(NOW)), Introspected::Pending(_))
        };
        assert!(pending("a") && pending("a") && pending("b"));
        assert_eq!(introspector.queue.lock().unwrap().as_mut().unwrap().len(), 2);
        for n in 0..MAX_RUNNING - 2 {
            assert!(pending(&format!("t{n}")));
        }
        assert!(matches!(introspector.introspect("one more", UnixSeconds::new(NOW)), Introspected::Busy));
        let mut answers = Answers::default();
        let verdict = Verdict { result: Err(TokenError::Expired), until: UnixSeconds::new(NOW + 10) };
        for n in 0..100_u8 {
            answers.insert([n; 32], verdict.clone(), 10);
            assert!(answers.young.len() + answers.old.len() <= 10);
        }
        assert!(
            answers.get(&[99; 32], UnixSeconds::new(NOW)).is_some()
                && answers.get(&[99; 32], UnixSeconds::new(NOW + 10)).is_none()
        );
        assert!(answers.get(&[0; 32], UnixSeconds::new(NOW)).is_none());
        let long = "x".repeat(MAX_TOKEN_LEN + 1);
        assert!(matches!(
            introspector.introspect(&long, UnixSeconds::new(NOW)),
            Introspected::Known(Verdict { result: Err(_), .. })
        ));
    }
}
