//! The endpoints and their OpenAPI description.

use crate::fixture::{Gateway, PASSWORD, Upstream, run_script};

/// Of the client that may introspect tokens.
const SECRET: &str = "kT7q/9vXw2LrZ0yBf4mEoN6uGhJc1sPd";
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/openapi.yaml");

#[test]
fn every_endpoint_responds_as_its_openapi_description_says() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[mfa]\nenabled = true\n[users]\npassword_change = true\n[forward_auth]\nenabled = true\n\
         [oauth]\nrevocation = true\nmetadata = true\n[oauth.introspection_clients.app]\nsecret = \"{SECRET}\"\n\
         [personal_tokens]\nenabled = true\nmax_per_user = 1\n[upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/api\"\nupstream = \"app\"\n",
        upstream.address
    ));
    let url = format!("http://{}", gateway.address);
    run_script("openapi.py", &[&url, DOCUMENT, "alice", PASSWORD, SECRET]);
}
