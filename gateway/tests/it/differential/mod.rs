//! What the gateway authorises is what the upstream understands: nearly right requests through the gateway to nginx, to
//! gunicorn and to an upstream that writes down every byte.
//!
//! `AUTH_GATEWAY_LONG=1` sends 10,000 to each; otherwise some hundreds are sent. A disagreement is reported with the seed that
//! makes the same request again.

mod generator;
mod servers;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::fixture::{Gateway, PASSWORD, Reply, exchange_to_end, tokens};
use generator::{Mutated, mutated};
use servers::{Server, Understood};

/// How one of the upstreams fared.
#[derive(Debug, Default)]
struct Tally {
    sent: usize,
    forwarded: usize,
    authorised: usize,
    refused: BTreeMap<u16, usize>,
    disagreements: Vec<String>,
}

fn config(server: &Server) -> String {
    format!(
        "[server]\nworkers = 1\n[store]\nkind = \"memory\"\n[tokens]\naccess_ttl = \"30m\"\nrefresh_ttl = \"1h\"\n\
         [log]\naccess = false\n\
         [upstreams.app]\nurls = [\"http://{}\"]\n\
         [[routes]]\npath = \"/protected\"\nupstream = \"app\"\nmethods = [\"GET\", \"POST\", \"PUT\", \"PATCH\", \"DELETE\", \"OPTIONS\", \"PURGE\"]\n\
         [[routes]]\npath = \"/open\"\nupstream = \"app\"\naccess = \"public\"\nencoded_slashes = true\n",
        server.address
    )
}

/// Sends the seeds of a range through a gateway to that server.
fn run(server: Server, seeds: std::ops::Range<u64>) -> Tally {
    let gateway = Gateway::start(&config(&server));
    let (token, _) = tokens(gateway.address, "alice", PASSWORD);
    let mut tally = Tally::default();
    for seed in seeds {
        let mutated = mutated(seed, &token);
        let transcript = exchange_to_end(gateway.address, &mutated.bytes);
        tally.sent += 1;
        let mut fault = String::new();
        let mut understood = 0;
        for (place, reply) in transcript.replies.iter().enumerate() {
            let Some(view) = Understood::of(reply) else {
                *tally.refused.entry(reply.status).or_default() += 1;
                continue;
            };
            understood += 1;
            tally.forwarded += 1;
            tally.authorised += usize::from(!view.user.is_empty());
            judge(&view, (place == 0).then_some(&mutated), &token, &mut fault);
        }
        if !transcript.rest.is_empty() {
            fault.push_str("something follows the last answer; ");
        }
        // One too many is smuggled. Only the beginning of one whose body turns out to be broken goes upstream.
        let is_cut = |reply: &Reply| reply.text().contains("the body's framing is malformed");
        let cut = transcript.replies.iter().filter(|reply| is_cut(reply)).count();
        let received = server.requests_of(seed, understood);
        if received < understood || received > understood + cut {
            let _ =
                write!(fault, "the upstream received {received} requests and {understood} were answered; ");
        }
        if !fault.is_empty() {
            let bytes = String::from_utf8_lossy(&mutated.bytes).replace(&token, "TOKEN");
            let replies: Vec<String> = transcript.replies.iter().map(Reply::text).collect();
            tally.disagreements.push(format!("seed {seed}: {fault}\n{bytes:?}\n{replies:?}"));
        }
    }
    let strangers = server.strangers();
    if strangers > 0 {
        tally.disagreements.push(format!("the upstream received {strangers} requests that were never sent"));
    }
    tally
}

/// Whether what the upstream understood is what was authorised. `sent` is the first request of a connection.
fn judge(view: &Understood, sent: Option<&Mutated>, token: &str, fault: &mut String) {
    let below = |prefix: &str| {
        let rest = view.path.strip_prefix(prefix.as_bytes());
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'/' | b';')))
    };
    // A protected path covers what lenient upstreams take for it, so that also that is authorised.
    let is_protected = below("/protected") || is_read_as_protected(&view.path);
    match (is_protected, below("/open")) {
        (true, _) if (&*view.user, &*view.subject, &*view.roles) != ("alice", "1", "user") => {
            let _ = write!(fault, "a protected path without the identity: {view:?}; ");
        }
        (true, _) => {}
        (false, true) if !(view.user.is_empty() && view.subject.is_empty() && view.roles.is_empty()) => {
            let _ = write!(fault, "an identity on a public path: {view:?}; ");
        }
        (false, true) => {}
        (false, false) => {
            let _ = write!(fault, "no route leads to what the upstream sees: {view:?}; ");
        }
    }
    if view.authorization.contains(token) || !view.authorization.is_empty() {
        fault.push_str("the token went upstream; ");
    }
    if !["gw.test", "gw.test:80", "gw.test.", "[::1]", "evil.test"]
        .contains(&&*view.host.to_ascii_lowercase())
    {
        let _ = write!(fault, "the host is {:?}; ", view.host);
    }
    let Some(sent) = sent else { return };
    let origin =
        sent.target.split_once("://").map_or(&*sent.target, |(_, rest)| &rest[rest.find('/').unwrap_or(0)..]);
    if view.target != origin {
        let _ = write!(fault, "the target is {:?} and was {origin:?}; ", view.target);
    }
    if view.method != sent.method {
        let _ = write!(fault, "the method is {:?}; ", view.method);
    }
    let body = sent.body.as_deref().map(|body| hex(&Sha256::digest(body)));
    if let (Some(expected), Some(body)) = (&body, &view.body)
        && expected != body
    {
        fault.push_str("the body is another; ");
    }
    if body.is_none() {
        fault.push_str("framing on which opinions differ was forwarded; ");
    }
}

/// Whether an upstream that decodes a path to the end, cuts off queries, parameters, blanks and dots, and takes a backslash for a slash
/// sees `/protected` there.
fn is_read_as_protected(path: &[u8]) -> bool {
    let mut decoded = path.to_vec();
    loop {
        let again: Vec<u8> = percent_encoding::percent_decode(&decoded).collect();
        if again == decoded {
            break;
        }
        decoded = again;
    }
    let decoded = String::from_utf8_lossy(&decoded);
    let path = decoded.split(['?', '#']).next().unwrap_or_default();
    let mut names = path
        .split(['/', '\\'])
        .map(|segment| segment.split(';').next().unwrap_or_default().trim().trim_end_matches(['.', ' ']));
    names.find(|name| !name.is_empty()) == Some("protected")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// So many to each server.
fn seeds() -> std::ops::Range<u64> {
    match std::env::var_os("AUTH_GATEWAY_LONG") {
        Some(_) => 0..10_000,
        None => 0..300,
    }
}

fn hold(name: &str, tally: &Tally) {
    println!(
        "{name}: {} sent, {} forwarded ({} with an identity), refused {:?}, {} disagreements",
        tally.sent,
        tally.forwarded,
        tally.authorised,
        tally.refused,
        tally.disagreements.len()
    );
    assert!(
        tally.disagreements.is_empty(),
        "{}",
        tally.disagreements[..tally.disagreements.len().min(5)].join("\n\n")
    );
    // A generator that makes nothing good, or nothing bad, shows nothing.
    assert!(tally.authorised > tally.sent / 50 && tally.refused.len() >= 4, "{tally:?}");
}

#[test]
fn nginx_understands_what_was_authorised() {
    hold("nginx", &run(Server::nginx(), seeds()));
}

#[test]
fn gunicorn_understands_what_was_authorised() {
    hold("gunicorn", &run(Server::gunicorn(), seeds()));
}

#[test]
fn a_strict_upstream_understands_what_was_authorised() {
    let server = Server::recorder();
    let recorder = server.recorder.clone().unwrap();
    hold("recorder", &run(server, seeds()));
    assert_eq!(recorder.violations(), Vec::<String>::new());
}
