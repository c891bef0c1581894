//! Background load: tabs that refresh, users who log in and out, a password guesser, and requests for the
//! upstream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::history::{Answer, Asked, History};
use crate::fixture::{Gateway, PASSWORD, Reply, Upstream, claims, get, request};

/// The requests' lifetimes are longer than a scenario, and each dead token is dead at once.
pub(super) fn config(upstream: &Upstream, more: &str) -> String {
    format!(
        "[tokens]\naccess_ttl = \"10m\"\nrefresh_ttl = \"2h\"\nreuse_grace = \"0s\"\n{more}\n[throttle]\nmax_failures = 0\n\
         [limits]\nhash_queue = 1000\n[log]\naccess = false\n\
         [upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/protected\"\nupstream = \"app\"\n",
        upstream.address
    )
}

/// A logged-in client that remembers all its refresh tokens.
pub(super) struct Tab {
    pub(super) session: String,
    pub(super) access: String,
    /// The last is the newest that was answered.
    pub(super) line: Vec<String>,
    /// Whether a refresh with the newest went without an answer.
    pub(super) unanswered: bool,
}

/// How a refresh went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refreshed {
    Yes,
    /// With 401.
    No,
    /// An outage, or no answer.
    Unknown,
}

/// Something that can be asked for.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) address: SocketAddr,
    pub(super) history: Arc<History>,
}

impl Client {
    pub(super) fn log_in(&self) -> Option<Tab> {
        let began = Instant::now();
        let reply = try_login(self.address, "alice", PASSWORD);
        self.history.record(began, Asked::Login, Answer::of(reply.as_ref(), None));
        let reply = reply.filter(|reply| reply.status == 200)?.json();
        let (access, refresh) = (text(&reply["access_token"]), text(&reply["refresh_token"]));
        let session = text(&claims(&access)["sid"]);
        Some(Tab { session, access, line: vec![refresh], unanswered: false })
    }

    /// Presents a tab's newest token.
    pub(super) fn refresh(&self, tab: &mut Tab) -> Refreshed {
        let newest = tab.line[tab.line.len() - 1].clone();
        let reply = self.present(tab, &newest);
        match reply {
            Some(reply) if reply.status == 200 => {
                let reply = reply.json();
                tab.access = text(&reply["access_token"]);
                let successor = text(&reply["refresh_token"]);
                if claims(&successor)["jti"] != claims(&newest)["jti"] {
                    tab.line.push(successor);
                }
                tab.unanswered = false;
                Refreshed::Yes
            }
            Some(reply) if reply.status == 401 => Refreshed::No,
            _ => {
                tab.unanswered = true;
                Refreshed::Unknown
            }
        }
    }

    /// Presents one of a tab's tokens, whichever.
    pub(super) fn present(&self, tab: &Tab, token: &str) -> Option<Reply> {
        let asked = Asked::Refresh { session: tab.session.clone(), token: text(&claims(token)["jti"]) };
        let began = Instant::now();
        let reply = try_post(self.address, "/refresh", token);
        let successor = reply.as_ref().filter(|reply| reply.status == 200);
        let successor = successor.map(|reply| text(&claims(&text(&reply.json()["refresh_token"]))["jti"]));
        self.history.record(began, asked, Answer::of(reply.as_ref(), successor));
        reply
    }

    pub(super) fn log_out(&self, tab: &Tab) -> Option<Reply> {
        let began = Instant::now();
        let reply = try_post(self.address, "/logout", &tab.access);
        self.history.record(began, Asked::Logout(tab.session.clone()), Answer::of(reply.as_ref(), None));
        reply
    }

    pub(super) fn proxied(&self, tab: &Tab) -> Option<Reply> {
        let began = Instant::now();
        let reply = get(self.address, "/protected", &[("Authorization", &format!("Bearer {}", tab.access))]);
        self.history.record(began, Asked::Proxied(tab.session.clone()), Answer::of(reply.as_ref(), None));
        reply
    }

    pub(super) fn guess(&self, name: &str) -> Option<Reply> {
        let began = Instant::now();
        let reply = try_login(self.address, name, "a wrong password");
        self.history.record(began, Asked::Guess(name.to_owned()), Answer::of(reply.as_ref(), None));
        reply
    }
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn try_login(address: SocketAddr, name: &str, password: &str) -> Option<Reply> {
    let body = serde_json::json!({"username": name, "password": password}).to_string();
    request(address, "POST", "/login", &[("Content-Type", "application/json")], body.as_bytes())
}

fn try_post(address: SocketAddr, target: &str, token: &str) -> Option<Reply> {
    request(address, "POST", target, &[("Authorization", &format!("Bearer {token}"))], b"")
}

/// What the load leaves behind.
#[derive(Default)]
pub(super) struct Left {
    pub(super) tabs: Vec<Tab>,
    /// Logged in, and never used since.
    pub(super) fresh: Vec<Tab>,
    /// Their logout was answered.
    pub(super) ended: Vec<Tab>,
}

/// The load, while it runs.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Left>>,
}

impl Load {
    /// Starts it: each tab refreshes as fast as it is answered, or now and then.
    pub(super) fn start(
        gateway: &Gateway,
        history: &Arc<History>,
        tabs: Vec<Tab>,
        guessed: &str,
        pace: Duration,
    ) -> Load {
        let client = Client { address: gateway.address, history: Arc::clone(history) };
        let stop = Arc::new(AtomicBool::new(false));
        let mut load = Load { stop, threads: Vec::new() };
        for tab in tabs {
            load.spawn(client.clone(), move |client, running| {
                let mut tab = tab;
                while running() {
                    if client.refresh(&mut tab) == Refreshed::No {
                        break;
                    }
                    std::thread::sleep(pace);
                }
                Left { tabs: vec![tab], ..Left::default() }
            });
        }
        load.spawn(client.clone(), move |client, running| {
            let mut left = Left::default();
            while running() {
                left.fresh.extend(client.log_in());
                if let Some(tab) = client.log_in()
                    && client.log_out(&tab).is_some_and(|reply| reply.status == 204)
                {
                    client.proxied(&tab);
                    left.ended.push(tab);
                }
                std::thread::sleep(pace);
            }
            left
        });
        let name = guessed.to_owned();
        load.spawn(client.clone(), move |client, running| {
            while running() {
                client.guess(&name);
                std::thread::sleep(pace);
            }
            Left::default()
        });
        load.spawn(client, move |client, running| {
            let mut left = Left::default();
            if let Some(tab) = client.log_in() {
                while running() {
                    client.proxied(&tab);
                    std::thread::sleep(pace);
                }
                left.fresh.push(tab);
            }
            left
        });
        load
    }

    fn spawn(
        &mut self,
        client: Client,
        work: impl FnOnce(&Client, &dyn Fn() -> bool) -> Left + Send + 'static,
    ) {
        let stop = Arc::clone(&self.stop);
        self.threads.push(std::thread::spawn(move || work(&client, &|| !stop.load(Ordering::Relaxed))));
    }

    /// Ends it, and gives what it leaves.
    pub(super) fn stop(self) -> Left {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Left::default();
        for thread in self.threads {
            let left = thread.join().unwrap();
            all.tabs.extend(left.tabs);
            all.fresh.extend(left.fresh);
            all.ended.extend(left.ended);
        }
        all
    }
}
