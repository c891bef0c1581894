//! k. Logins and refreshes on each store.

use std::thread::sleep;
use std::time::Duration;

use crate::Result;
use crate::lab::Lab;
use crate::load::login::{Act, acts_during};
use crate::load::{cpu_during, undisturbed};
use crate::peers::System;
use crate::peers::gateway::{Store, Variant};
use crate::table::{Better, Column, Table};

const STORES: [Store; 2] = [Store::Memory, Store::Embedded];
const CLIENTS: u32 = 16;
const COLUMNS: &[Column] = &[
    Column { name: "per second", better: Better::Higher, digits: 0 },
    Column { name: "µs CPU each", better: Better::Lower, digits: 0 },
];

pub(crate) fn run(lab: &Lab) -> Result<Vec<Table>> {
    let mut logins = Table::new(format!("Logins, {CLIENTS} clients"), COLUMNS)
        .remark("A login is one argon2id hash (19 MiB, 2 passes) and little else, on one core.");
    let mut refreshes = Table::new(format!("Refreshes, {CLIENTS} clients"), COLUMNS)
        .remark(
            "Each refresh rotates: the store is read and written, and two tokens are signed. `reuse_grace` is 0 here, \
             for a session that refreshes more often than 32 times in it is given its newest token again, without a \
             write. `embedded` answers when the change is on disk.",
        );
    let systems = STORES
        .map(|store| System::Gateway(Variant { store, reuse_grace: "0s", ..Variant::signing_with("EdDSA") }));
    lab.each(&systems, |round, system| {
        let running = lab.start(system)?;
        let System::Gateway(variant) = system else { return Ok(()) };
        for (table, act) in [(&mut logins, Act::LogIn), (&mut refreshes, Act::Refresh)] {
            let wait = || {
                sleep(Duration::from_secs(lab.options.seconds));
                Ok(())
            };
            let (((), cpu, took), rate) = undisturbed(lab, Some(&running), || {
                acts_during(running.address, CLIENTS, act, || cpu_during(running.group(), wait))
            })?;
            let each = cpu.as_secs_f64() * 1e6 / (rate * took.as_secs_f64());
            table.record(round, &format!("auth-gateway, {}", variant.store.kind()), &[rate, each]);
        }
        Ok(())
    })?;
    Ok(vec![logins, refreshes])
}
