//! Replays the attack cases against the built gateway, with invariants that are checked after each of them.

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::case::{ADAPTED, Case, LEFT_OUT};
use super::check::{Outcome, failures, latin1};
use super::expand::Values;
use super::forge::Forge;
use super::keys::Key;
use crate::fixture::{Canary, Gateway, PASSWORD, Upstream, exchange_for, get, tokens, users_file};

const LEEWAY: i64 = 30;
/// Resident memory may not grow by more over a run, in KiB.
const MEMORY_GROWTH: u64 = 20 * 1024;
/// How long to wait for a second response that must not come.
const SILENCE: Duration = Duration::from_millis(150);

/// A gateway with a key that the test knows, and all that a case may ask for.
pub(super) struct Bench {
    pub(super) gateway: Gateway,
    pub(super) upstream: Upstream,
    pub(super) canary: Canary,
    key: Key,
    attacker: Key,
    pub(super) values: Values,
    pub(super) access: String,
    secrets: Vec<String>,
    memory_at_start: u64,
}

impl Bench {
    fn start(algorithm: &'static str) -> Bench {
        Bench::start_with(algorithm, "")
    }

    /// The same with more in `[server]`.
    pub(super) fn start_with(algorithm: &'static str, server: &str) -> Bench {
        let (key, attacker) = (Key::generate(algorithm), Key::generate(algorithm));
        let (upstream, canary) = (Upstream::start(), Canary::start());
        let signing = match key.is_symmetric() {
            true => format!("secret = {:?}", key.text()),
            false => "private_key_file = \"key.pem\"".into(),
        };
        let config = format!(
            r#"
[server]
{server}
[tokens]
issuer = "https://gw.test"
audience = "attacks"
access_ttl = "10m"
refresh_ttl = "1h"
leeway = "{LEEWAY}s"
algorithm = "{algorithm}"
{signing}
[lockout]
max_failures = 100
[cors]
allowed_origins = ["https://spa.test"]
[identity_headers]
name = "X-Auth-Name"
email = "X-Auth-Email"
[upstreams.recorder]
urls = ["http://{upstream}"]
[[routes]]
path = "/public"
upstream = "recorder"
access = "public"
[[routes]]
path = "/api"
upstream = "recorder"
[[routes]]
path = "/admin"
upstream = "recorder"
roles = ["admin"]
[[routes]]
path = "/ws"
upstream = "recorder"
upgrade = ["websocket"]
"#,
            upstream = upstream.address
        );
        let long: String = "p".repeat(1024);
        let users = users_file(&[
            ("1", "alice", PASSWORD, &["user"]),
            ("2", "bob", PASSWORD, &["user"]),
            ("3", "root", PASSWORD, &["admin"]),
            ("4", "long", &long[..80], &["user"]),
            ("5", "long1024", &long, &["user"]),
        ]);
        let gateway = Gateway::start_with(&config, &users, &[("key.pem", key.text().as_bytes())]);
        let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
        let (bob, _) = tokens(gateway.address, "bob", PASSWORD);
        let values = values(&gateway, &canary, &key, &access, &refresh, &bob);
        let secrets = [&access, &refresh, &bob].map(|t| t.rsplit('.').next().unwrap().to_owned()).to_vec();
        let memory_at_start = gateway.memory_kib();
        let secrets = [secrets, vec![PASSWORD.to_owned(), key.text()]].concat();
        Bench { gateway, upstream, canary, key, attacker, values, access, secrets, memory_at_start }
    }

    /// Sends a case's bytes and gives everything that is wrong afterwards, also where there is time for what comes late.
    fn replay(&mut self, case: &Case, token: Option<&str>) -> Vec<String> {
        match self.replay_for(case, token, SILENCE) {
            wrong if wrong.is_empty() => wrong,
            _ => self.replay_for(case, token, 20 * SILENCE),
        }
    }

    fn replay_for(&mut self, case: &Case, token: Option<&str>, silence: Duration) -> Vec<String> {
        if let Some(token) = token {
            self.values.set("TOKEN", token);
        }
        let bytes = self.values.expand_bytes(case.template());
        self.upstream.clear();
        let transcript = exchange_for(self.gateway.address, &bytes, silence);
        let upstream = self.upstream.requests();
        let log = self.gateway.log();
        let canary_touched = self.canary.was_touched();
        let outcome = Outcome { transcript: &transcript, upstream: &upstream, canary_touched, log: &log };
        let mut wrong = failures(&adapted(case), &outcome);
        wrong.extend(
            self.broken_invariants(&transcript.replies.iter().map(|r| r.status).collect::<Vec<_>>(), &log),
        );
        if !wrong.is_empty() {
            let sent: String = latin1(&bytes[..bytes.len().min(600)]).escape_debug().collect();
            let got = transcript.replies.first().map(|r| format!("{} {}", r.status, r.text()));
            wrong.push(format!("sent {sent}"));
            wrong.push(format!(
                "first answer {got:?}; upstream {:?}",
                upstream.iter().map(|r| &r.target).collect::<Vec<_>>()
            ));
        }
        wrong
    }

    /// What must hold whatever was sent.
    pub(super) fn broken_invariants(&mut self, statuses: &[u16], log: &str) -> Vec<String> {
        let mut broken = Vec::new();
        let mut must = |holds: bool, what: &str| {
            if !holds {
                broken.push(what.to_owned());
            }
        };
        must(self.gateway.is_running(), "the gateway is no longer running");
        must(!statuses.iter().any(|s| matches!(s, 500 | 502)), "a 500 or a 502");
        must(!log.contains("panicked"), "a panic");
        must(
            self.upstream.violations().is_empty(),
            &format!("the upstream saw {:?}", self.upstream.violations()),
        );
        for secret in &self.secrets {
            must(!log.contains(secret.as_str()), "a token or a password in the log");
        }
        let bearer = format!("Bearer {}", self.access);
        let control = get(self.gateway.address, "/api/echo", &[("Authorization", &bearer)]);
        must(control.is_some_and(|r| r.status == 200), "the control request fails");
        broken
    }
}

/// What a case asserts, where the contract does not win.
pub(super) fn adapted(case: &Case) -> Map<String, Value> {
    let mut asserts = case.asserts.clone();
    if let Some((_, statuses, _)) = ADAPTED.iter().find(|(id, ..)| *id == case.id) {
        asserts.insert("status".into(), json!(statuses));
    }
    asserts
}

fn values(gateway: &Gateway, canary: &Canary, key: &Key, access: &str, refresh: &str, bob: &str) -> Values {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut values = Values { leeway: LEEWAY, ..Values::default() };
    let header: serde_json::Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(access.split('.').next().unwrap()).unwrap()).unwrap();
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let unsigned = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(r#"{"sub":"root"}"#));
    let flip = |token: &str| {
        let last = if token.ends_with('A') { 'B' } else { 'A' };
        format!("{}{last}", &token[..token.len() - 1])
    };
    for (name, value) in [
        ("HOST", gateway.address.to_string()),
        ("CANARY", canary.port().to_string()),
        ("AT", access.into()),
        ("AT_BOB", bob.into()),
        (
            "AT_ADMIN_FORGED",
            format!("{}.{}.{}", encode(r#"{"alg":"none"}"#), encode(r#"{"sub":"3","roles":["admin"]}"#), "x"),
        ),
        ("RT", refresh.into()),
        ("RT_FLIP", flip(refresh)),
        ("KID", header["kid"].as_str().unwrap_or_default().into()),
        ("ALG", key.algorithm.into()),
        ("ALG_LOWER", key.algorithm.to_lowercase()),
        ("ISS", "https://gw.test".into()),
        ("ISS_UPPER", "HTTPS://GW.TEST".into()),
        ("AUD", "attacks".into()),
        ("AUD_UPPER", "ATTACKS".into()),
        ("PW_ALICE", PASSWORD.into()),
        ("RND", "d7f3a1".into()),
        ("ANY", "anything".into()),
        (
            "ATTACKER_JWK",
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#.into(),
        ),
        ("ATTACKER_CERT_B64", "MIIBszCCAVmgAwIBAgIUX".into()),
        ("UNSIGNED_INNER_JWT", unsigned),
        ("GW_PSEUDONYM", "auth-gateway".into()),
    ] {
        values.set(name, value);
    }
    values
}

/// What became of a set of cases.
#[derive(Default)]
pub(super) struct Report {
    passed: usize,
    pub(super) left_out: Vec<String>,
    failed: Vec<String>,
}

impl Report {
    pub(super) fn add(&mut self, case: &Case, wrong: Vec<String>) {
        if wrong.is_empty() {
            self.passed += 1;
        } else {
            let Case { id, description, expect, .. } = case;
            self.failed.push(format!("{id} {description}\n  expected {expect}\n  {}", wrong.join("\n  ")));
        }
    }

    pub(super) fn close(self, name: &str, bench: &Bench) {
        let growth = bench.gateway.memory_kib().saturating_sub(bench.memory_at_start);
        let mut text = format!(
            "{name}: {} passed, {} left out, {} failed\n",
            self.passed,
            self.left_out.len(),
            self.failed.len()
        );
        for left_out in &self.left_out {
            let _ = writeln!(text, "  left out: {left_out}");
        }
        println!("{text}");
        assert!(self.failed.is_empty(), "{text}\n{}", self.failed.join("\n\n"));
        assert!(growth < MEMORY_GROWTH, "{name}: resident memory grew by {growth} KiB");
        assert!(self.passed > 0, "{name}: no case was run");
    }
}

pub(super) fn cases() -> &'static [Case] {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(Case::all)
}

fn left_out(case: &Case) -> Option<String> {
    let (_, reason) = LEFT_OUT.iter().find(|(id, _)| *id == case.id)?;
    Some(format!("{}: {reason}", case.id))
}

#[test]
fn raw_attacks_are_answered_as_they_should_be() {
    let mut bench = Bench::start("EdDSA");
    let mut report = Report::default();
    for case in cases().iter().filter(|c| c.kind == "raw") {
        match left_out(case) {
            Some(reason) => report.left_out.push(reason),
            None => {
                let wrong = bench.replay(case, None);
                report.add(case, wrong);
            }
        }
    }
    report.close("raw", &bench);
}

/// The cases that forge tokens, against a gateway that signs by `algorithm`.
fn forged_tokens_are_refused(algorithm: &'static str) {
    let mut bench = Bench::start(algorithm);
    let mut report = Report::default();
    for case in cases().iter().filter(|c| c.kind == "token") {
        if let Some(reason) = left_out(case).or_else(|| needs_another(case, algorithm)) {
            report.left_out.push(reason);
            continue;
        }
        let recipe = case.token.as_ref().unwrap();
        let forge = Forge {
            key: &bench.key,
            attacker: &bench.attacker,
            access: &bench.access,
            values: &bench.values,
        };
        match forge.tokens(recipe) {
            Err(reason) => report.left_out.push(format!("{}: {reason}", case.id)),
            Ok(tokens) => {
                let wrong = tokens.iter().flat_map(|token| bench.replay(case, Some(token))).collect();
                report.add(case, wrong);
            }
        }
    }
    report.close(algorithm, &bench);
}

/// A case's set-up may be about one algorithm or about key pairs only.
fn needs_another(case: &Case, algorithm: &str) -> Option<String> {
    let setup = case.setup.as_deref()?;
    let wanted = setup.strip_prefix("issuer alg ")?.split([' ', ',', ';']).next()?;
    (wanted != algorithm).then(|| format!("{}: {setup}", case.id))
}

#[test]
fn forged_tokens_are_refused_with_hs256() {
    forged_tokens_are_refused("HS256");
}

#[test]
fn forged_tokens_are_refused_with_rs256() {
    forged_tokens_are_refused("RS256");
}

#[test]
fn forged_tokens_are_refused_with_ps256() {
    forged_tokens_are_refused("PS256");
}

#[test]
fn forged_tokens_are_refused_with_es256() {
    forged_tokens_are_refused("ES256");
}

#[test]
fn forged_tokens_are_refused_with_eddsa() {
    forged_tokens_are_refused("EdDSA");
}

#[test]
fn every_case_is_run_left_out_by_name_or_not_for_sockets() {
    let categories: std::collections::BTreeSet<_> = cases().iter().map(|c| c.category.as_str()).collect();
    assert!(categories.len() >= 10, "{categories:?}");
    for id in LEFT_OUT.iter().map(|(id, _)| id).chain(ADAPTED.iter().map(|(id, ..)| id)) {
        assert!(cases().iter().any(|c| c.id == *id), "{id} is no case");
    }
}
