//! Users of an SQL table, on real servers that are killed, hang and recover.

use std::time::{Duration, Instant};

use auth_gateway::users::{Password, PasswordHash};

use serde_json::json;

use super::ROUTES;
use super::databases::{Database, Kind};
use crate::fixture::{Gateway, PASSWORD, claims, login, post, request, tokens, until_not_busy, wait_until};

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
    gateway.wait_for_log("the source of users does not respond");
    database.restart();
    wait_until("the table is back", || status("alice", PASSWORD) == 200);
    assert_eq!(post(gateway.address, "/refresh", &refresh).status, 200);

    // Hanging: no longer than the limit.
    if kind != Kind::Sqlite {
        database.signal("STOP");
        let asked = Instant::now();
        assert_eq!(status("alice", PASSWORD), 503);
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        // More than there are connections.
        let address = gateway.address;
        let attempts: Vec<_> =
            (0..8).map(|_| std::thread::spawn(move || login(address, "alice", "wrong").status)).collect();
        assert!(attempts.into_iter().all(|attempt| attempt.join().unwrap() == 503));
        database.signal("CONT");
        wait_until("the table is back", || status("alice", PASSWORD) == 200);
        let outages = || gateway.log().matches("the source of users does not respond").count();
        wait_until("both outages are logged", || outages() == 2);
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

/// The statements of the guide, as an operator runs them.
fn documented_trigger() -> String {
    let guide = include_str!("../../../../docs/how-to/users.md");
    let (_, from) = guide.split_once("```sql\nCREATE FUNCTION").unwrap();
    format!("CREATE FUNCTION{}", from.split_once("```").unwrap().0)
}

#[test]
fn announced_changes_end_sessions_at_once_and_without_polling() {
    let mut database = filled(Kind::Postgres);
    database.sql("ALTER TABLE \"user\" ADD COLUMN version INTEGER DEFAULT 0");
    database.sql(&documented_trigger());
    let more =
        "notify_channel = \"users_changed\"\npoll_interval = \"200ms\"\ncolumns = { version = \"version\",";
    let gateway = Gateway::start_with(&config(&database, "").replacen("columns = {", more, 1), "", &[]);
    let status = |access: &str| {
        let bearer = format!("Bearer {access}");
        crate::fixture::get(gateway.address, "/api", &[("Authorization", &bearer)]).unwrap().status
    };
    let listeners =
        || database.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'").trim().to_owned();
    wait_until("the gateway listens", || listeners() == "1");
    let (of_bob, _) = tokens(gateway.address, "bob", PASSWORD);
    let enable = |database: &Database| database.sql("UPDATE \"user\" SET is_active = true WHERE id = 1");
    for change in [
        "UPDATE \"user\" SET is_active = false WHERE id = 1".to_owned(),
        format!("UPDATE \"user\" SET password_hash = '{}' WHERE id = 1", hash()),
        // By hand, without a payload: any user.
        "ALTER TABLE \"user\" DISABLE TRIGGER notify_user_change; UPDATE \"user\" SET is_active = false WHERE id = 1; \
         ALTER TABLE \"user\" ENABLE TRIGGER notify_user_change; NOTIFY users_changed"
            .to_owned(),
        "DELETE FROM \"user\" WHERE id = 1; INSERT INTO \"user\" (id, username, password_hash, is_active) \
         SELECT 1, 'alice', password_hash, false FROM \"user\" WHERE id = 2"
            .to_owned(),
    ] {
        enable(&database);
        let alice = tokens(gateway.address, "alice", PASSWORD).0;
        assert_eq!(status(&alice), 502, "the token is good, and the upstream of this test is not there");
        database.sql(&change);
        wait_until("the session has ended", || status(&alice) == 401);
        assert_eq!(status(&of_bob), 502, "{change}: others go on");
    }

    // The version is not polled while changes are announced, and is when the connection is lost.
    enable(&database);
    let alice = tokens(gateway.address, "alice", PASSWORD).0;
    database.sql("ALTER TABLE \"user\" DISABLE TRIGGER notify_user_change");
    database.sql("UPDATE \"user\" SET is_active = false, version = 1 WHERE id = 1");
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(status(&alice), 502, "nothing was announced");
    database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'");
    wait_until("the session has ended", || status(&alice) == 401);
    wait_until("the gateway listens again", || listeners() == "1");
    gateway.wait_for_log("changes of users are not announced any more");

    // The same for a server that was killed.
    database.sql("ALTER TABLE \"user\" ENABLE TRIGGER notify_user_change");
    enable(&database);
    let alice = tokens(gateway.address, "alice", PASSWORD).0;
    database.kill();
    database.restart();
    database.sql("UPDATE \"user\" SET is_active = false WHERE id = 1");
    wait_until("the session has ended", || status(&alice) == 401);
    wait_until("changes are announced again", || {
        gateway.log().contains("changes of users are announced again")
    });
    assert_eq!(status(&of_bob), 502);
}

/// Sends a password change without a session.
fn change_password(gateway: &Gateway, name: &str, current: &str, new: &str) -> (u16, String) {
    let body = json!({ "username": name, "current_password": current, "new_password": new }).to_string();
    let fields = [("Content-Type", "application/json")];
    let reply =
        until_not_busy(|| request(gateway.address, "POST", "/password", &fields, body.as_bytes()).unwrap());
    (reply.status, if reply.status == 204 { String::new() } else { reply.code() })
}

fn passwords_change_in_the_table(kind: Kind) {
    let database = filled(kind);
    let table = database.quoted("user");
    database.sql(&format!("ALTER TABLE {table} ADD COLUMN must_change BOOLEAN DEFAULT FALSE"));
    let columns = "columns = { must_change_password = \"must_change\",";
    let keys = "password_change = true\nreset_url = \"https://app.example/reset\"\nrehash = true\nargon2 = { memory_kib = 32768 }\n";
    let with_column = config(&database, keys).replacen("columns = {", columns, 1);
    let gateway = Gateway::start_with(&with_column, "", &[]);
    let status = |name: &str, password: &str| login(gateway.address, name, password).status;
    let (_, other) = tokens(gateway.address, "alice", PASSWORD);

    // Of many changes at a time one counts, and it is the one whose password then works.
    let words: Vec<String> = (0..6).map(|n| format!("a violet armadillo {n}")).collect();
    let outcomes: Vec<(u16, String)> = std::thread::scope(|scope| {
        let changes: Vec<_> = words
            .iter()
            .map(|new| scope.spawn(|| change_password(&gateway, "ALICE", PASSWORD, new)))
            .collect();
        changes.into_iter().map(|change| change.join().unwrap()).collect()
    });
    let won: Vec<usize> = (0..words.len()).filter(|&n| outcomes[n].0 == 204).collect();
    assert_eq!(won.len(), 1, "{outcomes:?}");
    let lost = [(409, "password_conflict"), (401, "invalid_credentials"), (403, "account_locked")];
    let is_lost = |outcome: &(u16, String)| lost.contains(&(outcome.0, outcome.1.as_str()));
    assert_eq!(outcomes.iter().filter(|outcome| is_lost(outcome)).count(), 5, "{outcomes:?}");
    gateway.run_command(&["users", "unlock", "alice"], "");
    let current = &words[won[0]];
    assert_eq!(status("alice", current), 200);
    assert_eq!(status("alice", PASSWORD), 401);
    assert_eq!(post(gateway.address, "/refresh", &other).status, 401, "other sessions end");

    // A login that hashes anew does not undo a change that comes in between.
    for round in 0..3 {
        database.sql(&format!(
            "UPDATE {table} SET password_hash = '{}', must_change = TRUE WHERE id = 2",
            hash()
        ));
        let new = format!("a violet armadillo of round {round}");
        let changed = std::thread::scope(|scope| {
            let logins: Vec<_> = (0..2).map(|_| scope.spawn(|| status("bob", PASSWORD))).collect();
            let changed = change_password(&gateway, "bob", PASSWORD, &new);
            for login in logins {
                login.join().unwrap();
            }
            changed
        });
        let (right, wrong) = match changed.0 {
            204 => (new.as_str(), PASSWORD),
            // The login was faster.
            _ => (PASSWORD, new.as_str()),
        };
        assert!([204, 409].contains(&changed.0), "{changed:?}");
        assert_eq!(status("bob", wrong), 401, "{changed:?}");
        let expected = if changed.0 == 204 { 200 } else { 403 };
        assert_eq!(status("bob", right), expected, "a change is required until it was made: {changed:?}");
    }

    // A link counts once, and not after another change.
    let reset = || {
        let (code, link, error) = gateway.run_command(&["users", "reset", "alice"], "");
        assert_eq!(code, 0, "{error}");
        link.trim().split_once("token=").unwrap().1.to_owned()
    };
    let redeem = |token: &str, new: &str| {
        let body = json!({ "token": token, "new_password": new }).to_string();
        let fields = [("Content-Type", "application/json")];
        let path = "/password/reset";
        until_not_busy(|| request(gateway.address, "POST", path, &fields, body.as_bytes()).unwrap()).status
    };
    let (first, second) = (reset(), reset());
    assert_eq!(redeem(&first, "a reset armadillo"), 204);
    assert_eq!(redeem(&first, "another reset armadillo"), 410);
    assert_eq!(redeem(&second, "another reset armadillo"), 410, "the password was changed since");
    assert_eq!(status("alice", "a reset armadillo"), 200);
    assert!(!gateway.log().contains("does not respond"), "{}", gateway.log());
}

#[test]
fn passwords_of_a_database_are_changed_reset_and_rehashed_without_a_lost_change() {
    for kind in [Kind::Sqlite, Kind::Postgres, Kind::MariaDb] {
        passwords_change_in_the_table(kind);
    }
}

/// The account may read only, or the column is too narrow for another hash.
fn a_refused_write_is_no_outage(kind: Kind, prepare: &str, url: impl Fn(&str) -> String, reason: &str) {
    let database = filled(kind);
    database.sql(prepare);
    let keys = "password_change = true\nrehash = true\nargon2 = { memory_kib = 32768 }\n";
    let (from, to) = (database.url(), url(&database.url()));
    let gateway = Gateway::start_with(&config(&database, keys).replace(&from, &to), "", &[]);
    let before = database.sql(&format!("SELECT password_hash FROM {} WHERE id = 1", database.quoted("user")));
    for _ in 0..2 {
        assert_eq!(login(gateway.address, "alice", PASSWORD).status, 200, "{kind:?}");
    }
    let changed = change_password(&gateway, "alice", PASSWORD, "a violet armadillo");
    assert_eq!(changed, (403, "password_not_changeable".to_owned()), "{kind:?}");
    let after = database.sql(&format!("SELECT password_hash FROM {} WHERE id = 1", database.quoted("user")));
    assert_eq!(after, before);
    gateway.wait_for_log("give its account the right to UPDATE password_hash");
    let log = gateway.log();
    assert!(log.contains(reason), "{log}");
    assert_eq!(
        log.matches("the database refuses to store another hash").count(),
        2,
        "a rehash is not tried at each login"
    );
    assert!(!log.contains("does not respond"), "{log}");
}

#[test]
fn a_database_that_refuses_to_store_a_hash_says_what_is_missing() {
    let as_reader = |url: &str| url.replace("postgres@", "reader@").replace("root@", "reader@");
    a_refused_write_is_no_outage(Kind::Sqlite, "SELECT 1", |url| format!("{url}?mode=ro"), "readonly");
    a_refused_write_is_no_outage(
        Kind::Postgres,
        "CREATE ROLE reader LOGIN; GRANT SELECT ON \"user\" TO reader",
        as_reader,
        "permission denied for table user",
    );
    a_refused_write_is_no_outage(
        Kind::MariaDb,
        "CREATE USER reader@'%'; GRANT SELECT ON app.`user` TO reader@'%'",
        as_reader,
        "UPDATE command denied",
    );
    // Where MySQL is not strict, it would cut the hash off.
    let short = "$2b$04$RRJ/yVy2ALr8eAfc3NNzfeIKpfsQQrQ3nGW1VLVwQW4QXsHr5HcIq";
    a_refused_write_is_no_outage(
        Kind::MariaDb,
        &format!(
            "SET GLOBAL sql_mode = ''; UPDATE `user` SET password_hash = '{short}'; \
             ALTER TABLE `user` MODIFY password_hash VARCHAR(96)"
        ),
        str::to_owned,
        "Data too long for column",
    );
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

/// Else an attacker who may add users to a later source could take over a name whose row is broken.
#[test]
fn a_name_that_cannot_log_in_belongs_to_its_source_all_the_same() {
    let database = filled(Kind::Sqlite);
    database.sql("INSERT INTO user (id, username, password_hash, is_active) VALUES (5, 'django', '!Xk2', true), (6, 'empty', NULL, true)");
    let config = format!(
        "[[users.sources]]\nkind = \"sql\"\n[users.sources.sql]\nurl = \"{}\"\ntable = \"user\"\n\
         [[users.sources]]\nkind = \"htpasswd\"\nfile = \"htpasswd\"\n{ROUTES}",
        database.url()
    );
    let hash = hash();
    let lines: String =
        ["broken", "django", "empty", "zoe"].iter().map(|name| format!("{name}:{hash}\n")).collect();
    let gateway = Gateway::start_with(&config, "", &[("htpasswd", lines.as_bytes())]);
    for (name, status, why) in [
        ("broken", 401, "sql has broken, who cannot log in: not a password hash"),
        ("django", 401, "sql has django, who cannot log in: the user has no password"),
        ("empty", 401, "sql has empty, who cannot log in: the user has no password"),
        ("zoe", 200, ""),
    ] {
        assert_eq!(login(gateway.address, name, PASSWORD).status, status, "{name}");
        let (_, _, error) = gateway.run_command(&["users", "show", name], "");
        assert!(error.contains(why), "{name}: {error}");
    }
    gateway.wait_for_log("\"name\":\"broken\"");
    let log = gateway.log();
    let warned = |name: &str| {
        let name = format!("\"name\":\"{name}\"");
        log.lines().any(|line| line.contains("a row cannot be used") && line.contains(&name))
    };
    assert!(warned("broken") && !warned("django") && !warned("empty"), "{log}");
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
