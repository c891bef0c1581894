//! Instructions of the hot path, counted by Valgrind's callgrind: the same on every run of one binary, whatever else
//! the machine does, so that a change that makes the path dearer is seen.
//!
//! `cargo bench --bench instructions` counts and compares with `COUNTS.txt` beside this file; `-- --save` writes it. What can be
//! switched on is compared with the same request without it, in the same run; `-- --features` counts nothing else.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, fs};

use auth_gateway::config;
use auth_gateway::server::HotPath;
use auth_gateway::tokens::UnixSeconds;

/// The program's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The environment variable that turns this program into what is counted.
const CASE: &str = "AUTH_GATEWAY_COUNTED_CASE";
/// Requests that are counted, after some that warm the caches up.
const REQUESTS: usize = 1000;
const WARM_UP: usize = 10;
/// More than this over the count that was saved is a failure, in percent.
const TOLERANCE: u64 = 2;
/// More than this over the request without the feature is a failure, in percent.
const FEATURE_TOLERANCE: f64 = 3.0;
/// Where the clock of the counted requests stands still, in seconds since 1970.
const NOW: u64 = 1_800_000_000;
const COUNTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/COUNTS.txt");
const USERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/users.toml");

/// A request that is counted.
struct Case {
    name: &'static str,
    algorithm: &'static str,
    /// Fields besides `Host` and `Authorization`.
    fields: &'static str,
    /// Whether its token was verified before.
    warm: bool,
    /// Further lines of `[tokens]`.
    tokens: &'static str,
    /// Further sections of the configuration.
    sections: &'static str,
    /// Further lines of the route.
    route: &'static str,
    /// Whether its token is another issuer's.
    other_issuer: bool,
}

const BROWSER: &str = "Accept: application/json, text/plain, */*\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cache-Control: no-cache\r\n\
    Connection: keep-alive\r\n\
    Cookie: theme=dark; consent=1; visit=2f1c9a7e\r\n\
    Origin: http://127.0.0.1:8080\r\n\
    Pragma: no-cache\r\n\
    Referer: http://127.0.0.1:8080/dashboard\r\n\
    Sec-Fetch-Dest: empty\r\n\
    Sec-Fetch-Mode: cors\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    X-Requested-With: XMLHttpRequest\r\n";

const PROGRAM: Case = Case {
    name: "a program's request, EdDSA",
    algorithm: "EdDSA",
    fields: "Accept: */*\r\n",
    warm: true,
    tokens: "",
    sections: "",
    route: "",
    other_issuer: false,
};

const CASES: [Case; 5] = [
    Case { name: "a program's request, HS256", algorithm: "HS256", ..PROGRAM },
    PROGRAM,
    Case { name: "a program's request, RS256", algorithm: "RS256", ..PROGRAM },
    Case { name: "a browser's request, EdDSA", fields: BROWSER, ..PROGRAM },
    Case { name: "a token not seen before, HS256", algorithm: "HS256", warm: false, ..PROGRAM },
];

const ISSUER: &str = "https://login.example";
const ISSUER_SECRET: &str = "what the gateway and an issuer share, for a count";
const ISSUERS: &str = "[[issuers]]\nname = \"idp\"\nissuer = \"https://login.example\"\naudiences = [\"api\"]\n\
    algorithms = [\"HS256\"]\nsecret = \"what the gateway and an issuer share, for a count\"\n";

/// The request [`PROGRAM`] with something switched on.
const FEATURES: [Case; 11] = [
    Case { name: "[[issuers]], on a route of the gateway's own tokens", sections: ISSUERS, ..PROGRAM },
    Case {
        name: "[[issuers]], on a route that accepts them as well",
        sections: ISSUERS,
        route: "issuers = [\"own\", \"idp\"]\n",
        ..PROGRAM
    },
    Case {
        name: "[[issuers]], with a token of the other issuer",
        sections: ISSUERS,
        route: "issuers = [\"own\", \"idp\"]\n",
        other_issuer: true,
        ..PROGRAM
    },
    Case {
        name: "tokens.migrate_from",
        tokens: "migrate_from = { algorithm = \"HS256\", secret = \"the secret before, as long as it has to be\" }\n",
        ..PROGRAM
    },
    Case {
        name: "tokens.dpop = \"optional\", with a Bearer token",
        tokens: "dpop = \"optional\"\n",
        ..PROGRAM
    },
    Case {
        name: "tokens.dpop = \"optional\" with nonces, with a Bearer token",
        tokens: "dpop = \"optional\"\ndpop_nonce = true\n",
        ..PROGRAM
    },
    Case { name: "[upstream_assertion]", sections: "[upstream_assertion]\nenabled = true\n", ..PROGRAM },
    Case {
        name: "[upstream_assertion] bind = \"path\"",
        sections: "[upstream_assertion]\nenabled = true\nbind = \"path\"\n",
        ..PROGRAM
    },
    Case { name: "[oauth]", sections: "[oauth]\nrevocation = true\nmetadata = true\n", ..PROGRAM },
    Case {
        name: "[personal_tokens], on a route with basic",
        sections: "[personal_tokens]\nenabled = true\n",
        route: "basic = true\n",
        ..PROGRAM
    },
    Case { name: "[browser]", sections: "[browser]\nenabled = true\n", ..PROGRAM },
];

fn main() -> ExitCode {
    let outcome = match env::var(CASE) {
        Ok(name) => run_case(&name).map(|()| ExitCode::SUCCESS),
        Err(_) => {
            let has = |option: &str| env::args().any(|argument| argument == option);
            count_all(has("--save"), has("--features"))
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

/// Counts everything, or only what can be switched on; fails if something is dearer than it may be.
fn count_all(save: bool, features_only: bool) -> Outcome<ExitCode> {
    let dearer = !features_only && count_cases(save)?;
    let dearer = count_features()? || dearer;
    if dearer {
        eprintln!(
            "error: the hot path has become dearer; `-- --save` keeps the new counts if that is worth it"
        );
    }
    Ok(if dearer { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Prints what each feature costs a request that does not need it, or that it has prepared before. Returns whether one costs more
/// than it may.
fn count_features() -> Outcome<bool> {
    let base = count(PROGRAM.name)?;
    println!("{base:>6}  {}, and with", PROGRAM.name);
    let mut dearer = false;
    for case in &FEATURES {
        let count = count(case.name)?;
        let more = (count as f64 / base as f64 - 1.0) * 100.0;
        let is_dearer = more > FEATURE_TOLERANCE;
        dearer |= is_dearer;
        println!("{count:>6}  {more:+5.1} %  {}{}", case.name, if is_dearer { "  DEARER" } else { "" });
    }
    Ok(dearer)
}

/// Counts every case and prints the counts beside the saved ones, or saves them. Returns whether one has grown.
fn count_cases(save: bool) -> Outcome<bool> {
    let saved = fs::read_to_string(COUNTS).unwrap_or_default();
    let (mut table, mut dearer) = (String::new(), false);
    for case in &CASES {
        let count = count(case.name)?;
        writeln!(table, "{count:>6}  {}", case.name)?;
        let before = saved.lines().find_map(|line| {
            let (count, name) = line.trim().split_once("  ")?;
            (name == case.name).then(|| count.parse::<u64>().ok())?
        });
        let grown = before.is_some_and(|before| count * 100 > before * (100 + TOLERANCE));
        dearer |= grown;
        let before = before.map_or("not counted before".to_owned(), |before| format!("saved: {before}"));
        println!("{count:>6}  {}  ({before}){}", case.name, if grown { "  DEARER" } else { "" });
    }
    if save {
        fs::write(COUNTS, table)?;
    }
    Ok(dearer && !save)
}

/// Instructions of one request: from the bytes read to the bytes for the upstream.
fn count(case: &str) -> Outcome<u64> {
    let folder = tempfile::tempdir()?;
    let report = folder.path().join("callgrind.out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*counted_requests*"])
        .arg(format!("--callgrind-out-file={}", report.display()))
        .arg(env::current_exe()?)
        .env(CASE, case)
        .output()
        .map_err(|e| format!("cannot run valgrind: {e}; install it (apt-get install valgrind)"))?;
    if !output.status.success() {
        return Err(format!("valgrind failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let report = fs::read_to_string(report)?;
    let total = report
        .lines()
        .find_map(|line| line.strip_prefix("totals: ")?.trim().parse::<u64>().ok())
        .filter(|&total| total > 0)
        .ok_or("callgrind counted nothing: is `counted_requests` still a function of its own?")?;
    Ok(total / REQUESTS as u64)
}

/// What runs under callgrind.
fn run_case(name: &str) -> Outcome<()> {
    let case = CASES.iter().chain(&FEATURES).find(|case| case.name == name).ok_or("no such case")?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("gateway.toml");
    fs::write(&path, configuration(case, folder.path()))?;
    let settings = config::load(&[path], []).map_err(|diagnostics| format!("{diagnostics}"))?.settings;
    let mut hot_path = HotPath::new(settings, ([127, 0, 0, 1], 40_000).into(), UnixSeconds::new(NOW))?;
    let tokens = if case.warm { 1 } else { WARM_UP + REQUESTS };
    let requests: Vec<String> = (0..tokens)
        .map(|_| {
            let token = if case.other_issuer { token_of_other_issuer()? } else { hot_path.access_token("alice")? };
            let fields = case.fields;
            Ok(format!(
                "GET /protected?page=2 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAuthorization: Bearer {token}\r\n{fields}\r\n"
            ))
        })
        .collect::<Outcome<_>>()?;
    let mut requests = requests.iter().map(String::as_bytes).cycle();
    pass(&mut hot_path, &mut requests, WARM_UP)?;
    counted_requests(&mut hot_path, &mut requests)
}

/// callgrind counts what happens in here.
#[inline(never)]
fn counted_requests<'r>(
    hot_path: &mut HotPath,
    requests: &mut impl Iterator<Item = &'r [u8]>,
) -> Outcome<()> {
    pass(hot_path, requests, REQUESTS)
}

fn pass<'r>(
    hot_path: &mut HotPath,
    requests: &mut impl Iterator<Item = &'r [u8]>,
    times: usize,
) -> Outcome<()> {
    for request in requests.take(times) {
        black_box(hot_path.pass(black_box(request)).map_err(|refusal| format!("refused: {refusal:?}"))?);
    }
    Ok(())
}

fn token_of_other_issuer() -> Outcome<String> {
    let claims = serde_json::json!({
        "iss": ISSUER, "aud": "api", "sub": "1", "preferred_username": "alice", "iat": NOW, "exp": NOW + 300,
    });
    let key = jsonwebtoken::EncodingKey::from_secret(ISSUER_SECRET.as_bytes());
    Ok(jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key)?)
}

fn configuration(case: &Case, folder: &Path) -> String {
    let Case { algorithm, tokens, sections, route, .. } = case;
    let key = match *algorithm {
        "HS256" => "secret = \"no secret at all, but long enough for a count\"".to_owned(),
        _ => format!("keys_dir = {:?}", folder.join("keys")),
    };
    format!(
        "[server]\nworkers = 1\n\
         [tokens]\nissuer = \"http://127.0.0.1:8080\"\naudience = \"demo\"\nalgorithm = \"{algorithm}\"\n{key}\n{tokens}\
         [store]\nkind = \"memory\"\n\
         [users]\nfile = {USERS:?}\n\
         [upstreams.demo]\nurls = [\"http://127.0.0.1:9000\"]\n\
         {sections}\
         [[routes]]\npath = \"/protected\"\nupstream = \"demo\"\n{route}"
    )
}
