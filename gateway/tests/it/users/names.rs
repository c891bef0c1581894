//! User names with spaces, apostrophes and backslashes, where the operator allows them.

use std::fs;

use super::ROUTES;
use crate::fixture::{Gateway, PASSWORD, Upstream, claims, get, login, tokens, users_file};

const NAMES: [&str; 3] = ["alice smith", "o'brien", "corp\\dave"];

#[test]
fn names_of_other_systems_log_in_and_reach_upstreams_where_they_are_allowed() {
    let upstream = Upstream::start();
    let config = format!(
        "[users]\nname_characters = [\" \", \"'\", \"\\\\\"]\n\
         [identity_headers]\nusername = [\"X-Auth-User\", {{ header = \"X-Raw-User\", encoding = \"utf-8\" }}]\n\
         [upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/api\"\nupstream = \"app\"\n",
        upstream.address
    );
    let users = [("1", NAMES[0]), ("2", NAMES[1]), ("3", NAMES[2])];
    let users = users.map(|(id, name)| (id, name, PASSWORD, &["user"][..]));
    let gateway = Gateway::start_with(&config, &users_file(&users), &[]);
    for (name, sent, encoded) in [
        ("alice smith", "Alice Smith", "alice%20smith"),
        ("alice smith", "ALICE\u{a0}SMITH", "alice%20smith"),
        ("o'brien", "O'Brien", "o'brien"),
        ("corp\\dave", "CORP\\Dave", "corp\\dave"),
    ] {
        let (access, _) = tokens(gateway.address, sent, PASSWORD);
        assert_eq!(claims(&access)["username"], name, "{sent}");
        let reply = get(gateway.address, "/api", &[("Authorization", &format!("Bearer {access}"))]).unwrap();
        assert_eq!(reply.status, 200, "{sent}");
        let seen = upstream.last();
        assert_eq!((seen.values("x-auth-user"), seen.values("x-raw-user")), (vec![encoded], vec![name]));
        let unlocked = gateway.run_command(&["users", "unlock", name], "");
        assert!(unlocked.2.contains(&format!("{name} was not locked")), "{unlocked:?}");
    }
    for wrong in [
        "alice  smith",
        " alice smith",
        "alice smith ",
        "alicesmith",
        "alice\tsmith",
        "o\u{2019}brien",
        "corp/dave",
    ] {
        assert_eq!(login(gateway.address, wrong, PASSWORD).status, 401, "{wrong:?}");
    }
    let add = |name: &str| gateway.run_command(&["users", "add", name], "a first password\n");
    assert_eq!(add("Eve Adams").0, 0);
    assert_eq!(add("Eve/Adams").0, 1);
}

#[test]
fn without_the_setting_such_a_name_stops_the_start_and_is_not_added() {
    let dir = tempfile::tempdir().unwrap();
    let command = |words: &[&str], input: &str| {
        let words = [words, &["--config", "gateway.toml"]].concat();
        Gateway::command(dir.path(), &words, input)
    };
    for name in NAMES {
        let users = users_file(&[("1", name, PASSWORD, &["user"])]);
        fs::write(dir.path().join("users.toml"), users).unwrap();
        fs::write(dir.path().join("gateway.toml"), format!("[users]\nfile = \"users.toml\"\n{ROUTES}"))
            .unwrap();
        let (code, _, errors) = command(&["check"], "");
        assert_eq!(code, 78, "{name}");
        assert!(errors.contains("`users[0].username`") && errors.contains("name_characters = ["), "{errors}");
    }
    fs::write(dir.path().join("users.toml"), "").unwrap();
    let (code, _, errors) = command(&["users", "add", "Alice Smith"], "a first password\n");
    assert_eq!(code, 1);
    assert!(errors.contains("users.name_characters"), "{errors}");
}
