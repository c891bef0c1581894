//! Training for profile-guided optimisation: the gateway alone, under every kind of load that is measured.
//!
//! `config/packaging/release` runs an instrumented gateway with it (`--program FILE --train`). Nothing is
//! measured, so it may run on a busy machine.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use crate::Result;
use crate::lab::{Lab, Running};
use crate::load::login::{Act, acts_during};
use crate::load::{H2Load, Wrk, bulk};
use crate::machine::PROXY_CORE;
use crate::peers::System;
use crate::peers::gateway::Variant;
use crate::tokens;

const EDDSA: Variant = Variant { reuse_grace: "0s", ..Variant::signing_with("EdDSA") };
const HS256: Variant = Variant::signing_with("HS256");
/// More than the gateway's token cache holds.
const TOKENS: u32 = 20_000;
const CLIENTS: u32 = 16;

/// Runs all loads, each for `--seconds`.
pub(crate) fn run(lab: &Lab) -> Result<()> {
    eprintln!("training: plain HTTP/1.1");
    let running = lab.start(System::Gateway(EDDSA))?;
    keep_alive(lab, &running)?;
    let spoiled = tokens::spoil(&running.token)?;
    let refused = Wrk { token: &spoiled, refused: true, ..Wrk::warm(lab, &running, 64) };
    refused.measure(lab, &running)?;
    eprintln!("training: logins and refreshes");
    for act in [Act::LogIn, Act::Refresh] {
        acts_during(running.address, CLIENTS, act, || {
            sleep(Duration::from_secs(lab.options.seconds));
            Ok(())
        })?;
    }
    drop(running);

    eprintln!("training: tokens that are not cached");
    let file = lab.dir.join("tokens");
    let all = (1..=TOKENS).map(|number| tokens::mint(&lab.secret, number)).collect::<Result<Vec<_>>>()?;
    fs::write(&file, all.join("\n"))?;
    let running = lab.start(System::Gateway(HS256))?;
    Wrk { tokens: Some(&file), ..Wrk::warm(lab, &running, 64) }.measure(lab, &running)?;
    drop(running);

    eprintln!("training: TLS and HTTP/2");
    let running = lab.start_tls(System::Gateway(EDDSA))?;
    keep_alive(lab, &running)?;
    for load in [H2Load { connections: 64, requests: 1 }, H2Load { connections: 8, requests: 16 }] {
        load.measure(lab, &running)?;
    }
    drop(running);

    eprintln!("training: large bodies");
    let running = lab.prepare(System::Gateway(EDDSA), bulk::upstream()?, PROXY_CORE)?.start()?;
    bulk::download(running.address, &running.token)?;
    bulk::upload(running.address, &running.token)
}

/// The load that matters most, and clients that close.
fn keep_alive(lab: &Lab, running: &Running) -> Result<()> {
    for clients in [64, 1] {
        Wrk::warm(lab, running, clients).measure(lab, running)?;
    }
    Wrk { reconnect: true, ..Wrk::warm(lab, running, 64) }.measure(lab, running).map(drop)
}
