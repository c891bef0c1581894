//! Signed assertions for upstreams: what apps get, and the examples of the documentation, run as they are printed.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::fixture::{
    Gateway, PASSWORD, Running, Upstream, claims, exchange, free_address, get, python, request, tokens,
    wait_until,
};

fn assertion(upstream: &Upstream) -> String {
    let last = upstream.last();
    let values = last.values("X-Auth-Assertion");
    assert_eq!(values.len(), 1, "{last:?}");
    values[0].to_owned()
}

#[test]
fn an_app_gets_an_assertion_for_it_and_the_request_and_what_clients_send_never_arrives() {
    let (app, other) = (Upstream::start(), Upstream::start());
    let gateway = Gateway::start(&format!(
        "[server]\nworkers = 1\n[tokens]\nissuer = \"http://gateway\"\n[upstreams.app]\nurls = [\"http://{}\"]\nassertion = true\n\
         [upstreams.other]\nurls = [\"http://{}\"]\n\
         [[routes]]\npath = \"/app\"\nupstream = \"app\"\n\
         [[routes]]\npath = \"/stripped\"\nupstream = \"app\"\nstrip_prefix = true\n\
         [[routes]]\npath = \"/open\"\nupstream = \"app\"\naccess = \"public\"\n\
         [[routes]]\npath = \"/other\"\nupstream = \"other\"\naccess = \"public\"\n",
        app.address, other.address
    ));
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let bearer = format!("Bearer {access}");
    let ask = |method: &str, path: &str| {
        let fields =
            [("Authorization", &*bearer), ("X-Auth-Assertion", "forged"), ("x_auth_assertion", "forged")];
        assert_eq!(request(gateway.address, method, path, &fields, b"").unwrap().status, 200);
    };
    ask("GET", "/app/a?b=c");
    let first = assertion(&app);
    let said = claims(&first);
    let token = claims(&access);
    for (claim, expected) in [
        ("iss", "http://gateway".into()),
        ("aud", "app".into()),
        ("htm", "GET".into()),
        ("path", "/app".into()),
        ("sub", "1".into()),
        ("username", "alice".into()),
        ("sid", token["sid"].clone()),
        ("roles", token["roles"].clone()),
    ] {
        assert_eq!(said[claim], expected, "{claim}: {said}");
    }
    assert_eq!(said["exp"].as_u64().unwrap() - said["iat"].as_u64().unwrap(), 30);
    ask("GET", "/app/other");
    assert_eq!(assertion(&app), first, "signed once for the token, the route and the method");
    ask("POST", "/app/a");
    assert_eq!(claims(&assertion(&app))["htm"], "POST");
    ask("GET", "/stripped/a");
    assert_eq!(claims(&assertion(&app))["path"], "/");
    let metrics = gateway.metrics();
    assert!(metrics.contains("auth_gateway_upstream_assertions_signed_total 3\n"), "{metrics}");
    // Without a token it says only that the gateway sent the request.
    get(gateway.address, "/open/a", &[("X-Auth-Assertion", "forged")]).unwrap();
    let said = claims(&assertion(&app));
    assert_eq!((said["path"].as_str(), said.get("sub")), (Some("/open"), None));
    // An upstream without assertions gets none, not even a client's.
    get(gateway.address, "/other", &[("X-Auth-Assertion", "forged")]).unwrap();
    assert!(other.last().values("X-Auth-Assertion").is_empty());
    // It is no token.
    let as_token = get(gateway.address, "/app", &[("Authorization", &format!("Bearer {first}"))]).unwrap();
    assert_eq!((as_token.status, as_token.code().as_str()), (401, "invalid_token"));
    let jwks = get(gateway.address, "/.well-known/jwks.json", &[]).unwrap().json();
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 2);
    assert!(app.violations().is_empty());
    // Its keys have commands of their own.
    let (code, kid, complaint) = gateway.run_command(&["keys", "--assertion", "rotate", "--now"], "");
    assert_eq!(code, 0, "{complaint}");
    wait_until("the new key is published", || {
        get(gateway.address, "/.well-known/jwks.json", &[]).unwrap().text().contains(kid.trim())
    });
}

/// An app that runs until this is dropped.
struct App {
    _program: Running,
    address: SocketAddr,
    dir: TempDir,
}

/// The first code of a section of the page.
fn example(heading: &str, language: &str) -> String {
    let page = include_str!("../../../docs/how-to/verify-the-gateway.md");
    let section = page.split_once(&format!("### {heading}\n")).unwrap().1;
    let code = section.split_once(&format!("```{language}\n")).unwrap().1;
    code.split_once("```").unwrap().0.to_owned()
}

impl App {
    /// Runs an example with an endpoint that returns the assertion that it got.
    fn start(name: &str, gateway: SocketAddr, address: SocketAddr) -> App {
        let dir = tempfile::tempdir().unwrap();
        let port = address.port();
        let names =
            format!("GATEWAY = \"http://{gateway}\"\nISSUER = \"http://gateway\"\nUPSTREAM = \"{name}\"\n");
        let (mut command, file, text) = match name {
            "flask" => {
                let echo = "@app.route('/<path:rest>', methods=['GET', 'POST'])\n\
                            def echo(rest):\n    return request.headers['X-Auth-Assertion']\n";
                let code = example("Flask", "python");
                (python(), "app.py", format!("{names}{code}\n{echo}app.run(port={port})\n"))
            }
            "fastapi" => {
                let echo = "import uvicorn\nfrom fastapi.responses import PlainTextResponse\n\
                            @app.api_route('/{rest:path}', methods=['GET', 'POST'])\n\
                            def echo(request: Request):\n    return PlainTextResponse(request.headers['X-Auth-Assertion'])\n";
                let code = example("FastAPI", "python");
                (python(), "app.py", format!("{names}{code}\n{echo}uvicorn.run(app, port={port})\n"))
            }
            "spring" => {
                let code = example("Spring", "java").replace("GATEWAY", &format!("\"http://{gateway}\""));
                let code = code.replace("ISSUER", "\"http://gateway\"").replace("UPSTREAM", "\"spring\"");
                let jar = |name: &&str| format!("/usr/share/java/{name}.jar");
                let mut java = Command::new("java");
                java.args(["-cp", &JARS.iter().map(jar).collect::<Vec<_>>().join(":")]);
                (java, "App.java", format!("{}{code}", include_str!("assertion/App.java")))
            }
            _ => {
                let names = names.replace("GATEWAY", "const GATEWAY").replace("ISSUER", "const ISSUER");
                let names = names.replace("UPSTREAM", "const UPSTREAM");
                let echo =
                    "app.use((request, response) => response.send(request.get('X-Auth-Assertion')));\n";
                let code = example("Express", "js");
                let modules =
                    Path::new(env!("CARGO_MANIFEST_DIR")).join("../spa/node_modules").canonicalize();
                let modules = modules.expect("the packages of spa/, by `npm --prefix spa ci`");
                std::os::unix::fs::symlink(modules, dir.path().join("node_modules")).unwrap();
                let text = format!("{code}\n{echo}app.listen({port}, \"127.0.0.1\");\n");
                let (imports, rest) = text.split_once("\n\n").unwrap();
                (Command::new("node"), "app.mjs", format!("{imports}\n{names}\n{rest}"))
            }
        };
        fs::write(dir.path().join(file), text).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        command
            .args([file, &port.to_string()])
            .current_dir(dir.path())
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::null());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let app = App { _program: Running(child), address, dir };
        let log = || fs::read_to_string(app.dir.path().join("log")).unwrap();
        for _ in 0..600 {
            if std::net::TcpStream::connect(address).is_ok() {
                return app;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{name} does not start: {}", log());
    }

    fn status(&self, method: &str, path: &str, assertion: Option<&str>) -> u16 {
        let fields: Vec<_> = assertion.iter().map(|value| ("X-Auth-Assertion", *value)).collect();
        request(self.address, method, path, &fields, b"").unwrap().status
    }
}

/// Of Debian's libspring-web-java, libjetty9-java, libservlet-api-java and libjackson2-databind-java.
const JARS: [&str; 16] = [
    "spring3-web",
    "spring3-core",
    "spring3-beans",
    "spring3-context",
    "commons-logging",
    "jackson-databind",
    "jackson-core",
    "jackson-annotations",
    "servlet-api",
    "jetty9-server",
    "jetty9-servlet",
    "jetty9-util",
    "jetty9-util-ajax",
    "jetty9-http",
    "jetty9-io",
    "jetty9-security",
];

/// The long form has Spring's, too.
#[test]
fn the_documented_verifiers_let_only_the_gateways_requests_pass() {
    let mut names = vec!["flask", "fastapi", "express"];
    let is_long = std::env::var_os("AUTH_GATEWAY_LONG").is_some();
    names.extend(is_long.then_some("spring"));
    // A program in Java needs a while for its first answers.
    let ttl = if is_long { 9 } else { 4 };
    let addresses: Vec<SocketAddr> = names.iter().map(|_| free_address()).collect();
    let mut config = format!(
        "[tokens]\nissuer = \"http://gateway\"\n[upstream_assertion]\nenabled = true\nttl = \"{ttl}s\"\n"
    );
    for (name, address) in names.iter().zip(&addresses) {
        config += &format!("[upstreams.{name}]\nurls = [\"http://{address}\"]\n");
    }
    for name in &names {
        config += &format!("[[routes]]\nhosts = [\"{name}.test\"]\npath = \"/app\"\nupstream = \"{name}\"\n");
    }
    let gateway = Gateway::start(&config);
    let public = gateway.address;
    let apps: Vec<App> = std::thread::scope(|scope| {
        let start = |(name, address)| scope.spawn(move || App::start(name, public, address));
        let starting: Vec<_> = names.iter().copied().zip(addresses).map(start).collect();
        starting.into_iter().map(|app| app.join().unwrap()).collect()
    });
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let through = |name: &str, path: &str| {
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: {name}.test\r\nAuthorization: Bearer {access}\r\n\r\n");
        exchange(gateway.address, head.as_bytes()).replies.remove(0)
    };
    let assertions: Vec<String> = names
        .iter()
        .map(|name| {
            let reply = through(name, "/app/x");
            assert_eq!(reply.status, 200, "{name}: {reply:?}");
            // A path with an escape is the same path.
            assert_eq!(through(name, "/app/%78%20y").status, 200, "{name}");
            reply.text()
        })
        .collect();
    for (index, (name, app)) in names.iter().zip(&apps).enumerate() {
        let own = assertions[index].as_str();
        let anothers = assertions[(index + 1) % names.len()].as_str();
        let (message, signature) = own.rsplit_once('.').unwrap();
        let unsigned = format!("{message}.");
        let flipped: String = signature.chars().rev().collect();
        let forged = format!("{message}.{flipped}");
        for (what, method, path, assertion, expected) in [
            ("the same", "GET", "/app/y", Some(own), 200),
            ("none", "GET", "/app/y", None, 403),
            ("no token at all", "GET", "/app/y", Some("x"), 403),
            ("unsigned", "GET", "/app/y", Some(unsigned.as_str()), 403),
            ("a wrong signature", "GET", "/app/y", Some(forged.as_str()), 403),
            ("of another app", "GET", "/app/y", Some(anothers), 403),
            ("an access token", "GET", "/app/y", Some(access.as_str()), 403),
            ("for another method", "POST", "/app/y", Some(own), 403),
            ("for another path", "GET", "/other", Some(own), 403),
            ("for a path that begins like it", "GET", "/application", Some(own), 403),
        ] {
            assert_eq!(app.status(method, path, assertion), expected, "{name}: {what}");
        }
    }
    for (index, (name, app)) in names.iter().zip(&apps).enumerate() {
        let own = assertions[index].as_str();
        wait_until(&format!("{name} refuses an assertion that has expired"), || {
            app.status("GET", "/app/y", Some(own)) == 403
        });
        assert_eq!(through(name, "/app/y").status, 200, "{name} gets a new one");
    }
}
