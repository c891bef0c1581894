//! Commands of operators: users, keys, backups, and what `check` and `healthcheck` find.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::fixture::{Gateway, PASSWORD, Upstream, free_address, get, post, tokens, users_file, wait_until};

const ROUTE: &str =
    "[[routes]]\npath = \"/\"\nmethods = [\"all\"]\naccess = \"public\"\nrespond = { status = 204 }\n";

/// A folder with a configuration on free addresses and a users file.
fn folder(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("config")).unwrap();
    fs::write(dir.path().join("config/users.toml"), users_file(&[("1", "alice", PASSWORD, &["user"])]))
        .unwrap();
    let listen =
        format!("[server]\nlisten = \"{}\"\n[admin]\nlisten = \"{}\"\n", free_address(), free_address());
    fs::write(dir.path().join("gateway.toml"), format!("{listen}{config}{ROUTE}")).unwrap();
    dir
}

/// Runs a command with this folder's configuration: exit code, standard output, standard error.
fn command(dir: &Path, args: &[&str], input: &str) -> (i32, String, String) {
    Gateway::command(dir, &[args, &["--config", "gateway.toml"]].concat(), input)
}

#[test]
fn roles_change_users_are_removed_and_listed_as_json() {
    let dir = folder("");
    let users = |args: &[&str]| command(dir.path(), &[&["users"], args].concat(), "");
    assert_eq!(command(dir.path(), &["users", "add", "bob"], "a new password for bob\n").0, 0);
    for (args, roles) in [
        (&["roles", "alice"][..], "user"),
        (&["roles", "alice", "editor,admin"], "editor,admin"),
        (&["roles", "alice", "editor", "admin", "editor"], "editor,admin"),
        (&["roles", "alice", "--add", "user", "--add", "admin"], "editor,admin,user"),
        (&["roles", "alice", "--remove", "editor,user"], "admin"),
        (&["roles", "alice"], "admin"),
        (&["roles", "alice", "--none"], ""),
        (&["roles", "ALICE", "--add", "user"], "user"),
    ] {
        let (code, out, complaint) = users(args);
        assert_eq!((code, out.trim_end()), (0, roles), "{args:?}: {complaint}");
    }
    let (code, out, _) = users(&["list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, listed.as_array().unwrap().len()), (0, 2));
    let alice =
        serde_json::json!({"name": "alice", "id": "1", "roles": ["user"], "disabled": false, "claims": {}});
    assert_eq!(listed[0], alice);

    assert_eq!(users(&["remove", "alice"]).0, 0);
    let (_, out, _) = users(&["list", "--json"]);
    assert!(!out.contains("alice") && out.contains("bob"), "{out}");
    let (code, _, complaint) = users(&["remove", "alice"]);
    assert_eq!(code, 1);
    assert!(complaint.contains("no user alice"), "{complaint}");
    assert_eq!(users(&["roles", "bob", "admin", "--add", "user"]).0, 2, "all or some, not both");
    assert_eq!(users(&["roles", "nobody", "admin"]).0, 1);
    assert_eq!(users(&["roles", "bob", "a,b c"]).0, 1, "what the file would refuse is refused");
}

#[test]
fn a_user_who_is_removed_can_neither_refresh_nor_log_in() {
    let gateway = Gateway::start(ROUTE);
    let (_, refresh) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(command(gateway.dir.path(), &["users", "remove", "alice"], "").0, 0);
    wait_until("the session has ended", || post(gateway.address, "/refresh", &refresh).status == 401);
}

#[test]
fn a_backup_of_the_running_store_is_whole_and_can_be_restored() {
    let mut gateway = Gateway::start(ROUTE);
    let dir = gateway.dir.path().to_owned();
    let (_, kept) = tokens(gateway.address, "alice", PASSWORD);
    let backup = dir.join("backup.redb");
    let (code, _, notes) = command(&dir, &["state", "backup", "backup.redb"], "");
    assert_eq!(code, 0, "{notes}");
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        fs::read_dir(dir.join("var")).unwrap().filter(|f| is_copy(f.as_ref().unwrap())).count(),
        0,
        "no copy is left behind"
    );
    let (_, lost) = tokens(gateway.address, "bob", PASSWORD);
    let (code, _, complaint) = command(&dir, &["state", "restore", "backup.redb"], "");
    assert_eq!(code, 1, "not under a running gateway");
    assert!(complaint.contains("in use by another process"), "{complaint}");

    gateway.kill();
    let (code, _, notes) = command(&dir, &["state", "restore", "backup.redb"], "");
    assert_eq!(code, 0, "{notes}");
    assert!(dir.join("var/state.redb.before-restore").exists());
    gateway.run();
    assert_eq!(post(gateway.address, "/refresh", &kept).status, 200);
    assert_eq!(post(gateway.address, "/refresh", &lost).status, 401, "a later session is unknown");

    gateway.kill();
    let (code, _, notes) = command(&dir, &["state", "backup", "stopped.redb"], "");
    assert_eq!(code, 0, "and while no gateway runs: {notes}");
    assert_eq!(command(&dir, &["state", "restore", "stopped.redb"], "").0, 0);
}

fn is_copy(file: &fs::DirEntry) -> bool {
    file.file_name().to_string_lossy().contains(".backup-")
}

#[test]
fn a_backup_that_is_damaged_is_not_restored() {
    let mut gateway = Gateway::start(ROUTE);
    let dir = gateway.dir.path().to_owned();
    let (_, refresh) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(command(&dir, &["state", "backup", "good"], "").0, 0);
    let good = fs::read(dir.join("good")).unwrap();
    gateway.kill();
    for (name, content) in
        [("short", &good[..good.len() / 2]), ("empty", b""), ("other", b"[[users]]\n"), ("none", b"")]
    {
        if name != "none" {
            fs::write(dir.join(name), content).unwrap();
        }
        let (code, _, complaint) = command(&dir, &["state", "restore", name], "");
        assert_eq!(code, 1, "{name}");
        assert!(complaint.contains(name), "{name}: {complaint}");
    }
    gateway.run();
    assert_eq!(post(gateway.address, "/refresh", &refresh).status, 200, "what was there is still there");
}

#[test]
fn state_that_is_no_file_has_no_backup() {
    for (config, reason) in [
        ("kind = \"memory\"", "memory"),
        ("kind = \"redis\"\n[store.redis]\nurl = \"redis://127.0.0.1:1\"", "BGSAVE"),
    ] {
        let dir = folder(&format!("[store]\n{config}\n"));
        let (code, _, complaint) = command(dir.path(), &["state", "backup", "copy"], "");
        assert_eq!(code, 1);
        assert!(complaint.contains(reason), "{complaint}");
    }
}

/// All that is in a folder, with the bytes of files.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => content(&path).into_iter().chain([(path, Vec::new())]).collect::<Vec<_>>(),
            false => vec![(path.clone(), fs::read(path).unwrap())],
        })
        .collect()
}

#[test]
fn check_opens_what_the_start_would_open_and_changes_nothing() {
    let check = |config: &str, prepare: &dyn Fn(&Path)| {
        let dir = folder(config);
        prepare(dir.path());
        let before = content(dir.path());
        let (code, _, complaint) = command(dir.path(), &["check"], "");
        assert_eq!(content(dir.path()), before, "nothing is created or written");
        (code, complaint)
    };
    assert_eq!(check("", &|_| {}).0, 0);
    // Another algorithm than that of the key which is there, and keys of other kinds that are yet to be made.
    let algorithms = "[tokens]\nalgorithm = \"ES256\"\nmigrate_from = { algorithm = \"EdDSA\" }\ndpop = \"optional\"\ndpop_nonce = true\n\
                      [upstream_assertion]\nenabled = true\n[upstreams.app]\nurls = [\"http://127.0.0.1:1\"]\n";
    let (code, complaint) = check(algorithms, &|dir| {
        let text = fs::read_to_string(dir.join("gateway.toml")).unwrap();
        let before = text.replace("algorithm = \"ES256\"\nmigrate_from = { algorithm = \"EdDSA\" }\n", "");
        fs::write(dir.join("before.toml"), before).unwrap();
        let rotated = Gateway::command(dir, &["keys", "rotate", "--config", "before.toml"], "");
        assert_eq!(rotated.0, 0, "{}", rotated.2);
    });
    assert_eq!(code, 0, "{complaint}");
    let (code, complaint) = check(
        "[upstream_assertion]\nenabled = true\nprivate_key_file = \"key.pem\"\n[upstreams.app]\nurls = [\"http://127.0.0.1:1\"]\n",
        &|dir| {
            fs::write(dir.join("key.pem"), "rubbish").unwrap();
        },
    );
    assert!(code == 78 && complaint.contains("upstream_assertion.private_key_file"), "{complaint}");

    let (code, complaint) =
        check("[store]\npath = \"state\"\n", &|dir| fs::write(dir.join("state"), "rubbish").unwrap());
    assert_eq!(code, 78);
    assert!(complaint.contains("damaged") && complaint.contains("gateway.toml:6"), "{complaint}");
    let (code, complaint) =
        check("[store]\npath = \"file/state\"\n", &|dir| fs::write(dir.join("file"), "").unwrap());
    assert_eq!(code, 78);
    assert!(complaint.contains("store.path"), "{complaint}");
    let (code, complaint) =
        check("[tokens]\nkeys_dir = \"file/keys\"\n", &|dir| fs::write(dir.join("file"), "").unwrap());
    assert_eq!(code, 78);
    assert!(complaint.contains("file is no folder"), "{complaint}");

    let (code, complaint) =
        check("[store]\nkind = \"redis\"\n[store.redis]\nurl = \"redis://127.0.0.1:1\"\n", &|_| {});
    assert_eq!(code, 0, "a gateway starts without Redis");
    assert!(complaint.contains("warning") && complaint.contains("127.0.0.1:1"), "{complaint}");
    let required =
        "[store]\nkind = \"redis\"\n[store.redis]\nurl = \"redis://127.0.0.1:1\"\nrequired_at_start = true\n";
    assert_eq!(check(required, &|_| {}).0, 78, "unless it is required");

    let foreign = folder("");
    let text = fs::read_to_string(foreign.path().join("gateway.toml")).unwrap();
    let text = text.replacen("127.0.0.1", "192.0.2.1", 1);
    fs::write(foreign.path().join("gateway.toml"), text).unwrap();
    let (code, _, complaint) = command(foreign.path(), &["check"], "");
    assert_eq!(code, 78);
    assert!(complaint.contains("server.listen") && complaint.contains("ip addr"), "{complaint}");
}

#[test]
fn check_warns_of_an_address_that_another_program_has_but_not_of_the_running_gateways() {
    let dir = folder("");
    let text = fs::read_to_string(dir.path().join("gateway.toml")).unwrap();
    let address = text.split('"').nth(1).unwrap();
    let held = TcpListener::bind(address).unwrap();
    let (code, _, complaint) = command(dir.path(), &["check"], "");
    assert_eq!(code, 0, "{complaint}");
    assert!(complaint.contains(address) && complaint.contains("another process has it"), "{complaint}");
    drop(held);

    let gateway = Gateway::start(ROUTE);
    let listen =
        format!("[server]\nlisten = \"{}\"\n[admin]\nlisten = \"{}\"\n", gateway.address, gateway.admin);
    fs::write(gateway.path("gateway.toml"), format!("{listen}{ROUTE}")).unwrap();
    let (code, _, complaint) = command(gateway.dir.path(), &["check"], "");
    assert_eq!((code, complaint.contains("cannot listen")), (0, false), "{complaint}");
}

#[test]
fn healthcheck_says_whether_the_gateway_of_this_configuration_runs() {
    let mut gateway = Gateway::start(ROUTE);
    let listen =
        format!("[server]\nlisten = \"{}\"\n[admin]\nlisten = \"{}\"\n", gateway.address, gateway.admin);
    fs::write(gateway.path("gateway.toml"), format!("{listen}{ROUTE}")).unwrap();
    let dir = gateway.dir.path().to_owned();
    for args in [&["healthcheck"][..], &["healthcheck", "--ready"]] {
        let (code, _, complaint) = command(&dir, args, "");
        assert_eq!(code, 0, "{args:?}: {complaint}");
    }
    gateway.kill();
    let (code, _, complaint) = command(&dir, &["healthcheck"], "");
    assert_eq!(code, 1);
    assert!(complaint.contains("does not answer") && complaint.contains("admin.listen"), "{complaint}");
}

/// A start that failed would refuse the tokens of all keys, and for good.
#[test]
fn a_damaged_key_that_does_not_sign_ends_nothing() {
    let upstream = Upstream::start();
    let mut gateway = Gateway::start(&format!(
        "[upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/\"\nupstream = \"app\"\n",
        upstream.address
    ));
    let dir = gateway.dir.path().to_owned();
    let (_, published, _) = command(&dir, &["keys", "generate"], "");
    fs::write(dir.join(format!("var/keys/{}.pem", published.trim())), "rubbish").unwrap();
    gateway.signal("HUP");
    wait_until("the key is noticed", || gateway.log().contains("a managed key is left out"));
    let (access, _) = tokens(gateway.address, "alice", PASSWORD);
    let bearer = format!("Bearer {access}");
    let ask = |gateway: &Gateway| get(gateway.address, "/", &[("Authorization", &bearer)]).unwrap().status;
    assert_eq!(ask(&gateway), 200);
    gateway.kill();
    gateway.run();
    assert_eq!(ask(&gateway), 200, "and a restart works");
    let (code, _, complaint) = command(&dir, &["check"], "");
    assert_eq!(code, 0, "{complaint}");
    assert!(complaint.contains(published.trim()) && complaint.contains("refused"), "{complaint}");
}

#[test]
fn a_damaged_signing_key_leaves_a_running_gateway_as_it_is() {
    let gateway = Gateway::start(ROUTE);
    let keys = gateway.path("var/keys");
    for file in fs::read_dir(&keys).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_some_and(|extension| extension == "pem") {
            fs::write(file, "rubbish").unwrap();
        }
    }
    gateway.signal("HUP");
    wait_until("it is reported", || {
        get(gateway.admin, "/readyz", &[]).unwrap().json()["status"] == "degraded"
    });
    tokens(gateway.address, "alice", PASSWORD);
}

/// As the service's account would see what root did.
#[test]
fn what_root_creates_in_the_services_folders_can_be_read_by_the_service() {
    let account = 12_345;
    let dir = folder("");
    if fs::metadata(dir.path()).unwrap().uid() != 0
        || chown(dir.path(), Some(account), Some(account)).is_err()
    {
        eprintln!("skipped: this needs root");
        return;
    }
    assert_eq!(command(dir.path(), &["keys", "rotate"], "").0, 0);
    assert_eq!(command(dir.path(), &["keys", "generate"], "").0, 0);
    for name in ["var", "var/keys"] {
        assert_eq!(fs::metadata(dir.path().join(name)).unwrap().uid(), account, "{name}");
    }
    for file in fs::read_dir(dir.path().join("var/keys")).unwrap() {
        let found = file.as_ref().unwrap().metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (account, account), "{:?}", file.unwrap().path());
    }
}
