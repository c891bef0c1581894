//! Refresh token theft: a thief and an owner refresh in turn, each with the newest token they got.

use std::thread::sleep;
use std::time::Duration;

use super::config;
use crate::fixture::{Gateway, PASSWORD, Reply, Upstream, post, tokens};

fn refresh(gateway: &Gateway, token: &mut String) -> Reply {
    let reply = post(gateway.address, "/refresh", token);
    if reply.status == 200 {
        *token = reply.json()["refresh_token"].as_str().unwrap().to_owned();
    }
    reply
}

#[test]
fn thief_and_owner_in_turn_are_noticed_in_every_mode_that_rotates() {
    let upstream = Upstream::start();
    for mode in ["on-use", "strict"] {
        for grace in ["0s", "1s"] {
            let more = format!("[tokens]\nrotation = \"{mode}\"\nreuse_grace = \"{grace}\"");
            let gateway = Gateway::start(&config(&upstream, &more));
            let (_, mut owner) = tokens(gateway.address, "alice", PASSWORD);
            assert_eq!(refresh(&gateway, &mut owner).status, 200);
            let mut thief = owner.clone();
            let pause = Duration::from_millis(if grace == "0s" { 5 } else { 1_100 });
            let refused = (1..=10).find_map(|round| {
                for token in [&mut thief, &mut owner] {
                    let reply = refresh(&gateway, token);
                    if reply.status != 200 {
                        return Some((round, reply));
                    }
                    sleep(pause);
                }
                None
            });
            let (round, reply) = refused.unwrap_or_else(|| panic!("never noticed: {mode}, {grace}"));
            assert_eq!((round, reply.code().as_str()), (1, "token_reused"), "{mode}, {grace}");
            for token in [&mut thief, &mut owner] {
                assert_eq!(refresh(&gateway, token).code(), "token_revoked", "{mode}, {grace}");
            }
        }
    }
}

#[test]
fn a_client_that_keeps_its_first_token_goes_on_in_the_default_mode() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, "[tokens]\nreuse_grace = \"0s\""));
    let (_, first) = tokens(gateway.address, "alice", PASSWORD);
    for _ in 0..10 {
        assert_eq!(refresh(&gateway, &mut first.clone()).status, 200);
        sleep(Duration::from_millis(20));
    }
}
