//! Sessions in cookies and pages for people, as browsers see them.

mod cookies;
mod handover;
mod pages;
mod refresh;
mod requests;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::fixture::{Gateway, PASSWORD, Reply, Upstream, request};

/// What a browser accepts when it opens a page.
const HTML: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

fn config(upstream: &Upstream, more: &str) -> String {
    format!(
        "{more}\n[browser]\nenabled = true\n\
         [store]\nkind = \"memory\"\n[upstreams.app]\nurls = [\"http://{}\"]\n\
         [[routes]]\npath = \"/\"\nupstream = \"app\"\nupgrade = [\"websocket\"]\n\
         [[routes]]\npath = \"/open\"\nupstream = \"app\"\naccess = \"public\"\n\
         [[routes]]\npath = \"/optional\"\nupstream = \"app\"\naccess = \"optional\"\n\
         [[routes]]\npath = \"/admin\"\nupstream = \"app\"\nroles = [\"admin\"]\n\
         [[routes]]\npath = \"/api\"\nupstream = \"app\"\nunauthenticated = \"refuse\"\n\
         [[routes]]\npath = \"/always\"\nupstream = \"app\"\nunauthenticated = \"login\"\n\
         [warnings]\nsilence = [\"shadowed-path\"]\n",
        upstream.address
    )
}

fn start(upstream: &Upstream) -> Gateway {
    Gateway::start(&config(upstream, ""))
}

/// A browser without TLS: it keeps cookies, and says what it does by `Accept` and `Origin`.
struct Browser {
    address: SocketAddr,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    fn new(gateway: &Gateway) -> Browser {
        Browser { address: gateway.address, cookies: BTreeMap::new() }
    }

    fn signed_in(gateway: &Gateway, user: &str) -> Browser {
        let mut browser = Browser::new(gateway);
        let reply = browser.sign_in(user, PASSWORD, "/");
        assert_eq!(reply.status, 303, "{reply:?}");
        browser
    }

    fn cookie_field(&self) -> String {
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }

    /// Sends a request with the cookies, and keeps those that come back.
    fn send(&mut self, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Reply {
        let cookies = self.cookie_field();
        let mut fields = fields.to_vec();
        if !cookies.is_empty() {
            fields.push(("Cookie", &cookies));
        }
        let reply = request(self.address, method, target, &fields, body).unwrap();
        self.keep(&reply);
        reply
    }

    fn keep(&mut self, reply: &Reply) {
        for set in set_cookies(reply) {
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            match set.contains("Max-Age=0") {
                true => drop(self.cookies.remove(name)),
                false => drop(self.cookies.insert(name.to_owned(), value.to_owned())),
            }
        }
    }

    /// Opens a page.
    fn open(&mut self, target: &str) -> Reply {
        self.send("GET", target, &[("Accept", HTML)], b"")
    }

    /// Loads something for a page.
    fn load(&mut self, target: &str) -> Reply {
        self.send("GET", target, &[("Accept", "*/*")], b"")
    }

    /// Sends a form of a page of the same host.
    fn submit(&mut self, target: &str, body: &str) -> Reply {
        let origin = format!("http://{}", self.address);
        let fields = [
            ("Accept", HTML),
            ("Origin", &origin),
            ("Referer", &format!("{origin}/form?x")),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        self.send("POST", target, &fields, body.as_bytes())
    }

    fn sign_in(&mut self, user: &str, password: &str, return_to: &str) -> Reply {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("username", user).append_pair("password", password).append_pair("return", return_to);
        self.submit("/login", &form.finish())
    }

    fn access(&self) -> &str {
        &self.cookies["auth_gateway_access"]
    }

    fn refresh(&self) -> &str {
        &self.cookies["auth_gateway_refresh"]
    }
}

fn set_cookies(reply: &Reply) -> Vec<&str> {
    let fields = reply.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    fields.map(|(_, value)| value.as_str()).collect()
}

fn location(reply: &Reply) -> &str {
    assert_eq!(reply.status, 303, "{reply:?}");
    reply.field("location").unwrap()
}
