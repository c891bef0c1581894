//! The scenarios.

mod bulk;
mod cold;
mod connections;
mod cookies;
mod cores;
mod http2;
mod idle;
mod latency;
mod login_storm;
mod logins;
mod refused;
mod start;
mod tls;
mod warm;

use crate::Result;
use crate::lab::{Lab, Running};
use crate::load::Wrk;
use crate::peers::System;
use crate::peers::gateway::Variant;
use crate::table::Table;

/// One question, and how it is answered.
pub(crate) struct Scenario {
    pub(crate) letter: char,
    pub(crate) title: &'static str,
    pub(crate) run: fn(&Lab) -> Result<Vec<Table>>,
}

/// All of them.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { letter: 'a', title: "GET with a warm token", run: warm::run },
    Scenario { letter: 'b', title: "GET with another token each time", run: cold::run },
    Scenario { letter: 'c', title: "Tokens that are refused", run: refused::run },
    Scenario { letter: 'd', title: "A new connection for each request", run: connections::run },
    Scenario { letter: 'e', title: "TLS", run: tls::run },
    Scenario { letter: 'f', title: "HTTP/2", run: http2::run },
    Scenario { letter: 'g', title: "1 GiB down and up", run: bulk::run },
    Scenario { letter: 'h', title: "Memory for idle clients", run: idle::run },
    Scenario { letter: 'i', title: "Latency at fixed rates", run: latency::run },
    Scenario { letter: 'j', title: "Latency while a login storm runs", run: login_storm::run },
    Scenario { letter: 'k', title: "Logins and refreshes", run: logins::run },
    Scenario { letter: 'l', title: "Start to first answer", run: start::run },
    Scenario { letter: 'm', title: "Both cores", run: cores::run },
    Scenario { letter: 'n', title: "A browser's session beside a token", run: cookies::run },
];

/// A second of load, so that pools are filled and code is in the caches.
fn warm_up(lab: &Lab, running: &Running) -> Result<()> {
    Wrk { seconds: 1, ..Wrk::warm(lab, running, 64) }.measure(lab, running).map(drop)
}

const HS256: System = System::Gateway(Variant::signing_with("HS256"));
const EDDSA: System = System::Gateway(Variant::signing_with("EdDSA"));
const ES256: System = System::Gateway(Variant::signing_with("ES256"));
const RS256: System = System::Gateway(Variant::signing_with("RS256"));
