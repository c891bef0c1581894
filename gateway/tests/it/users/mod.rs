//! Sources of users: stored hashes of every scheme, SQL tables on real servers, a real directory, several
//! sources.

mod databases;
mod directory;
mod hashes;
mod names;
mod sql;
mod timing;

use crate::fixture::run_script;

/// What a Python script of this folder prints.
fn python(script: &str, arguments: &[&str]) -> String {
    run_script(&format!("users/{script}"), arguments)
}

/// What every gateway of these tests serves.
const ROUTES: &str =
    "[upstreams.app]\nurls = [\"http://127.0.0.1:1\"]\n[[routes]]\npath = \"/api\"\nupstream = \"app\"\n";
