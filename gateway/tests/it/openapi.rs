//! The endpoints and their OpenAPI description.

use crate::fixture::{Gateway, PASSWORD, Upstream, run_script};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/openapi.yaml");

#[test]
fn every_endpoint_responds_as_its_openapi_description_says() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[users]\npassword_change = true\n[upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/api\"\nupstream = \"app\"\n",
        upstream.address
    ));
    let url = format!("http://{}", gateway.address);
    run_script("openapi.py", &[&url, DOCUMENT, "alice", PASSWORD]);
}
