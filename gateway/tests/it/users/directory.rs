//! Users of a real LDAP server (slapd).

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use serde_json::json;

use super::ROUTES;
use crate::fixture::{
    Certificates, Gateway, PASSWORD, claims, free_address, get, login, post, tokens, wait_until,
};

struct Slapd {
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

const ENTRIES: &str = "\
dn: dc=example,dc=org\nobjectClass: dcObject\nobjectClass: organization\no: example\ndc: example\n\n\
dn: ou=people,dc=example,dc=org\nobjectClass: organizationalUnit\nou: people\n\n\
dn: ou=groups,dc=example,dc=org\nobjectClass: organizationalUnit\nou: groups\n\n\
dn: uid=alice,ou=people,dc=example,dc=org\nobjectClass: inetOrgPerson\nuid: alice\ncn: Alice\nsn: L\nmail: alice@example.org\nuserPassword: PASSWORD\n\n\
dn: uid=bob,ou=people,dc=example,dc=org\nobjectClass: inetOrgPerson\nuid: bob\ncn: Bob\nsn: B\nuserPassword: PASSWORD\n\n\
dn: cn=admins,ou=groups,dc=example,dc=org\nobjectClass: groupOfNames\ncn: admins\nmember: uid=alice,ou=people,dc=example,dc=org\n\n\
dn: cn=staff,ou=groups,dc=example,dc=org\nobjectClass: groupOfNames\ncn: staff\nmember: uid=alice,ou=people,dc=example,dc=org\nmember: uid=bob,ou=people,dc=example,dc=org\n\n";

impl Slapd {
    fn start(certificates: &Certificates) -> Slapd {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| certificates.file(name).display().to_string();
        let folder = dir.path().display();
        fs::create_dir(dir.path().join("data")).unwrap();
        let config = format!(
            "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\ninclude /etc/ldap/schema/inetorgperson.schema\n\
             modulepath /usr/lib/ldap\nmoduleload back_mdb\npidfile {folder}/pid\n\
             TLSCACertificateFile {}\nTLSCertificateFile {}\nTLSCertificateKeyFile {}\n\
             database mdb\nsuffix dc=example,dc=org\nrootdn cn=admin,dc=example,dc=org\nrootpw service\ndirectory {folder}/data\n\
             access to attrs=userPassword by anonymous auth by * none\naccess to * by dn.exact=cn=admin,dc=example,dc=org write by * none\n",
            file("ca.pem"),
            file("server.pem"),
            file("server.key")
        );
        fs::write(dir.path().join("slapd.conf"), config).unwrap();
        fs::write(dir.path().join("entries.ldif"), ENTRIES.replace("PASSWORD", PASSWORD)).unwrap();
        let mut slapd = Slapd { dir, port: free_address().port(), child: None };
        let added = Command::new("slapadd")
            .args(["-f", "slapd.conf", "-l", "entries.ldif"])
            .current_dir(slapd.dir.path())
            .output()
            .unwrap();
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
        slapd.run();
        slapd
    }

    fn run(&mut self) {
        let listen = format!("ldap://127.0.0.1:{}", self.port);
        let child = Command::new("slapd")
            .args(["-f", "slapd.conf", "-h", &listen, "-d", "0"])
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap());
        wait_until("slapd listens", || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Has the server hang (STOP), or go on (CONT): it accepts connections, and nothing answers.
    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Changes entries as the administrator.
    fn modify(&self, ldif: &str) {
        let file = self.dir.path().join("change.ldif");
        fs::write(&file, ldif).unwrap();
        let url = format!("ldap://127.0.0.1:{}", self.port);
        let changed = Command::new("ldapmodify")
            .args(["-x", "-H", &url, "-D", "cn=admin,dc=example,dc=org", "-w", "service", "-f"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(changed.status.success(), "{}", String::from_utf8_lossy(&changed.stderr));
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn config(slapd: &Slapd, certificates: &Certificates, more: &str) -> String {
    format!(
        "[users]\nkind = \"ldap\"\n[users.ldap]\nurl = \"ldap://127.0.0.1:{}\"\nstart_tls = true\nca_file = \"{}\"\n\
         bind_dn = \"cn=admin,dc=example,dc=org\"\nbind_password = \"service\"\nbase = \"ou=people,dc=example,dc=org\"\ntimeout = \"2s\"\n{more}\
         claims = {{ email = \"mail\" }}\ngroups = {{ base = \"ou=groups,dc=example,dc=org\" }}\nroles = {{ admins = [\"admin\"], staff = [\"user\"] }}\n{ROUTES}",
        slapd.port,
        certificates.file("ca.pem").display()
    )
}

#[test]
fn users_are_found_by_a_search_and_verified_by_a_bind() {
    let certificates = Certificates::make();
    let mut slapd = Slapd::start(&certificates);
    let gateway = Gateway::start_with(&config(&slapd, &certificates, ""), "", &[]);
    let status = |name: &str, password: &str| login(gateway.address, name, password).status;
    let (access, refresh) = tokens(gateway.address, "ALICE", PASSWORD);
    let alice = claims(&access);
    assert_eq!((&alice["roles"], &alice["email"]), (&json!(["admin", "user"]), &"alice@example.org".into()));
    assert_eq!(claims(&tokens(gateway.address, "bob", PASSWORD).0)["roles"], json!(["user"]));
    // An empty password is an anonymous bind, which succeeds; a star is a filter's, not a name.
    for (name, password) in
        [("alice", "wrong"), ("alice", ""), ("nobody", PASSWORD), ("*", PASSWORD), ("a*", PASSWORD)]
    {
        assert!([400, 401].contains(&status(name, password)), "{name} {password}");
    }
    slapd.modify("dn: cn=admins,ou=groups,dc=example,dc=org\nchangetype: modify\nadd: member\nmember: uid=bob,ou=people,dc=example,dc=org\n-\ndelete: member\nmember: uid=alice,ou=people,dc=example,dc=org\n");
    let refreshed = post(gateway.address, "/refresh", &refresh).json();
    assert_eq!(claims(refreshed["access_token"].as_str().unwrap())["roles"], json!(["user"]));

    slapd.kill();
    let refresh = refreshed["refresh_token"].as_str().unwrap();
    for reply in [
        login(gateway.address, "alice", PASSWORD),
        login(gateway.address, "alice", "wrong"),
        post(gateway.address, "/refresh", refresh),
    ] {
        assert_eq!((reply.status, reply.code().as_str()), (503, "store_unavailable"));
    }
    slapd.run();
    assert_eq!(status("alice", PASSWORD), 200);
    assert_eq!(post(gateway.address, "/refresh", refresh).status, 200);
    slapd.modify("dn: uid=alice,ou=people,dc=example,dc=org\nchangetype: delete\n");
    assert_eq!(post(gateway.address, "/refresh", refresh).status, 401);
}

#[test]
fn who_does_not_fit_the_filter_any_more_is_logged_out_at_the_next_refresh() {
    let certificates = Certificates::make();
    let slapd = Slapd::start(&certificates);
    let filter = "filter = \"(&(|(uid={username})(mail={username}))(!(employeeType=left)))\"\n";
    let gateway = Gateway::start_with(&config(&slapd, &certificates, filter), "", &[]);
    let (_, refresh) = tokens(gateway.address, "Alice@example.org", PASSWORD);
    let refreshed = post(gateway.address, "/refresh", &refresh);
    assert_eq!(refreshed.status, 200, "{refreshed:?}");
    let refresh = refreshed.tokens().1;
    slapd.modify("dn: uid=alice,ou=people,dc=example,dc=org\nchangetype: modify\nadd: employeeType\nemployeeType: left\n");
    assert_eq!(login(gateway.address, "alice", PASSWORD).status, 401);
    assert_eq!(post(gateway.address, "/refresh", &refresh).status, 401);
}

#[test]
fn what_the_directory_refuses_for_one_entry_is_no_outage() {
    let certificates = Certificates::make();
    let slapd = Slapd::start(&certificates);
    // An entry without a password, and two of one name.
    slapd.modify(
        "dn: uid=carol,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\nuid: carol\ncn: Carol\nsn: C\n\n\
         dn: cn=Other,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\nuid: bob\ncn: Other\nsn: O\nuserPassword: other\n",
    );
    let gateway = Gateway::start_with(&config(&slapd, &certificates, ""), "", &[]);
    for (name, password) in [
        ("carol", PASSWORD),
        ("bob", PASSWORD),
        ("bob", "other"),
        ("alice)(uid=*", PASSWORD),
        ("*)(uid=alice", PASSWORD),
        ("alice\\2a", PASSWORD),
        ("alice\0", PASSWORD),
        ("alice", "\0"),
    ] {
        let reply = login(gateway.address, name, password);
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (401, "invalid_credentials"),
            "{name:?} {password:?}"
        );
    }
    assert_eq!(login(gateway.address, "alice", PASSWORD).status, 200);
    assert!(!gateway.log().contains("does not respond"), "{}", gateway.log());
}

#[test]
fn users_are_where_their_names_say() {
    let certificates = Certificates::make();
    let slapd = Slapd::start(&certificates);
    let by_name = "user_dn = \"uid={username},ou=people,dc=example,dc=org\"\n";
    let gateway = Gateway::start_with(&config(&slapd, &certificates, by_name), "", &[]);
    let (_, refresh) = tokens(gateway.address, "bob", PASSWORD);
    assert_eq!(post(gateway.address, "/refresh", &refresh).status, 200);
    assert_eq!(login(gateway.address, "bob", "wrong").status, 401);
    assert_eq!(login(gateway.address, "nobody", PASSWORD).status, 401);
}

#[test]
fn a_directory_that_hangs_is_an_outage_of_a_set_time_that_locks_no_account() {
    let certificates = Certificates::make();
    let slapd = Slapd::start(&certificates);
    let gateway = Gateway::start_with(&config(&slapd, &certificates, ""), "", &[]);
    let address = gateway.address;
    let (access, refresh) = tokens(address, "alice", PASSWORD);
    let open_files = || fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count();
    let before = open_files();
    slapd.signal("STOP");
    // More than the failures that lock an account, and than there are hashing threads.
    let attempts: Vec<_> = (0..12)
        .map(|nth| {
            std::thread::spawn(move || {
                let password = if nth % 2 == 0 { PASSWORD } else { "wrong" };
                let asked = Instant::now();
                (login(address, "alice", password), asked.elapsed())
            })
        })
        .collect();
    for attempt in attempts {
        let (reply, took) = attempt.join().unwrap();
        assert_eq!(reply.status, 503, "{reply:?}");
        assert!(reply.field("retry-after").is_some(), "{reply:?}");
        // Two seconds, and some attempts for one name wait for others.
        assert!(took < Duration::from_secs(14), "{took:?}");
    }
    assert_eq!(post(address, "/refresh", &refresh).status, 503);
    let bearer = format!("Bearer {access}");
    let other = get(address, "/api", &[("Authorization", &bearer)]).unwrap();
    assert_eq!(other.status, 502, "the token is good, and the upstream of this test is not there");
    wait_until("the outage is logged", || gateway.log().contains("no answer within 2s"));
    let log = gateway.log();
    assert_eq!(log.matches("the source of users does not respond").count(), 1, "{log}");

    slapd.signal("CONT");
    wait_until("the directory is back", || login(address, "alice", PASSWORD).status == 200);
    assert_eq!(post(address, "/refresh", &refresh).status, 200);
    wait_until("the end is logged", || gateway.log().contains("the source of users responds again"));
    wait_until("no connection is left behind", || open_files() <= before + 2);
}

#[test]
fn referrals_are_not_followed_and_say_so() {
    let certificates = Certificates::make();
    let slapd = Slapd::start(&certificates);
    slapd.modify(
        "dn: ou=far,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: referral\nobjectClass: extensibleObject\nou: far\n\
         ref: ldap://far.example/ou=far,dc=example,dc=org\n",
    );
    // A part of the directory that is elsewhere keeps no user from logging in who is here.
    let gateway = Gateway::start_with(&config(&slapd, &certificates, ""), "", &[]);
    let (_, refresh) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(post(gateway.address, "/refresh", &refresh).status, 200);
    assert_eq!(login(gateway.address, "nobody", PASSWORD).status, 401);

    let far = config(&slapd, &certificates, "").replace("\"ou=people,", "\"ou=far,ou=people,");
    let gateway = Gateway::start_with(&far, "", &[]);
    assert_eq!(login(gateway.address, "alice", PASSWORD).status, 503);
    wait_until("the reason is logged", || {
        let log = gateway.log();
        log.contains("refers to ldap://far.example/") && log.contains("name that server in `url`")
    });

    // One entry.
    let by_name = "user_dn = \"ou={username},ou=people,dc=example,dc=org\"\nusername_attribute = \"ou\"\n";
    let gateway = Gateway::start_with(&config(&slapd, &certificates, by_name), "", &[]);
    assert_eq!(login(gateway.address, "far", PASSWORD).status, 401);
    wait_until("the reason is logged", || gateway.log().contains("referrals are not followed"));
    assert!(!gateway.log().contains("does not respond"), "{}", gateway.log());
}

#[test]
fn a_directory_with_another_certificate_is_sent_no_password() {
    let (certificates, others) = (Certificates::make(), Certificates::make());
    let slapd = Slapd::start(&certificates);
    let gateway = Gateway::start_with(&config(&slapd, &others, ""), "", &[]);
    assert_eq!(login(gateway.address, "alice", PASSWORD).status, 503);
}
