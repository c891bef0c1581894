//! The audit trail: its targets, its events, and what it never has.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use serde_json::Value;

use crate::fixture::{
    Gateway, PASSWORD, Upstream, get, login, post, request, tokens, users_file, wait_until,
};

const TRAIL: &str =
    "[audit]\ntarget = \"file\"\nfile = \"audit.log\"\nrefusals = \"all\"\n[log]\nlevel = \"warn\"\n";

fn config(upstream: &Upstream) -> String {
    format!(
        "[lockout]\nmax_failures = 3\n[reload]\nwatch = true\n[upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/\"\nupstream = \"app\"\n\
         [[routes]]\npath = \"/admin\"\nupstream = \"app\"\nroles = [\"admin\"]\n",
        upstream.address
    )
}

/// The events of the file, and that each line is one.
fn events(gateway: &Gateway, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(gateway.path(name)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// Waits for an event with these members, and returns it.
fn event(gateway: &Gateway, members: &[(&str, &str)]) -> Value {
    let has = |event: &Value| members.iter().all(|(name, value)| event[*name] == **value);
    wait_until(&format!("there is an event with {members:?}"), || {
        events(gateway, "audit.log").iter().any(has)
    });
    events(gateway, "audit.log").into_iter().find(has).unwrap()
}

#[test]
fn the_trail_is_written_whatever_the_log_level_and_says_why_logins_failed() {
    let upstream = Upstream::start();
    let disabled = users_file(&[("2", "mallory", PASSWORD, &["user"])]) + "disabled = true\n";
    let users = users_file(&[("1", "alice", PASSWORD, &["user"])]) + &disabled;
    let gateway = Gateway::start_with(&(TRAIL.to_owned() + &config(&upstream)), &users, &[]);
    let address = gateway.address;
    let mode = fs::metadata(gateway.path("audit.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    event(&gateway, &[("event", "start"), ("outcome", "success")]);

    let answers: Vec<_> = [("alice", "wrong"), ("nobody", PASSWORD), ("mallory", PASSWORD)]
        .map(|(name, password)| {
            let reply = login(address, name, password);
            let mut body = reply.json();
            body.as_object_mut().unwrap().remove("request_id");
            (reply.status, body)
        })
        .into();
    assert!(answers.iter().all(|answer| answer == &answers[0]), "the client learns no reason: {answers:?}");
    for (name, reason) in [("alice", "wrong_password"), ("nobody", "unknown_user"), ("mallory", "disabled")] {
        let members = [("event", "login"), ("outcome", "failed"), ("subject", name), ("reason", reason)];
        let event = event(&gateway, &members);
        assert_eq!(
            (&event["kind"], &event["level"], &event["client"]),
            (&"audit".into(), &"INFO".into(), &"127.0.0.1".into())
        );
    }
    for _ in 0..3 {
        login(address, "eve", "wrong");
    }
    assert_eq!(login(address, "eve", "wrong").status, 403);
    event(&gateway, &[("event", "login"), ("outcome", "locked"), ("subject", "eve")]);

    let (access, refresh) = tokens(address, "alice", PASSWORD);
    let opened = event(&gateway, &[("event", "login"), ("outcome", "success"), ("subject", "alice")]);
    assert_eq!(
        get(address, "/admin?secret=1", &[("Authorization", &format!("Bearer {access}"))]).unwrap().status,
        403
    );
    let refused =
        event(&gateway, &[("event", "request"), ("outcome", "refused"), ("reason", "insufficient_scope")]);
    for (name, value) in [("subject", "alice"), ("method", "GET"), ("path", "/admin"), ("route", "/admin")] {
        assert_eq!(refused[name], value, "{refused}");
    }
    assert_eq!((&refused["session"], refused["status"].as_u64()), (&opened["session"], Some(403)));
    assert_eq!(get(address, "/", &[]).unwrap().status, 401);
    event(&gateway, &[("event", "request"), ("reason", "missing_token"), ("subject", "-")]);
    post(address, "/logout", &refresh);
    event(&gateway, &[("event", "logout"), ("subject", "alice")]);
    assert_eq!(post(address, "/refresh", &refresh).status, 401);
    event(&gateway, &[("event", "refresh"), ("outcome", "revoked")]);

    let trail = fs::read_to_string(gateway.path("audit.log")).unwrap();
    for secret in [PASSWORD, &access, &refresh, "secret=1", "$argon2"] {
        assert!(!trail.contains(secret), "{secret} is in\n{trail}");
    }
    assert!(!gateway.log().contains("audit"), "none of it is in the log: {}", gateway.log());
    assert!(gateway.metrics().contains("auth_gateway_audit_events_dropped_total 0\n"));
}

#[test]
fn a_reused_refresh_token_is_an_alert() {
    let upstream = Upstream::start();
    let rotation = "[tokens]\nrotation = \"strict\"\nreuse_grace = \"0s\"\n";
    let gateway = Gateway::start(&(TRAIL.to_owned() + rotation + &config(&upstream)));
    let (_, refresh) = tokens(gateway.address, "alice", PASSWORD);
    let next =
        post(gateway.address, "/refresh", &refresh).json()["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(post(gateway.address, "/refresh", &next).status, 200);
    assert_eq!(post(gateway.address, "/refresh", &refresh).json()["code"], "token_reused");
    let alert = event(&gateway, &[("event", "refresh"), ("outcome", "reused")]);
    assert_eq!((alert["alert"].as_bool(), &alert["level"]), (Some(true), &"WARN".into()));
    let alerts = events(&gateway, "audit.log").into_iter().filter(|event| event["alert"] == true).count();
    assert_eq!(alerts, 1, "and nothing else is");
}

#[test]
fn reloads_keys_users_takeovers_and_rotation_of_the_file_are_followed() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::start(&(TRAIL.to_owned() + &config(&upstream)));
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let command = |args: &[&str]| {
        let (code, _, error) = gateway.run_command(args, "");
        assert_eq!(code, 0, "{args:?}: {error}");
    };
    command(&["keys", "generate"]);
    event(&gateway, &[("event", "key"), ("outcome", "added"), ("client", "gateway")]);
    command(&["users", "roles", "alice", "admin"]);
    event(&gateway, &[("event", "user"), ("outcome", "roles_changed"), ("subject", "1")]);
    command(&["users", "disable", "alice"]);
    event(&gateway, &[("event", "user"), ("outcome", "disabled"), ("subject", "1")]);
    event(&gateway, &[("event", "account_changed"), ("subject", "1")]);
    assert_eq!(
        get(gateway.address, "/", &[("Authorization", &format!("Bearer {access}"))]).unwrap().status,
        401
    );

    let good = fs::read_to_string(gateway.path("gateway.toml")).unwrap();
    fs::write(gateway.path("gateway.toml"), format!("{good}nonsense = 1\n")).unwrap();
    event(&gateway, &[("event", "reload"), ("outcome", "rejected"), ("subject", "configuration")]);
    let quiet = good.replace("refusals = \"all\"", "refusals = \"off\"");
    fs::write(gateway.path("gateway.toml"), quiet).unwrap();
    wait_until("the configuration is good again", || {
        gateway.metrics().contains("auth_gateway_config_up_to_date 1\n")
    });
    event(&gateway, &[("event", "reload"), ("outcome", "success"), ("subject", "configuration")]);
    let refusals =
        || events(&gateway, "audit.log").iter().filter(|event| event["event"] == "request").count();
    let before = refusals();
    assert_eq!(get(gateway.address, "/", &[]).unwrap().status, 401);

    fs::rename(gateway.path("audit.log"), gateway.path("audit.log.1")).unwrap();
    login(gateway.address, "bob", "wrong");
    event(&gateway, &[("event", "login"), ("subject", "bob")]);
    let moved = events(&gateway, "audit.log.1");
    assert_eq!(moved.iter().filter(|event| event["event"] == "request").count(), before, "refusals are off");
    assert!(!moved.iter().any(|event| event["subject"] == "bob"));
    gateway.terminate();
    gateway.wait();
    event(&gateway, &[("event", "stop"), ("reason", "SIGTERM")]);
}

#[test]
fn syslog_and_the_journal_get_each_event_as_a_message() {
    let upstream = Upstream::start();
    for (target, start, expected) in [
        ("syslog", "<86>1 ", ["[audit@32473 event=\"login\" outcome=\"failed\" reason=\"unknown_user\""]),
        ("journald", "MESSAGE=login failed\n", ["\nAUTH_GATEWAY_REASON=unknown_user\n"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let daemon = UnixDatagram::bind(&path).unwrap();
        daemon.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let audit = format!("[audit]\ntarget = {target:?}\n{target}_socket = {path:?}\n");
        let gateway = Gateway::start(&(audit + &config(&upstream)));
        assert_eq!(login(gateway.address, "nobody", "wrong").status, 401);
        let mut buffer = [0; 8192];
        let mut message = || {
            let len = daemon.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..len].to_vec()).unwrap()
        };
        let first = message();
        assert!(first.contains("start"), "{first}");
        let second = loop {
            let next = message();
            if next.contains("nobody") {
                break next;
            }
            // A key that begins to sign.
            assert!(next.contains("signing"), "{next}");
        };
        assert!(second.starts_with(start), "{second}");
        for part in expected {
            assert!(second.contains(part), "{part} is not in {second}");
        }
    }
}

#[test]
fn a_trail_that_cannot_be_written_stops_the_start_and_is_found_by_check() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("config")).unwrap();
    fs::write(dir.path().join("config/users.toml"), users_file(&[("1", "alice", PASSWORD, &["user"])]))
        .unwrap();
    for (audit, key) in [
        ("target = \"file\"\nfile = \"missing/audit.log\"", "file = \"missing"),
        ("target = \"syslog\"\nsyslog_socket = \"missing/log\"", "syslog_socket = \"missing"),
    ] {
        let listen = "[server]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";
        let config = format!(
            "{listen}[audit]\n{audit}\n[upstreams.app]\nurls = [\"http://127.0.0.1:1\"]\n[[routes]]\npath = \"/\"\nupstream = \"app\"\n"
        );
        fs::write(dir.path().join("gateway.toml"), config).unwrap();
        let (code, _, error) = Gateway::command(dir.path(), &["check", "--config", "gateway.toml"], "");
        let expected = "the audit trail cannot be written to missing/";
        assert!(code == 78 && error.contains(expected) && error.contains(key), "{code} {error}");
        let (code, _, error) = Gateway::command(dir.path(), &["--config", "gateway.toml"], "");
        assert_eq!(code, 78, "{error}");
        assert!(error.contains("audit.target") && error.contains("missing"), "{error}");
    }
}

#[test]
fn the_log_has_the_trail_by_default_and_refusals_with_403_only() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&("[log]\nlevel = \"error\"\n".to_owned() + &config(&upstream)));
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let bearer = format!("Bearer {access}");
    assert_eq!(get(gateway.address, "/", &[]).unwrap().status, 401);
    assert_eq!(
        request(gateway.address, "GET", "/admin", &[("Authorization", &bearer)], b"").unwrap().status,
        403
    );
    wait_until("the refusal is in the log", || gateway.log().contains("\"message\":\"request refused\""));
    let log = gateway.log();
    assert!(log.contains("\"message\":\"login success\""), "{log}");
    assert!(!log.contains("\"reason\":\"missing_token\""), "{log}");
}
