//! `[forward_auth]`: verdicts for proxies that stand before the apps themselves.

use super::Server;
use super::prelude::*;

section! {
    /// Verdicts for proxies that serve the apps themselves and ask the gateway about each request: nginx auth_request, Traefik
    /// ForwardAuth, Caddy forward_auth, Envoy ext_authz, HAProxy.
    pub struct ForwardAuth {
        /// Whether server.trusted_proxies may ask at /auth/verify, below [endpoints] prefix, about a request that came to them. The
        /// routes decide as if it had come here; their target is not contacted.
        enabled: bool = boolean().default("false");
    }
}

impl ForwardAuth {
    pub(super) fn check(&self, table: &Table<'_>, server: &Server) {
        if self.enabled && server.trusted_proxies.is_empty() {
            table.entry("enabled").error(
                "has no effect: no proxy is trusted, so none may ask",
                "name the proxy's address in [server] trusted_proxies",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{load_diagnostics, minimal, settings};

    #[test]
    fn it_is_off_and_needs_a_proxy_that_may_ask() {
        let trusted = "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[forward_auth]\nenabled = true\n";
        assert!(!settings(minimal()).forward_auth.enabled);
        assert!(settings(minimal() + trusted).forward_auth.enabled);
        load_diagnostics(minimal() + "[forward_auth]\nenabled = true\n")
            .only("no proxy is trusted", "trusted_proxies");
    }

    #[test]
    fn its_path_is_the_gateways_own_only_where_it_is_on() {
        let route = "[upstreams.v]\nurls = [\"http://127.0.0.1:9\"]\n[[routes]]\npath = \"/auth/verify\"\nupstream = \"v\"\n";
        settings(minimal() + route);
        let on = "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[forward_auth]\nenabled = true\n";
        load_diagnostics(minimal() + on + route).only("the gateway itself answers at", "prefix");
    }
}
