//! What people do for their accounts themselves: changing the password.

mod mfa;
mod password;
mod reset;

use serde_json::Value;

use crate::fixture::{Gateway, Reply, Upstream, get, request, until_not_busy};

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

/// The status, and the code of a problem.
fn outcome(reply: &Reply) -> (u16, String) {
    (reply.status, if reply.status < 300 { String::new() } else { reply.code() })
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}
