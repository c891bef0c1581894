//! Password hashes made by the real libraries, from werkzeug to mkpasswd, at login.

use std::fs;

use auth_gateway::users::{HashingPool, Password, PasswordHash};

use serde_json::json;

use super::{ROUTES, python};
use crate::fixture::{Gateway, PASSWORD, login, post, tokens, until_not_busy};

/// (name, hash) of every kind, of [`PASSWORD`].
fn kinds() -> Vec<(String, String)> {
    let printed = python("hashes.py", &[PASSWORD]);
    printed
        .lines()
        .map(|line| line.split_once('\t').unwrap())
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .collect()
}

#[test]
fn every_kind_that_the_real_libraries_make_is_verified() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let pool = HashingPool::new(2, 2);
    let kinds = kinds();
    assert!(kinds.len() >= 35);
    for (name, text) in kinds {
        let hash = PasswordHash::parse(&text).unwrap_or_else(|error| panic!("{name}: {text}: {error}"));
        let verify = |word: &str| runtime.block_on(pool.verify(&hash, Password::new(word).unwrap())).unwrap();
        assert!(verify(PASSWORD), "{name}: {text}");
        assert!(!verify("a password for testS") && !verify(""), "{name}: {text}");
    }
}

#[test]
fn a_login_hashes_the_password_anew_and_ends_no_session() {
    // With so little salt, what a session remembers of a hash must not be stored with the new one.
    let has_salt =
        |(name, _): &(String, String)| name != "htpasswd-sha" && name != "passlib-ldap-salted-sha1";
    let kinds: Vec<_> = kinds().into_iter().filter(has_salt).collect();
    let entry = |(id, (name, hash)): (usize, &(String, String))| {
        format!("[[users]]\nid = \"{id}\"\nusername = \"{name}\"\npassword = \"{hash}\"\n")
    };
    let users: String = kinds.iter().enumerate().map(entry).collect();
    let config = format!("[users]\nallow_broken_hashes = true\nrehash = false\n{ROUTES}");
    let mut gateway = Gateway::start_with(&config, &users, &[]);
    let before: Vec<_> = kinds.iter().map(|(name, _)| tokens(gateway.address, name, PASSWORD).1).collect();
    gateway.wait_for_log("kinds of password hashes in use");

    gateway.terminate();
    gateway.wait();
    let file = gateway.path("config/users.toml");
    assert_eq!(fs::read_to_string(&file).unwrap(), users, "nothing is written where rehash is off");
    fs::write(gateway.path("gateway.toml"), config.replace("rehash = false", "rehash = true")).unwrap();
    gateway.run();
    for (name, _) in &kinds {
        let reply = until_not_busy(|| login(gateway.address, name, PASSWORD));
        assert_eq!(reply.status, 200, "{name}");
    }
    let after = fs::read_to_string(&file).unwrap();
    assert_eq!(after.matches("\"$argon2id$v=19$m=19456,t=2,p=1$").count(), kinds.len(), "{after}");
    // The file is reloaded within a second; earlier hashes still verify.
    for ((name, _), refresh) in kinds.iter().zip(&before) {
        assert_eq!(
            post(gateway.address, "/refresh", refresh).status,
            200,
            "{name}: its session was not to end"
        );
        assert_eq!(login(gateway.address, name, PASSWORD).status, 200, "{name}");
    }
    assert_eq!(login(gateway.address, &kinds[0].0, "wrong").status, 401);
}

#[test]
fn broken_schemes_need_a_switch_and_check_lists_the_schemes() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("htpasswd"), "alice:$apr1$abcdefgh$rNKF.RI/7Ra4dGVPHyZ5G.\n").unwrap();
    let config =
        |switch: &str| format!("[users]\nkind = \"htpasswd\"\nfile = \"htpasswd\"\n{switch}{ROUTES}");
    let check = |switch: &str| {
        fs::write(dir.path().join("gateway.toml"), config(switch)).unwrap();
        Gateway::command(dir.path(), &["check", "--config", "gateway.toml"], "")
    };
    let (code, _, errors) = check("");
    assert_eq!(code, 78);
    assert!(errors.contains("alice") && errors.contains("allow_broken_hashes = true"), "{errors}");
    let (code, _, notes) = check("allow_broken_hashes = true\n");
    assert_eq!(code, 0, "{notes}");
    assert!(notes.contains("warning[users-file]: the hash of alice"), "{notes}");
    assert!(notes.contains("note: users of htpasswd: 1 with apr1"), "{notes}");
}

#[test]
fn sources_are_queried_in_order_and_a_name_belongs_to_the_first() {
    let hash = PasswordHash::create(&Password::new(PASSWORD).unwrap()).unwrap();
    let users = crate::fixture::users_file(&[("1", "alice", PASSWORD, &["user"])]);
    let config = format!(
        "[[users.sources]]\nkind = \"file\"\n[[users.sources]]\nkind = \"htpasswd\"\nfile = \"htpasswd\"\nroles = [\"guest\"]\n{ROUTES}"
    );
    let lines = format!("alice:{0}\nbob:{0}\n", hash.as_str());
    let gateway = Gateway::start_with(&config, &users, &[("htpasswd", lines.as_bytes())]);
    let claims = |name: &str| crate::fixture::claims(&tokens(gateway.address, name, PASSWORD).0);
    assert_eq!((&claims("alice")["sub"], &claims("alice")["roles"]), (&"1".into(), &json!(["user"])));
    assert_eq!((&claims("bob")["sub"], &claims("bob")["roles"]), (&"htpasswd:bob".into(), &json!(["guest"])));
    let (_, refresh) = tokens(gateway.address, "bob", PASSWORD);
    assert_eq!(post(gateway.address, "/refresh", &refresh).status, 200);

    let show = |name: &str| {
        Gateway::command(gateway.dir.path(), &["users", "--config", "gateway.toml", "show", name], "")
    };
    let (code, shown, _) = show("BOB");
    assert_eq!(code, 0);
    for line in [
        "source    htpasswd",
        "id        htpasswd:bob",
        "roles     guest",
        "password  argon2id m=19456,t=2,p=1",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    assert!(show("alice").1.contains("source    file"));
    let (code, _, error) = show("carol");
    assert!(
        code == 1
            && error.contains("no source has a user carol; they were queried in this order: file, htpasswd"),
        "{error}"
    );
}
