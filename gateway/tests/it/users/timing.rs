//! Whether response times reveal which names exist, where the hashes of users are of several kinds.

use std::time::Instant;

use super::ROUTES;
use crate::fixture::{Gateway, login, until_not_busy};

/// Hashes of no password, at the costs that their programs choose.
fn kinds() -> [(&'static str, String); 4] {
    let dots = ".".repeat(53);
    let zeros = "00".repeat(64);
    [
        ("argon2id", format!("$argon2id$v=19$m=19456,t=2,p=1${}${}", "A".repeat(22), "A".repeat(43))),
        ("bcrypt", format!("$2b$10${dots}")),
        ("scrypt", format!("scrypt:32768:8:1$0123456789abcdef${zeros}")),
        ("pbkdf2", format!("pbkdf2:sha256:600000$0123456789abcdef${}", &zeros[64..])),
    ]
}

/// The probability that a time of `a` is longer than one of `b`: 0.5 where they cannot be distinguished.
fn auc(a: &[f64], b: &[f64]) -> f64 {
    let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b)));
    let longer: f64 = pairs
        .map(|(a, b)| {
            if a > b {
                1.0
            } else if a < b {
                0.0
            } else {
                0.5
            }
        })
        .sum();
    longer / (a.len() * b.len()) as f64
}

/// Users of each kind, most of them of `commonest`: the times of wrong passwords, for an unknown name and for one of each kind.
fn times(commonest: &str, rounds: usize) -> Vec<(String, Vec<f64>)> {
    let kinds = kinds();
    let entry = |id: String, name: &str, hash: &str| {
        format!("[[users]]\nid = \"{id}\"\nusername = \"{name}{id}\"\npassword = {hash:?}\n")
    };
    let users: String = (0..3)
        .flat_map(|n| kinds.iter().map(move |kind| (n, kind)))
        .filter(|(n, (name, _))| *n < 2 || *name == commonest)
        .map(|(n, (name, hash))| entry(format!("-{name}-{n}"), "user", hash))
        .collect();
    let limits = "[lockout]\nmax_failures = 1000\n[throttle]\nmax_failures = 10000\n";
    let gateway = Gateway::start_with(&format!("{limits}{ROUTES}"), &users, &[]);
    let names = ["unknown"].into_iter().chain(kinds.iter().map(|(name, _)| *name));
    let mut all: Vec<(String, Vec<f64>)> = names.map(|name| (name.to_owned(), Vec::new())).collect();
    // In turns, so that what else runs on the machine meets all alike.
    for round in 0..rounds + 1 {
        for (name, times) in &mut all {
            let typed = if name == "unknown" { format!("user-{round}") } else { format!("user-{name}-0") };
            let begin = Instant::now();
            let reply = until_not_busy(|| login(gateway.address, &typed, "a wrong password"));
            let elapsed = begin.elapsed();
            assert_eq!((reply.status, reply.code().as_str()), (401, "invalid_credentials"), "{typed}");
            // The first round warms up.
            if round > 0 {
                times.push(elapsed.as_secs_f64() * 1000.0);
            }
        }
    }
    all
}

/// The short form only asserts that all are refused alike: which kind an unknown name is verified with has a unit test.
#[test]
fn unknown_names_take_as_long_as_those_with_the_commonest_kind_of_hash() {
    let is_long = std::env::var_os("AUTH_GATEWAY_LONG").is_some();
    let kinds = kinds();
    let (commonest, rounds) = if is_long { (&kinds[..], 150) } else { (&kinds[..1], 1) };
    for (commonest, _) in commonest {
        let all = times(commonest, rounds);
        let (_, unknown) = &all[0];
        println!("most users have {commonest}; of {rounds} logins each:");
        for (name, times) in &all {
            let mut sorted = times.clone();
            sorted.sort_by(f64::total_cmp);
            let auc = auc(unknown, times);
            println!(
                "  {name:>9}: median {:6.1} ms, AUC of unknown names against it {auc:.3}",
                sorted[rounds / 2]
            );
            let is_alike = name == "unknown" || name == commonest;
            assert!(!is_long || !is_alike || (0.4..=0.6).contains(&auc), "{name}: {auc}");
        }
    }
}
