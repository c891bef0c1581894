//! nginx as a plain reverse proxy.

use std::fs;
use std::process::Command;

use rustix::process::geteuid;

use super::Setup;
use crate::Result;
use crate::certificate::Certificate;

/// What nginx should do with requests: directives for `http` and for the one `location`.
pub(super) struct Site {
    pub(super) main: String,
    pub(super) http: String,
    pub(super) location: String,
}

pub(super) fn command(setup: &Setup<'_>) -> Result<Command> {
    let site = Site { main: String::new(), http: app(setup), location: PASS.to_owned() };
    start(setup, &site)
}

/// The same, passing bodies on while they arrive instead of keeping them first.
pub(super) fn unbuffered(setup: &Setup<'_>) -> Result<Command> {
    let http = format!("    proxy_request_buffering off;\n    proxy_buffering off;\n{}", app(setup));
    start(setup, &Site { main: String::new(), http, location: PASS.to_owned() })
}

/// Passes to `app` over connections that are kept.
pub(super) const PASS: &str = r#"
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";"#;

pub(super) fn app(setup: &Setup<'_>) -> String {
    format!(
        "
    upstream app {{
        server {};
        keepalive 512;
        keepalive_requests 100000000;
    }}",
        setup.upstream
    )
}

/// The command for a site, with one worker.
pub(super) fn start(setup: &Setup<'_>, site: &Site) -> Result<Command> {
    let dir = setup.dir.display();
    let Site { main, http, location } = site;
    // As root, nginx would give its worker to a user who may not enter this folder.
    let (how, certificate) = match setup.certificate {
        None => ("", String::new()),
        Some(Certificate { chain, key, .. }) => (
            " ssl http2",
            format!(
                "    ssl_certificate {};
    ssl_certificate_key {};
    # As all the others; left alone, 1.22 speaks none above 1.2.
    ssl_protocols TLSv1.2 TLSv1.3;\n",
                chain.display(),
                key.display()
            ),
        ),
    };
    let user = if geteuid().is_root() { "user root;" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path {dir}/{kind};\n"))
        .concat();
    let configuration = format!(
        "{user}
worker_processes 1;
daemon off;
pid {dir}/nginx.pid;
{main}
events {{
    worker_connections 20000;
}}
http {{
    access_log off;
    default_type application/json;
    client_max_body_size 0;
    keepalive_requests 100000000;
{temporary}{certificate}{http}
    server {{
        listen {listen}{how} backlog=4096;
        location / {{{location}
        }}
    }}
}}
",
        listen = setup.listen,
    );
    let file = setup.dir.join("nginx.conf");
    fs::write(&file, configuration)?;
    let mut command = Command::new(setup.tools.required("nginx")?);
    command.arg("-e").arg(setup.dir.join("error.log")).arg("-c").arg(file);
    Ok(command)
}
