//! `/status`, `/status.json` and `auth-gateway status`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::fixture::{
    Gateway, PASSWORD, PROGRAM, Upstream, free_address, get, login, post, tokens, wait_until,
};

const SECRET: &str = "jP0tq3Xh9sVw2LmN8bRzK5yCdF7gTaQe";

fn start(upstream: &Upstream) -> Gateway {
    Gateway::start(&format!(
        "[lockout]\nmax_failures = 2\n[tokens]\nalgorithm = \"HS256\"\nsecret = \"{SECRET}\"\nrotation = \"strict\"\nreuse_grace = \"0s\"\n\
         [upstreams.app]\nurls = [\"http://{}\"]\n[upstreams.gone]\nurls = [\"http://{}\"]\n\
         [[routes]]\npath = \"/api\"\nupstream = \"app\"\nroles = [\"user\"]\nhosts = [\"127.0.0.1\"]\n\
         [[routes]]\npath = \"/gone\"\nupstream = \"gone\"\naccess = \"public\"\n",
        upstream.address,
        free_address()
    ))
}

fn status(gateway: &Gateway) -> Value {
    let reply = get(gateway.admin, "/status.json", &[]).unwrap();
    assert_eq!((reply.status, reply.field("content-type")), (200, Some("application/json")));
    reply.json()
}

#[test]
fn the_status_has_routes_upstreams_sessions_and_keys_and_no_secret() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
    let bearer = format!("Bearer {access}");
    for _ in 0..3 {
        assert_eq!(get(gateway.address, "/api/x", &[("Authorization", &bearer)]).unwrap().status, 200);
    }
    assert_eq!(get(gateway.address, "/gone", &[]).unwrap().status, 502);
    let next =
        post(gateway.address, "/refresh", &refresh).json()["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(post(gateway.address, "/refresh", &next).status, 200);
    (0..2).for_each(|_| drop(login(gateway.address, "bob", "wrong")));
    wait_until("sessions and locks are counted", || {
        let store = &status(&gateway)["store"];
        store["sessions"] == 1 && store["locked_names"] == 1
    });
    assert!(gateway.metrics().contains("auth_gateway_sessions 1\n"));
    assert!(gateway.metrics().contains("auth_gateway_locked_names 1\n"));

    let found = status(&gateway);
    assert_eq!((&found["status"], &found["version"]), (&"ready".into(), &env!("CARGO_PKG_VERSION").into()));
    assert_eq!(found["process"], gateway.pid());
    let api = &found["routes"][0];
    assert_eq!(
        (&api["path"], &api["hosts"][0], &api["roles"][0]),
        (&"/api".into(), &"127.0.0.1".into(), &"user".into())
    );
    assert_eq!((&api["access"], &api["requests"]["2xx"]), (&"authenticated".into(), &3.into()));
    assert!(api["average_milliseconds"].as_f64().unwrap() > 0.0);
    assert_eq!(found["routes"][1]["requests"]["5xx"], 1);
    let server = |upstream: &Value| (upstream["name"].clone(), upstream["servers"][0]["state"].clone());
    assert_eq!(server(&found["upstreams"][0]), ("app".into(), "serving".into()));
    assert_eq!(found["upstreams"][0]["requests"]["ok"], 3);
    assert_eq!(found["upstreams"][1]["requests"]["connect_failed"], 1);
    assert_eq!(
        (&found["keys"][0]["algorithm"], &found["keys"][0]["state"]),
        (&"HS256".into(), &"signing".into())
    );
    assert_eq!((&found["logins"]["success"], &found["refreshes"]["rotated"]), (&1.into(), &2.into()));
    assert!(found["now"].as_u64() >= found["started_at"].as_u64());

    let page = get(gateway.admin, "/status?refresh=5", &[]).unwrap();
    assert_eq!((page.status, page.field("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.field("content-security-policy").unwrap().contains("default-src 'none'"));
    let page = page.text();
    for text in ["&#x2f;api", "127.0.0.1", "serving", "HS256", "http-equiv=\"refresh\" content=\"5\""] {
        assert!(page.contains(text), "{text} is not in\n{page}");
    }
    for secret in [SECRET, PASSWORD, &access, &refresh, "$argon2"] {
        assert!(!page.contains(secret) && !found.to_string().contains(secret), "{secret} is in the status");
    }
    assert_eq!(get(gateway.address, "/status", &[]).unwrap().status, 404, "not on the public listener");
}

#[test]
fn the_status_says_why_a_reload_was_rejected_and_that_the_gateway_drains() {
    let upstream = Upstream::start();
    let mut gateway = start(&upstream);
    let good = std::fs::read_to_string(gateway.path("gateway.toml")).unwrap();
    std::fs::write(gateway.path("gateway.toml"), format!("{good}nonsense = \"<b>\"\n")).unwrap();
    gateway.signal("HUP");
    wait_until("the reload is rejected", || status(&gateway)["status"] == "degraded");
    let found = status(&gateway);
    assert!(found["configuration"]["error"].as_str().unwrap().contains("nonsense"), "{found}");
    assert_eq!(
        (&found["configuration"]["failures"], &found["configuration"]["reloads"]),
        (&1.into(), &0.into())
    );
    let page = get(gateway.admin, "/status", &[]).unwrap().text();
    assert!(page.contains("unknown key") && !page.contains("<b>"), "{page}");
    std::fs::write(gateway.path("gateway.toml"), good).unwrap();
    gateway.signal("HUP");
    wait_until("the reload is taken", || status(&gateway)["status"] == "ready");
    gateway.terminate();
    gateway.wait();
}

#[test]
fn the_command_prints_the_status_once_as_json_and_again_and_again() {
    let upstream = Upstream::start();
    let gateway = start(&upstream);
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let admin = format!("[admin]\nlisten = \"{}\"\n", gateway.admin);
    std::fs::write(gateway.path("admin.toml"), admin).unwrap();
    let run = |more: &[&str]| {
        let arguments = [&["status", "--config", "gateway.toml", "--config", "admin.toml"], more].concat();
        Gateway::command(gateway.dir.path(), &arguments, "")
    };
    let (code, text, error) = run(&[]);
    assert_eq!(code, 0, "{error}");
    for part in ["ready", "ROUTE", "127.0.0.1/api", "UPSTREAM", "serving", "KEY", "signing", "1 success"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let (code, json, _) = run(&["--json"]);
    assert_eq!(code, 0);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["process"], gateway.pid());
    assert_eq!(run(&["--json", "--watch"]).0, 2);

    let mut child = Command::new(PROGRAM)
        .args(["status", "--config", "gateway.toml", "--config", "admin.toml", "--watch", "1"])
        .current_dir(gateway.dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut next = || lines.find(|line| line.contains("/api")).expect("it goes on");
    let first = next();
    let bearer = format!("Bearer {access}");
    (0..5).for_each(|_| drop(get(gateway.address, "/api", &[("Authorization", &bearer)])));
    let moved = (0..5).map(|_| next()).find(|line| *line != first).expect("the counts move");
    assert!(moved.contains(" 5 ") && moved.contains('.'), "{moved}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_command_says_where_it_has_asked_in_vain() {
    let dir = tempfile::tempdir().unwrap();
    let admin = free_address();
    std::fs::create_dir(dir.path().join("config")).unwrap();
    std::fs::write(dir.path().join("config/users.toml"), "").unwrap();
    let config = format!(
        "[admin]\nlisten = \"{admin}\"\n[[routes]]\npath = \"/\"\nrespond = {{ status = 204 }}\naccess = \"public\"\n"
    );
    std::fs::write(dir.path().join("gateway.toml"), config).unwrap();
    let (code, _, error) = Gateway::command(dir.path(), &["status", "--config", "gateway.toml"], "");
    assert_eq!(code, 1);
    assert!(error.contains(&admin.to_string()) && error.contains("admin.listen"), "{error}");
}

#[test]
fn a_name_without_an_address_is_shown_and_logged_once() {
    let gateway = Gateway::start(
        "[upstreams.app]\nurls = [\"http://nowhere.invalid\"]\n[[routes]]\npath = \"/\"\nupstream = \"app\"\n",
    );
    let server = || status(&gateway)["upstreams"][0]["servers"][0].clone();
    wait_until("the lookup has failed", || server()["state"] == "unresolved");
    assert_eq!(server()["address"], "nowhere.invalid");
    // It is looked up again each second.
    std::thread::sleep(std::time::Duration::from_millis(1200));
    assert_eq!(gateway.log().matches("cannot be looked up").count(), 1, "{}", gateway.log());
}
