//! What is measured.

mod warm;

use crate::Result;
use crate::lab::Lab;
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
pub(crate) const SCENARIOS: &[Scenario] =
    &[Scenario { letter: 'a', title: "GET with a warm token", run: warm::run }];

const HS256: System = System::Gateway(Variant::signing_with("HS256"));
const EDDSA: System = System::Gateway(Variant::signing_with("EdDSA"));
const ES256: System = System::Gateway(Variant::signing_with("ES256"));
const RS256: System = System::Gateway(Variant::signing_with("RS256"));
