//! Proofs of possession (DPoP) that were used before the process was: of a gateway that was killed, stopped or taken over.

use std::fs;

use super::restarts::{Process, folder_with, is_ready};
use crate::dpop::{self, Client, code, log_in_with, send};
use crate::fixture::{Gateway, Upstream, free_address, wait_until};

#[test]
fn a_used_proof_stays_used_over_a_kill_and_a_restart() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::start(&dpop::config(&upstream, "dpop = \"required\"", ""));
    let client = Client::new();
    assert!(!gateway.path("var/state.redb.proofs").exists(), "nothing was used so far");
    let login = client.proof(&gateway, "POST", "/login", None);
    let (access, mut refresh) = log_in_with(&gateway, &login, &[]).tokens();
    let mut used = Vec::new();
    for restart in ["kill", "stop", "kill"] {
        let app = client.proof(&gateway, "GET", "/app", Some(&access));
        assert_eq!(send(&gateway, "GET", "/app", "DPoP", &access, &[&app]).status, 200);
        let renewal = client.proof(&gateway, "POST", "/refresh", None);
        let refreshed = send(&gateway, "POST", "/refresh", "Bearer", &refresh, &[&renewal]);
        refresh = refreshed.tokens().1;
        used.push((app, renewal));
        match restart {
            "kill" => gateway.kill(),
            _ => {
                gateway.terminate();
                gateway.wait();
            }
        }
        gateway.run();
        for (app, renewal) in &used {
            let replayed = send(&gateway, "GET", "/app", "DPoP", &access, &[app]);
            assert_eq!(code(&replayed), (401, "invalid_dpop_proof".into()), "{restart}");
            let replayed = send(&gateway, "POST", "/refresh", "Bearer", &refresh, &[renewal]);
            assert_eq!(code(&replayed), (400, "invalid_dpop_proof".into()), "{restart}");
        }
        assert_eq!(
            code(&log_in_with(&gateway, &login, &[])),
            (400, "invalid_dpop_proof".into()),
            "{restart}"
        );
        assert_eq!(client.app(&gateway, &access).status, 200, "{restart}: a new one is good at once");
    }
    assert!(gateway.metrics().contains("dpop_proofs_total{outcome=\"replayed\"} 7"), "{}", gateway.metrics());
}

#[test]
fn a_used_proof_stays_used_when_another_process_takes_over() {
    let upstream = Upstream::start();
    let dir = folder_with(&dpop::config(&upstream, "dpop = \"required\"", ""));
    let addresses = (free_address(), free_address());
    let mut process = Process::start(dir.path(), addresses, &[]);
    wait_until("it is ready", || is_ready(addresses.1));
    let (client, address) = (Client::new(), format!("http://{}", addresses.0));
    let proof = |method: &str, path: &str, token: Option<&str>| {
        client.sign(&client.claims(method, &format!("{address}{path}"), token))
    };
    let (access, _) = dpop::log_in_at(addresses.0, &proof("POST", "/login", None), &[]).tokens();
    let mut used = Vec::new();
    for _ in 0..2 {
        used.push(proof("GET", "/app", Some(&access)));
        let ask = |proof: &str| dpop::send_to(addresses.0, "GET", "/app", "DPoP", &access, &[proof]).status;
        assert_eq!(ask(used.last().unwrap()), 200, "{}", fs::read_to_string(dir.path().join("log")).unwrap());
        let last = process.id();
        let mut older =
            std::mem::replace(&mut process, Process::start(dir.path(), addresses, &["--take-over", &last]));
        wait_until("the older one has ended", || older.has_ended());
        for proof in &used {
            assert_eq!(ask(proof), 401);
        }
    }
}
