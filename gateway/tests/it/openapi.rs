//! The endpoints and their OpenAPI description.

use std::process::Command;

use crate::fixture::{Gateway, PASSWORD, Upstream};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/openapi.py");
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/openapi.yaml");

#[test]
fn every_endpoint_responds_as_its_openapi_description_says() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/api\"\nupstream = \"app\"\n",
        upstream.address
    ));
    let python = std::env::var("AUTH_GATEWAY_PYTHON").unwrap_or_else(|_| "python3".into());
    let url = format!("http://{}", gateway.address);
    let output = Command::new(&python)
        .args([SCRIPT, &url, DOCUMENT, "alice", PASSWORD])
        .output()
        .unwrap_or_else(|e| panic!("{python}: {e}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
