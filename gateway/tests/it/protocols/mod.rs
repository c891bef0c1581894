//! Protocols of clients: TLS, HTTP/2, the PROXY protocol, WebSockets.

mod http2;
mod http2_errors;
mod proxy_protocol;
mod tls;
mod websocket;

use crate::fixture::{Certificates, Gateway, Upstream};

/// A gateway that proxies below `/app`, to those who have a token below `/protected`.
fn config(upstream: &Upstream, server: &str) -> String {
    format!(
        "[server]\nworkers = 1\n{server}\n\
         [store]\nkind = \"memory\"\n\
         [upstreams.app]\nurls = [\"http://{}\"]\n\
         [[routes]]\npath = \"/app\"\nupstream = \"app\"\naccess = \"public\"\n\
         [[routes]]\npath = \"/protected\"\nupstream = \"app\"\n",
        upstream.address
    )
}

/// The same with TLS.
fn secure(upstream: &Upstream, certificates: &Certificates, more: &str) -> Gateway {
    let file = |name: &str| certificates.file(name);
    let tls = format!(
        "{more}\n[server.tls]\nhsts = \"30d\"\ncertificates = [{{ certificate_file = {:?}, private_key_file = {:?} }}]\n",
        file("server.pem"),
        file("server.key")
    );
    Gateway::start(&config(upstream, &tls))
}
