//! HAProxy with its JWT converters: signature, `exp`, and one claim to a header.

use std::fs;
use std::process::Command;

use super::Setup;
use crate::Result;

pub(super) fn command(setup: &Setup<'_>) -> Result<Command> {
    let tls = setup.certificate.map_or_else(String::new, |certificate| {
        format!(" ssl crt {} alpn h2,http/1.1", certificate.pair.display())
    });
    let configuration = format!(
        r#"global
    maxconn 9000
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend all
    bind {listen}{tls}
    http-request set-var(txn.token) http_auth_bearer
    http-request deny deny_status 401 unless {{ var(txn.token),jwt_verify("HS256","{secret}") -m int 1 }}
    http-request set-var(txn.now) date()
    http-request deny deny_status 401 unless {{ var(txn.token),jwt_payload_query('$.exp','int'),sub(txn.now) -m int gt 0 }}
    http-request set-header X-Auth-User %[var(txn.token),jwt_payload_query('$.username')]
    default_backend app
backend app
    http-reuse always
    server app {upstream}
"#,
        listen = setup.listen,
        secret = setup.secret,
        upstream = setup.upstream,
    );
    let file = setup.dir.join("haproxy.cfg");
    fs::write(&file, configuration)?;
    let mut command = Command::new(setup.tools.required("haproxy")?);
    command.arg("-db").arg("-f").arg(file);
    Ok(command)
}
