//! Generator of slightly malformed requests: a seed always gives the same one.

/// A source of chance that gives the same for the same seed (splitmix64, S. Vigna 2015).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as usize % end
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// A request, and what its maker meant by it.
#[derive(Debug)]
pub(super) struct Mutated {
    pub(super) bytes: Vec<u8>,
    pub(super) method: String,
    pub(super) target: String,
    /// The body, where its framing is beyond doubt.
    pub(super) body: Option<Vec<u8>>,
}

const METHODS: [&str; 12] =
    ["GET", "GET", "GET", "POST", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get", "PURGE", "TRACE"];
const PATHS: [&str; 10] = [
    "/protected/a",
    "/protected/a/b",
    "/protected",
    "/protected/a",
    "/open/a",
    "/open",
    "/open/b/c",
    "/protectedx",
    "/other",
    "/",
];
const TWISTS: [&str; 44] = [
    "/",
    "//",
    "/.",
    "/..",
    "/./",
    "/../",
    "/../protected/",
    "/../open/",
    "%2e",
    "%2E%2e",
    "/%2e%2e/",
    "%2f",
    "%2F..%2F",
    "%5c",
    "\\",
    "/..\\",
    ";",
    ";a=b",
    ";/",
    "..;",
    "/..;/",
    "%3b",
    "%3B..",
    "?",
    "?a=b",
    "?/../protected",
    "#",
    "#/protected",
    "%00",
    "%0a",
    "%0d%0a",
    "%20",
    "%25",
    "%252e%252e/",
    "%c0%ae",
    "%e2%80%ae",
    "%61",
    "%41",
    "*",
    "@",
    ":",
    "protected",
    "%70rotected",
    "\u{e9}",
];
const HOSTS: [&str; 10] = [
    "GW.test",
    "gw.test:80",
    "gw.test.",
    "gw.test:",
    "gw.test, evil.test",
    "a@gw.test",
    "gw.test/x",
    "[::1]",
    "evil.test",
    "",
];
const FIELDS: [&str; 46] = [
    "X-Auth-User: root",
    "x-auth-user: root",
    "X_Auth_User: root",
    "X-Auth_User: root",
    "X.Auth.User: root",
    "X-Auth-User : root",
    "X-Auth-Roles: admin",
    "X_AUTH_ROLES: admin",
    "X-Auth-Subject: 0",
    "x-auth-session: x",
    "Connection: X-Auth-User",
    "Connection: close, x-auth-roles",
    "Connection: keep-alive",
    "Connection: Host",
    "Connection: Content-Length",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
    "TE: trailers",
    "Trailer: X-Auth-User",
    "Upgrade: h2c",
    "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    "Expect: 100-continue",
    "Expect: x",
    "X-Forwarded-For: 127.0.0.1",
    "X-Forwarded-Host: evil.test",
    "Forwarded: for=127.0.0.1",
    "X-Real-IP: 127.0.0.1",
    "X-Original-URL: /protected",
    "X-Rewrite-URL: /protected",
    "X-HTTP-Method-Override: DELETE",
    "Host: evil.test",
    "X-A: b\r\n c",
    "X-A: b\r\n\tX-Auth-User: root",
    " X-Auth-User: root",
    "X-A: b\rX-Auth-User: root",
    "X-A: b\nX-Auth-User: root",
    "X-A:\0b",
    "X-Auth-User:\u{b}root",
    ": x",
    "NoColon",
    "X-A: \u{e9}",
    "Cookie: a=b",
    "Content-Type: text/plain",
    "Accept: */*",
    "Via: 1.1 x",
    "Max-Forwards: 0",
];

/// The `seed`-th request. `token` is a good access token.
pub(super) fn mutated(seed: u64, token: &str) -> Mutated {
    let mut dice = Dice::new(seed);
    let method = dice.pick(&METHODS).to_owned();
    let target = target(&mut dice);
    let version = if dice.one_in(40) {
        dice.pick(&["HTTP/1.0", "HTTP/2.0", "http/1.1", "HTTP/1.1 "])
    } else {
        "HTTP/1.1"
    };
    let mut head = format!("{method} {target} {version}\r\n");
    if !dice.one_in(50) {
        let host = if dice.one_in(4) { dice.pick(&HOSTS) } else { "gw.test" };
        head.push_str(&format!("Host: {host}\r\n"));
    }
    head.push_str(&format!("X-Seed: {seed}\r\n"));
    let mut lines: Vec<String> = Vec::new();
    match dice.below(6) {
        0 | 1 => {}
        2 => lines.push(format!("authorization: bearer {token}")),
        3 if dice.one_in(4) => lines.extend([0; 2].map(|_| format!("Authorization: Bearer {token}"))),
        _ => lines.push(format!("Authorization: Bearer {token}")),
    }
    let fields = [0, 0, 1, 1, 2, 3][dice.below(6)];
    for _ in 0..fields {
        lines.push(dice.pick(&FIELDS).to_owned());
    }
    let (framing, on_wire, body) = framed(&mut dice);
    lines.extend(framing.into_iter().map(str::to_owned));
    // In any order, for the first of two may count, or the last.
    for place in (1..lines.len()).rev() {
        lines.swap(place, dice.below(place + 1));
    }
    for line in lines {
        let end = if dice.one_in(200) { "\n" } else { "\r\n" };
        head.push_str(&line);
        head.push_str(end);
    }
    head.push_str("\r\n");
    let mut bytes = latin1(&head);
    bytes.extend(on_wire);
    if dice.one_in(8) {
        let pipelined = format!(
            "GET /open/pipelined HTTP/1.1\r\nHost: gw.test\r\nX-Auth-User: root\r\nX-Seed: {seed}\r\n\r\n"
        );
        bytes.extend(pipelined.into_bytes());
    }
    Mutated { bytes, method, target, body }
}

fn target(dice: &mut Dice) -> String {
    let mut target = dice.pick(&PATHS).to_owned();
    // Most are left alone, or hardly any request would get through.
    let twists = [0, 0, 0, 0, 0, 1, 1, 1, 2, 3][dice.below(10)];
    for _ in 0..twists {
        let twist = dice.pick(&TWISTS);
        let at = if dice.one_in(2) { target.len() } else { dice.below(target.len() + 1) };
        if target.is_char_boundary(at) {
            target.insert_str(at, twist);
        }
    }
    match dice.below(40) {
        0 => format!("http://gw.test{target}"),
        1 => format!("http://evil.test{target}"),
        2 => target.trim_start_matches('/').to_owned(),
        _ => target,
    }
}

/// Fields that frame, what follows the head, and the body if there can be only one opinion on it.
fn framed(dice: &mut Dice) -> (Vec<&'static str>, Vec<u8>, Option<Vec<u8>>) {
    // It has no seed, so that it stands out wherever it is taken for a request.
    const SMUGGLED: &[u8] = b"GET /protected/smuggled HTTP/1.1\r\nHost: gw.test\r\n\r\n";
    let body = || Some(b"hello".to_vec());
    match dice.below(48) {
        0 | 1 => (vec!["Content-Length: 5"], b"hello".to_vec(), body()),
        2 | 3 => (vec!["Transfer-Encoding: chunked"], b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n".to_vec(), body()),
        4 => (
            vec!["Transfer-Encoding: chunked"],
            b"5;a=\"b\"\r\nhello\r\n0\r\nX-Auth-User: root\r\n\r\n".to_vec(),
            body(),
        ),
        5 => (vec!["Content-Length: 0"], SMUGGLED.to_vec(), Some(Vec::new())),
        6 => (vec!["Content-Length: 5", "Content-Length: 5"], b"hello".to_vec(), None),
        7 => (vec!["Content-Length: 5", "Content-Length: 0"], [b"hello", SMUGGLED].concat(), None),
        8 => (vec!["Content-Length: 5, 5"], b"hello".to_vec(), None),
        9 => (vec!["Content-Length: +5"], b"hello".to_vec(), None),
        10 => {
            (vec!["Content-Length: 5", "Transfer-Encoding: chunked"], [b"0\r\n\r\n", SMUGGLED].concat(), None)
        }
        11 => (
            vec!["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
            [b"0\r\n\r\n", SMUGGLED].concat(),
            None,
        ),
        12 => (vec!["Transfer-Encoding: xchunked"], [b"0\r\n\r\n", SMUGGLED].concat(), None),
        13 => (vec!["Transfer-Encoding : chunked"], [b"0\r\n\r\n", SMUGGLED].concat(), None),
        14 => (vec!["Transfer_Encoding: chunked", "Content-Length: 5"], b"hello".to_vec(), body()),
        15 => (vec!["Transfer-Encoding:\u{b}chunked"], [b"0\r\n\r\n", SMUGGLED].concat(), None),
        16 => (vec!["Transfer-Encoding: chunked"], b"5 \r\nhello\r\n0\r\n\r\n".to_vec(), None),
        17 => (vec!["Transfer-Encoding: chunked"], b"5\nhello\n0\n\n".to_vec(), None),
        18 => (vec!["Transfer-Encoding: chunked"], b"0x5\r\nhello\r\n0\r\n\r\n".to_vec(), None),
        19 => (vec!["Content_Length: 3"], SMUGGLED.to_vec(), Some(Vec::new())),
        _ => (Vec::new(), Vec::new(), Some(Vec::new())),
    }
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars()
        .flat_map(|c| if c as u32 == 0xe9 { vec![0xe9] } else { c.to_string().into_bytes() })
        .collect()
}
