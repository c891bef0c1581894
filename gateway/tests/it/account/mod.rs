//! What people do for their accounts themselves: changing the password.

mod mfa;
mod password;
mod reset;

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixture::{Gateway, Reply, Upstream, get, request};

/// A gateway's configuration: everything at `/app` needs a token. `more` comes first, within `[users]`.
fn config(upstream: &Upstream, more: &str) -> String {
    format!(
        "[users]\npassword_change = true\n{more}\n[upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/app\"\n\
         upstream = \"app\"\n",
        upstream.address
    )
}

fn app(gateway: &Gateway, access: &str) -> u16 {
    get(gateway.address, "/app", &[("Authorization", &format!("Bearer {access}"))]).unwrap().status
}

/// Sends a request again as long as the gateway is too busy to hash.
fn until_not_busy(mut send: impl FnMut() -> Reply) -> Reply {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let reply = send();
        if reply.status != 503 || Instant::now() > end {
            return reply;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Sends JSON with further fields.
fn send(gateway: &Gateway, path: &str, fields: &[(&str, &str)], body: &Value) -> Reply {
    let mut fields = fields.to_vec();
    fields.push(("Content-Type", "application/json"));
    let body = body.to_string();
    until_not_busy(|| request(gateway.address, "POST", path, &fields, body.as_bytes()).unwrap())
}

/// Sends JSON with an access token.
fn send_with(gateway: &Gateway, path: &str, access: &str, body: &Value) -> Reply {
    send(gateway, path, &[("Authorization", &format!("Bearer {access}"))], body)
}
