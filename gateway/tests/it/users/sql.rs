//! Users of an SQL table, on real servers that are killed, hang and recover.

use std::time::{Duration, Instant};

use auth_gateway::users::{Password, PasswordHash};

use serde_json::json;

use super::ROUTES;
use super::databases::{Database, Kind};
use crate::fixture::{Gateway, PASSWORD, claims, login, post, tokens, wait_until};

/// bcrypt of [`PASSWORD`] would be slow to make here; the kinds have a test of their own.
fn hash() -> String {
    PasswordHash::create(&Password::new(PASSWORD).unwrap()).unwrap().as_str().to_owned()
}

/// The table of the tutorial's app, with a name that must be quoted, and users in it.
fn filled(kind: Kind) -> Database {
    let database = Database::start(kind);
    database.create();
    let (table, hash) = (database.quoted("user"), hash());
    let id = match kind {
        Kind::Sqlite => "INTEGER PRIMARY KEY",
        Kind::Postgres => "SERIAL PRIMARY KEY",
        Kind::MariaDb => "INTEGER PRIMARY KEY AUTO_INCREMENT",
    };
    database.sql(&format!(
        "CREATE TABLE {table} (id {id}, username VARCHAR(80) UNIQUE NOT NULL, password_hash VARCHAR(255), role VARCHAR(80), \
         is_active BOOLEAN, tenant VARCHAR(20)); \
         INSERT INTO {table} (id, username, password_hash, role, is_active, tenant) VALUES \
         (1, 'Alice', '{hash}', 'user,admin', true, 'blue'), (2, 'bob', '{hash}', NULL, true, NULL), \
         (3, 'mallory', '{hash}', 'user', false, NULL), (4, 'broken', 'hunter2', NULL, true, NULL)"
    ));
    database
}

fn config(database: &Database, more: &str) -> String {
    format!(
        "[users]\nkind = \"sql\"\n{more}[users.sql]\nurl = \"{}\"\ntable = \"user\"\ntimeout = \"1s\"\n\
         columns = {{ roles = \"role\", enabled = \"is_active\" }}\nclaims = {{ tenant = \"tenant\" }}\n{ROUTES}",
        database.url()
    )
}

fn users_come_from_the_table(kind: Kind) {
    let mut database = filled(kind);
    let gateway = Gateway::start_with(&config(&database, ""), "", &[]);
    let status = |name: &str, password: &str| login(gateway.address, name, password).status;

    let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
    let alice = claims(&access);
    assert_eq!((&alice["sub"], &alice["username"]), (&"1".into(), &"alice".into()));
    assert_eq!((&alice["roles"], &alice["tenant"]), (&json!(["user", "admin"]), &"blue".into()));
    assert_eq!(status("bob", PASSWORD), 200);
    for (name, password) in [
        ("bob", "wrong"),
        ("nobody", PASSWORD),
        ("mallory", PASSWORD),
        ("broken", "hunter2"),
        ("b%", PASSWORD),
        ("' OR ''='", PASSWORD),
    ] {
        assert_eq!(status(name, password), 401, "{name}");
    }

    // Changes take effect at the next refresh.
    let table = database.quoted("user");
    database.sql(&format!("UPDATE {table} SET role = 'auditor' WHERE id = 1"));
    let reply = post(gateway.address, "/refresh", &refresh);
    assert_eq!(claims(reply.json()["access_token"].as_str().unwrap())["roles"], json!(["auditor"]));
    let (_, of_bob) = tokens(gateway.address, "bob", PASSWORD);
    database.sql(&format!("UPDATE {table} SET is_active = false WHERE id = 2"));
    assert_eq!(post(gateway.address, "/refresh", &of_bob).status, 401);

    // Outage: no client gets a 401, and requests go on.
    let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
    database.kill();
    for reply in [
        login(gateway.address, "alice", PASSWORD),
        login(gateway.address, "alice", "wrong"),
        post(gateway.address, "/refresh", &refresh),
    ] {
        assert_eq!((reply.status, reply.code().as_str()), (503, "store_unavailable"));
        assert!(reply.field("Retry-After").is_some());
    }
    let bearer = format!("Bearer {access}");
    let reply = crate::fixture::get(gateway.address, "/api", &[("Authorization", &bearer)]).unwrap();
    assert_eq!(reply.status, 502, "the token is good, and the upstream of this test is not there");
    assert!(gateway.log().contains("the source of users does not respond"));
    database.restart();
    wait_until("the table is back", || status("alice", PASSWORD) == 200);
    assert_eq!(post(gateway.address, "/refresh", &refresh).status, 200);

    // Hanging: no longer than the limit.
    if kind != Kind::Sqlite {
        database.signal("STOP");
        let asked = Instant::now();
        assert_eq!(status("alice", PASSWORD), 503);
        assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
        database.signal("CONT");
        wait_until("the table is back", || status("alice", PASSWORD) == 200);
    }
}

fn a_login_rehashes_in_the_table(kind: Kind) {
    let database = filled(kind);
    let table = database.quoted("user");
    let stored = |id: u32| {
        database.sql(&format!("SELECT password_hash FROM {table} WHERE id = {id}")).trim().to_owned()
    };
    let gateway =
        Gateway::start_with(&config(&database, "rehash = true\nargon2 = { memory_kib = 32768 }\n"), "", &[]);
    let before = stored(1);
    let (_, refresh) = tokens(gateway.address, "alice", PASSWORD);
    assert!(before.contains("m=19456") && stored(1).contains("m=32768,t=2,p=1"), "{}", stored(1));
    let after = stored(1);
    assert_eq!(login(gateway.address, "alice", PASSWORD).status, 200);
    assert_eq!(stored(1), after, "once is enough");
    assert_eq!(post(gateway.address, "/refresh", &refresh).status, 200);
    database.sql(&format!("UPDATE {table} SET password_hash = '{}' WHERE id = 1", hash()));
    assert_eq!(post(gateway.address, "/refresh", &refresh).status, 401, "another password ends the session");
}

/// An access token in hand ends too, on an instance that did not see the change made.
fn changed_users_are_logged_out_between_refreshes(kind: Kind) {
    let database = filled(kind);
    let table = database.quoted("user");
    database.sql(&format!("ALTER TABLE {table} ADD COLUMN version INTEGER DEFAULT 0"));
    let columns = "poll_interval = \"100ms\"\ncolumns = { version = \"version\",";
    let with_version = config(&database, "").replacen("columns = {", columns, 1);
    let gateway = Gateway::start_with(&with_version, "", &[]);
    let status = |access: &str| {
        let bearer = format!("Bearer {access}");
        crate::fixture::get(gateway.address, "/api", &[("Authorization", &bearer)]).unwrap().status
    };
    let (of_bob, _) = tokens(gateway.address, "bob", PASSWORD);
    for change in [
        format!("UPDATE {table} SET is_active = false, version = 1 WHERE id = 1"),
        format!("UPDATE {table} SET password_hash = '{}', version = 2 WHERE id = 1", hash()),
        format!("DELETE FROM {table} WHERE id = 1"),
    ] {
        database.sql(&format!("UPDATE {table} SET is_active = true WHERE id = 1"));
        let alice = tokens(gateway.address, "alice", PASSWORD).0;
        assert_eq!(status(&alice), 502, "the token is good, and the upstream of this test is not there");
        database.sql(&change);
        wait_until("the session has ended", || status(&alice) == 401);
        assert_eq!(status(&of_bob), 502, "{change}: others go on");
    }
}

#[test]
fn changed_users_of_a_database_are_logged_out_within_the_poll_interval() {
    for kind in [Kind::Sqlite, Kind::Postgres, Kind::MariaDb] {
        changed_users_are_logged_out_between_refreshes(kind);
    }
}

#[test]
fn users_come_from_sqlite() {
    users_come_from_the_table(Kind::Sqlite);
    a_login_rehashes_in_the_table(Kind::Sqlite);
}

#[test]
fn users_come_from_postgresql() {
    users_come_from_the_table(Kind::Postgres);
    a_login_rehashes_in_the_table(Kind::Postgres);
}

#[test]
fn users_come_from_mariadb() {
    users_come_from_the_table(Kind::MariaDb);
    a_login_rehashes_in_the_table(Kind::MariaDb);
}

#[test]
fn queries_of_the_operators_own_find_users_with_joined_roles() {
    let database = filled(Kind::Sqlite);
    database.sql(
        "CREATE TABLE membership (user_id INTEGER, name TEXT); INSERT INTO membership VALUES (1, 'editor'), (1, 'admin')",
    );
    let config = format!(
        "[users]\nkind = \"sql\"\n[users.sql]\nurl = \"{}\"\n\
         query = \"SELECT id, username, password_hash AS password, tenant FROM user WHERE lower(username) = $1\"\n\
         query_by_id = \"SELECT id, username, password_hash AS password, tenant FROM user WHERE id = $1\"\n\
         roles_query = \"SELECT name FROM membership WHERE user_id = $1 ORDER BY name\"\n{ROUTES}",
        database.url()
    );
    let gateway = Gateway::start_with(&config, "", &[]);
    let (access, refresh) = tokens(gateway.address, "ALICE", PASSWORD);
    assert_eq!(claims(&access)["roles"], json!(["admin", "editor"]));
    assert_eq!((&claims(&access)["sub"], &claims(&access)["tenant"]), (&"1".into(), &"blue".into()));
    assert_eq!(post(gateway.address, "/refresh", &refresh).status, 200);
}

#[test]
fn a_hundred_thousand_users_cost_neither_memory_nor_time() {
    let database = filled(Kind::Sqlite);
    let gateway = Gateway::start_with(&config(&database, ""), "", &[]);
    // The fastest of some: what else runs on the machine is not measured.
    let fastest = |name: &str, status: u16| {
        let timed = |_| {
            let begin = Instant::now();
            assert_eq!(login(gateway.address, name, PASSWORD).status, status);
            begin.elapsed()
        };
        (0..4).map(timed).min().unwrap()
    };
    let (few, memory) = (fastest("alice", 200), gateway.memory_kib());
    database.sql(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 5 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) \
         INSERT INTO user (id, username, password_hash, is_active) SELECT i, 'user' || i, '{}', 1 FROM n; \
         CREATE INDEX lower_name ON user (LOWER(username))",
        hash()
    ));
    let (many, unknown) = (fastest("user77777", 200), fastest("nobody", 401));
    let grown = gateway.memory_kib().saturating_sub(memory);
    println!(
        "a login among 4 users {few:?}, among 100,000 {many:?}, of an unknown name {unknown:?}, {grown} KiB more"
    );
    assert!(many < few * 2 + Duration::from_millis(20), "{many:?} among many, {few:?} among few");
    assert!(unknown < many * 2 + Duration::from_millis(20) && many < unknown * 2 + Duration::from_millis(20));
    assert!(grown < 16 * 1024, "{grown} KiB");
}
