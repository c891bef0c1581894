//! Lints: valid settings that are seldom intended, each a warning with a name that `warnings.silence`
//! accepts.

use std::net::{IpAddr, SocketAddr};

use super::prelude::*;
use super::{Dpop, Settings};

/// Salts of the demo users in config/users.toml, whose passwords are printed in that file.
const DEMO_SALTS: [&str; 3] = ["WLedmzcZ0umhVb08qFqvIg", "fCiBpyemgc4E8/zmuqhNbw", "vXpk5TEmoWTn3zb+ml6Ygg"];

/// Path suffixes at which apps open WebSockets.
const WEBSOCKET_PATHS: [&str; 7] =
    ["/ws", "/wss", "/websocket", "/websockets", "/socket.io", "/sockjs", "/cable"];

pub(super) fn check(root: &Table<'_>, settings: &Settings) {
    let server = root.quiet_table("server");
    let listens_to_all = !settings.server.listen.ip().is_loopback();
    if listens_to_all && settings.server.tls.is_none() {
        check_plain_http(settings, &server.entry("listen"));
    }
    let tls = server.quiet_table("tls");
    if settings.server.tls.is_none() && tls.entry("hsts").is_given() {
        tls.entry("hsts").warn(
            "hsts-without-tls",
            "has no effect: there is no certificate, so there are no TLS connections",
            "name `certificates` in [server.tls], or remove it",
        );
    }
    if listens_to_all {
        check_demo_users(settings, root);
    }
    for (name, upstream) in root.quiet_table("upstreams").entries() {
        let urls = settings.upstreams.get(&name).map(|upstream| &upstream.urls[..]).unwrap_or_default();
        if urls.iter().any(|url| is_gateway(url, settings)) && upstream.is_table() {
            let urls = upstream.table_or_empty().entry("urls");
            urls.warn(
                "upstream-is-gateway",
                "leads to the gateway itself, so requests would go round in circles",
                "write the address that the app listens on",
            );
        }
    }
    check_routes(root, settings);
}

fn check_plain_http(settings: &Settings, listen: &Entry<'_>) {
    let server = &settings.server;
    if server.trusted_proxies.is_empty() && server.proxy_protocol_from.is_empty() {
        let why = "passwords and tokens arrive unencrypted: the listener can be reached from other machines, and speaks no TLS";
        listen.warn(
            "plain-http",
            why,
            "give [server.tls] certificates, listen on 127.0.0.1, or name the proxy that speaks TLS in server.trusted_proxies",
        );
    }
}

fn check_demo_users(settings: &Settings, root: &Table<'_>) {
    let Some(file) = settings.users.editable_file() else { return };
    let text = if file.is_file() { std::fs::read_to_string(file).unwrap_or_default() } else { String::new() };
    if DEMO_SALTS.iter().any(|salt| text.contains(salt)) {
        let message =
            format!("`users.file`: {} has users of the demo, whose passwords are public", file.display());
        let entry = root.quiet_table("users").entry("file");
        root.report().push(
            Diagnostic::warning("demo-users", message)
                .at(entry.place())
                .help("remove them with `auth-gateway users remove NAME`, or give them other passwords"),
        );
    }
}

/// Whether an upstream's server is one of the gateway's own listeners.
fn is_gateway(url: &UpstreamUrl, settings: &Settings) -> bool {
    let UpstreamUrl::Tcp { host, port, .. } = url else { return false };
    let address = if host == "localhost" { Some(IpAddr::from([127, 0, 0, 1])) } else { host.parse().ok() };
    let meets = |listen: &SocketAddr| {
        listen.port() == *port
            && address
                .is_some_and(|ip| ip == listen.ip() || (ip.is_loopback() && listen.ip().is_unspecified()))
    };
    let server = &settings.server;
    [Some(server.listen), Some(settings.admin.listen), server.redirect_listen].iter().flatten().any(meets)
}

/// Files with passwords and keys.
fn kept_files(settings: &Settings, root: &Table<'_>) -> Vec<PathBuf> {
    let signing = match &settings.tokens.signing {
        Signing::PrivateKeyFile { path, .. } => Some(path),
        Signing::Kept { dir, .. } => Some(dir),
        Signing::Secret { .. } => None,
    };
    let state = match &settings.store {
        Store::Embedded { path } => Some(path),
        _ => None,
    };
    let named = settings.users.files().chain(signing).chain(state);
    named.cloned().chain(root.files()).filter_map(|file| file.canonicalize().ok()).collect()
}

fn check_routes(root: &Table<'_>, settings: &Settings) {
    let entry = root.entry("routes");
    let tables = if entry.is_list() { entry.list().unwrap_or_default() } else { Vec::new() };
    let kept = kept_files(settings, root);
    for (route, element) in settings.routes.iter().zip(tables.iter().filter(|element| element.is_table())) {
        let path = element.table_or_empty().entry("path");
        if let RouteTarget::Static { root: folder, .. } = &route.target
            && let Ok(folder) = folder.canonicalize()
            && let Some(file) = kept.iter().find(|file| file.starts_with(&folder))
        {
            element.table_or_empty().entry("static").warn(
                "served-secrets",
                format!("everything in the folder is served, and {} is in it", file.display()),
                "serve a folder that has nothing but the app's files",
            );
        }
        let is_root = route.path == "/" && settings.endpoints.prefix.is_empty();
        if is_root && matches!(route.target, RouteTarget::Static { index_fallback: true, .. }) {
            path.warn(
                "shadowed-path",
                "a page of the app at /sessions is never served: GET /sessions is an endpoint",
                "if it has such a page, move the endpoints: [endpoints] prefix = \"/auth\"",
            );
        }
        if route.basic && route.dpop.unwrap_or(settings.tokens.dpop) == Dpop::Required {
            let basic = element.table_or_empty().entry("basic");
            basic.warn(
                "basic-with-dpop",
                "has no effect: the route requires DPoP, and HTTP Basic proves no key",
                "write dpop = \"optional\" for this route, or remove it",
            );
        }
        let roles = element.table_or_empty().entry("roles");
        if roles.list_is_empty() {
            roles.warn(
                "no-effect",
                "has no effect: an empty list requires no role",
                "name a role; roles = [] lets every user in",
            );
        }
        let RouteTarget::Upstream { name, options } = &route.target else { continue };
        let lower = route.path.to_ascii_lowercase();
        if !options.upgrade.iter().any(|name| name == "websocket")
            && WEBSOCKET_PATHS.iter().any(|end| lower.ends_with(end))
        {
            path.warn(
                "websocket-without-upgrade",
                "looks like the address of WebSockets, and the route takes none",
                "add upgrade = [\"websocket\"]",
            );
        }
        let takes_posts = route.methods.is_empty() || route.methods.contains(&http::Method::POST);
        if route.path == "/" && settings.endpoints.prefix.is_empty() && takes_posts {
            let why = format!(
                "the upstream `{name}` never gets POST /login, /refresh, /logout and /logout-all: the gateway answers there"
            );
            path.warn(
                "shadowed-path",
                why,
                "if it has such pages, move the gateway's: [endpoints] prefix = \"/auth\"",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::test_support::{load_text, minimal};

    fn warnings(text: String) -> String {
        load_text(text).unwrap_or_else(|errors| panic!("{errors}")).warnings.to_string()
    }

    #[test]
    fn traps_are_reported_and_can_be_silenced_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "pX4v9TqL2mZr8KcW1nBy6HsD3fGj7QaE5uRt0iVo").unwrap();
        let headers = dir.path().join("headers");
        std::fs::write(&headers, "Authorization: Bearer collector").unwrap();
        let users = dir.path().join("users.toml");
        std::fs::write(&users, "password = \"$argon2id$v=19$m=1,t=2,p=1$WLedmzcZ0umhVb08qFqvIg$x\"").unwrap();
        let route = |path: &str| format!("[[routes]]\npath = \"{path}\"\nupstream = \"demo\"\n");
        let public = "[server]\nlisten = \"0.0.0.0:8080\"\n";
        for (name, text) in [
            ("plain-http", minimal() + public),
            ("demo-users", minimal().replace("\"Cargo.toml\"", &format!("{users:?}")) + public),
            ("hsts-without-tls", minimal() + "[server.tls]\nhsts = \"1d\""),
            (
                "readable-by-others",
                minimal() + &format!("[tokens]\nalgorithm = \"HS256\"\nsecret_file = {secret:?}"),
            ),
            (
                "readable-by-others",
                minimal()
                    + "[tokens]\nalgorithm = \"HS256\"\nsecret = \"kQ2vX9wLr5TzYpB8nMcJ4hGfD6sA1eUo3iVqWxRt\"\n"
                    + &format!("previous_secrets_file = [{secret:?}]"),
            ),
            (
                "readable-by-others",
                minimal()
                    + &format!(
                        "[tracing.otlp]\nendpoint = \"http://127.0.0.1:4318\"\nheaders_file = {headers:?}"
                    ),
            ),
            ("upstream-is-gateway", minimal().replace("127.0.0.1:9000", "localhost:8080")),
            ("upstream-is-gateway", minimal().replace("9000", "8080") + public),
            ("websocket-without-upgrade", minimal() + &route("/app/WS")),
            (
                "basic-with-dpop",
                minimal() + "[tokens]\ndpop = \"required\"\n" + &route("/dav") + "basic = true\n",
            ),
            ("shadowed-path", minimal() + &route("/")),
            ("no-effect", minimal() + &route("/x") + "roles = []"),
            ("served-secrets", minimal() + "[[routes]]\npath = \"/x\"\nstatic = \".\""),
            (
                "shadowed-path",
                minimal() + "[[routes]]\npath = \"/\"\nstatic = \"src\"\nindex_fallback = true",
            ),
        ] {
            assert!(
                warnings(text.clone()).contains(&format!("warning[{name}]")),
                "{name}: {}",
                warnings(text)
            );
            let silent = warnings(text.clone() + &format!("\n[warnings]\nsilence = [{name:?}]"));
            assert!(!silent.contains(name), "{silent}");
        }
    }

    #[test]
    fn intended_settings_are_not_reported() {
        for text in [
            minimal() + "[server]\nlisten = \"0.0.0.0:8080\"\ntrusted_proxies = [\"10.0.0.0/8\"]",
            minimal()
                + "[tokens]\ndpop = \"required\"\n[[routes]]\npath = \"/dav\"\nupstream = \"demo\"\nbasic = true\ndpop = \"optional\"",
            minimal() + "[[routes]]\npath = \"/ws\"\nupstream = \"demo\"\nupgrade = [\"websocket\"]",
            minimal() + "[endpoints]\nprefix = \"/auth\"\n[[routes]]\npath = \"/\"\nupstream = \"demo\"",
            minimal() + "[[routes]]\npath = \"/\"\nstatic = \"src\"",
        ] {
            assert_eq!(warnings(text), "");
        }
    }
}
