//! Sources of users: stored hashes of every scheme, SQL tables on real servers, a real directory, several
//! sources.

mod databases;
mod directory;
mod hashes;
mod sql;

use std::process::Command;

/// What a Python script of this folder prints.
fn python(script: &str, arguments: &[&str]) -> String {
    let python = std::env::var("AUTH_GATEWAY_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = format!("{}/tests/it/users/{script}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(&python).arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What every gateway of these tests serves.
const ROUTES: &str =
    "[upstreams.app]\nurls = [\"http://127.0.0.1:1\"]\n[[routes]]\npath = \"/api\"\nupstream = \"app\"\n";
