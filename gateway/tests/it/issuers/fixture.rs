//! A real OpenID Connect provider, and an issuer that answers what a test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::fixture::{Reply, free_address, request};

/// npm's oidc-provider.
pub(super) struct Provider {
    child: Option<Child>,
    output: Option<BufReader<ChildStdout>>,
    pub(super) address: SocketAddr,
}

impl Provider {
    pub(super) fn start() -> Provider {
        let mut provider = Provider { child: None, output: None, address: free_address() };
        provider.run();
        provider
    }

    /// Starts it, for the first time or again, with new keys.
    pub(super) fn run(&mut self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/issuers/provider.mjs");
        let child = Command::new("node")
            .args([script, &self.address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.unwrap();
        let mut line = String::new();
        // Kept open: the provider writes more to it.
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        self.output = Some(output);
        self.child = Some(child);
        assert_eq!(line, "ready\n", "npm --prefix spa ci installs the provider");
    }

    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// An access token of its client `app` for a resource.
    pub(super) fn token(&self, resource: &str) -> String {
        let form = format!("grant_type=client_credentials&scope=read&resource={resource}");
        let reply = self.post("/token", &form);
        reply.json()["access_token"].as_str().unwrap_or_else(|| panic!("{}", reply.text())).to_owned()
    }

    /// An opaque access token, for no resource.
    pub(super) fn opaque_token(&self) -> String {
        self.post("/token", "grant_type=client_credentials&scope=read").json()["access_token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub(super) fn post(&self, target: &str, form: &str) -> Reply {
        let basic = format!("Basic {}", STANDARD.encode("app:client+secret+of+the+tests"));
        let fields =
            [("Authorization", basic.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
        request(self.address, "POST", target, &fields, form.as_bytes()).unwrap()
    }

    pub(super) fn control(&self, what: &str) -> String {
        request(self.address, "GET", &format!("/control/{what}"), &[], b"").unwrap().text()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What an issuer answers.
#[derive(Clone)]
pub(super) enum Answer {
    /// Its document and its keys.
    Good,
    /// These bytes to whatever is asked, and then the end.
    Raw(Vec<u8>),
    /// The same, a byte each twentieth of a second.
    Drip(Vec<u8>),
    /// Nothing.
    Silence,
}

/// An issuer that answers what a test wants, and counts how often it is asked.
#[derive(Clone)]
pub(super) struct FakeIssuer {
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    answer: Answer,
    keys: Vec<Value>,
    cache_control: String,
    introspection: Value,
    asked: Vec<String>,
}

impl FakeIssuer {
    pub(super) fn start(keys: &[&SigningKey]) -> FakeIssuer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = State {
            answer: Answer::Good,
            keys: keys.iter().map(|key| key.jwk()).collect(),
            cache_control: "max-age=3600".into(),
            introspection: json!({"active": false}),
            asked: Vec::new(),
        };
        let issuer =
            FakeIssuer { address: listener.local_addr().unwrap(), state: Arc::new(Mutex::new(state)) };
        let served = issuer.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let served = served.clone();
                std::thread::spawn(move || served.serve(socket));
            }
        });
        issuer
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn answers(&self, answer: Answer) {
        self.state.lock().unwrap().answer = answer;
    }

    pub(super) fn has_keys(&self, keys: Vec<Value>) {
        self.state.lock().unwrap().keys = keys;
    }

    pub(super) fn caches(&self, cache_control: &str) {
        self.state.lock().unwrap().cache_control = cache_control.into();
    }

    pub(super) fn introspects(&self, answer: Value) {
        self.state.lock().unwrap().introspection = answer;
    }

    /// How often a path was asked for.
    pub(super) fn asked(&self, path: &str) -> usize {
        self.state.lock().unwrap().asked.iter().filter(|asked| *asked == path).count()
    }

    fn serve(&self, mut socket: TcpStream) {
        let mut received = Vec::new();
        let mut piece = [0; 4096];
        while !received.windows(4).any(|w| w == b"\r\n\r\n") {
            match socket.read(&mut piece) {
                Ok(n) if n > 0 => received.extend_from_slice(&piece[..n]),
                _ => return,
            }
        }
        let text = String::from_utf8_lossy(&received).into_owned();
        let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
        let (answer, body, cache_control) = {
            let mut state = self.state.lock().unwrap();
            state.asked.push(path.clone());
            let body = match path.as_str() {
                "/.well-known/openid-configuration" => {
                    json!({"issuer": self.url(), "jwks_uri": format!("{}/jwks", self.url())})
                }
                "/introspect" => state.introspection.clone(),
                _ => json!({ "keys": state.keys }),
            };
            (state.answer.clone(), body.to_string(), state.cache_control.clone())
        };
        let bytes = match answer {
            Answer::Good => response("application/json", &cache_control, body.as_bytes()),
            Answer::Raw(bytes) => bytes,
            Answer::Drip(bytes) => {
                for byte in bytes {
                    if socket.write_all(&[byte]).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
                return;
            }
            Answer::Silence => return std::thread::sleep(Duration::from_secs(20)),
        };
        let _ = socket.write_all(&bytes);
    }
}

/// A 200 with a body.
pub(super) fn response(content_type: &str, cache_control: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nCache-Control: {cache_control}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// An Ed25519 key of an issuer.
pub(super) struct SigningKey {
    pair: Ed25519KeyPair,
    kid: String,
}

impl SigningKey {
    pub(super) fn generate(kid: &str) -> SigningKey {
        SigningKey { pair: Ed25519KeyPair::generate().unwrap(), kid: kid.to_owned() }
    }

    pub(super) fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.kid, "x": x})
    }

    /// An access token of `iss` for the audience `api` with these further claims.
    pub(super) fn token(&self, iss: &str, more: Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({"iss": iss, "aud": "api", "sub": "u1", "iat": now, "exp": now + 300, "jti": format!("{now}")});
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let header = json!({"alg": "EdDSA", "kid": self.kid, "typ": "at+jwt"});
        let encode = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", encode(&header), encode(&claims));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.pair.sign(message.as_bytes())))
    }
}
