//! TLS, and an ACL user with the documented permissions only.

use std::fs;
use std::time::Duration;

use super::{config, instance, on, readiness, until};
use crate::fixture::{Certificates, Gateway, PASSWORD, RedisServer, Upstream, login, post, tokens};

const SOON: Duration = Duration::from_secs(3);

/// What the documentation says that the gateway's user needs.
const ACL: &str = "~auth-gateway:* &auth-gateway:* -@all +hello +auth +ping +info +role +subscribe +get +set +del \
                   +getrange +eval +evalsha +time +pttl +pexpire +publish +xadd +xdel +xrange +zadd \
                   +zrange +zrem +zrangebyscore +zremrangebyscore";

#[test]
fn a_user_with_the_documented_permissions_and_no_others_is_enough() {
    let page = include_str!("../../../../docs/how-to/redis.md");
    assert!(page.contains(ACL), "docs/how-to/redis.md lacks\n{ACL}");
    let (redis, upstream) = (RedisServer::start_with(&["--appendonly", "no"]), Upstream::start());
    let mut user = vec!["ACL", "SETUSER", "gateway", "on", ">hunter2hunter2"];
    user.extend(ACL.split_whitespace());
    redis.command(&user);
    redis.command(&["ACL", "SETUSER", "default", "off"]);
    let login_as =
        |password: &str| format!("[store.redis]\nusername = \"gateway\"\npassword = \"{password}\"");
    let gateway = instance(&on(&redis, &upstream).replace("[store.redis]", &login_as("hunter2hunter2")));
    until("it is connected", SOON, || (readiness(&gateway) == "ready").then_some(()));
    until("the settings were checked", SOON, || gateway.log().contains("set `appendonly yes`").then_some(()));
    let (access, refresh) = tokens(gateway.address, "alice", PASSWORD);
    assert_eq!(post(gateway.address, "/refresh", &refresh).status, 200);
    assert_eq!(post(gateway.address, "/logout-all", &access).status, 204);

    let wrong = instance(&on(&redis, &upstream).replace("[store.redis]", &login_as("wrong")));
    assert_eq!(
        login(wrong.address, "alice", PASSWORD).status,
        503,
        "a password that Redis refuses is an outage"
    );
    until("the log says why", SOON, || wrong.log().contains("WRONGPASS").then_some(()));
    assert!(!wrong.log().contains("hunter2"));
}

#[test]
fn tls_is_verified_on_both_sides_and_never_left_out() {
    let (certificates, upstream) = (Certificates::make(), Upstream::start());
    let file = |name: &str| certificates.file(name).to_str().unwrap().to_owned();
    let redis = RedisServer::start_with_tls(&file("server.pem"), &file("server.key"), &file("ca.pem"));
    let store = |host: &str, more: &str| {
        config(&upstream, &format!("url = \"rediss://{host}:{}\"\n{more}", redis.tls_port()))
    };
    let ca = format!("ca_file = {:?}\n", file("ca.pem"));
    let client = format!(
        "client_certificate_file = {:?}\nclient_key_file = {:?}\n",
        file("client.pem"),
        file("client.key")
    );
    let good = instance(&store("127.0.0.1", &format!("{ca}{client}")));
    until("it is connected", SOON, || (readiness(&good) == "ready").then_some(()));
    let (access, _) = tokens(good.address, "alice", PASSWORD);
    assert_eq!(post(good.address, "/logout", &access).status, 204);
    for (host, more, why) in [
        ("127.0.0.1", client.clone(), "UnknownIssuer"),
        ("localhost", format!("{ca}{client}"), "not valid for name"),
        ("127.0.0.1", ca.clone(), "ertificate"),
    ] {
        let refused = instance(&store(host, &more));
        assert_eq!(login(refused.address, "alice", PASSWORD).status, 503, "{why}");
        until(&format!("the log says {why}"), SOON, || refused.log().contains(why).then_some(()));
    }
    let plain = instance(&store("127.0.0.1", "").replace("rediss://", "redis://"));
    assert_eq!(login(plain.address, "alice", PASSWORD).status, 503);
}

#[test]
fn certificates_that_cannot_be_used_stop_the_start() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = instance(&on(&redis, &upstream));
    fs::write(gateway.path("ca.pem"), "no certificate").unwrap();
    let text = on(&redis, &upstream)
        .replace("redis://", "rediss://")
        .replace("[store.redis]", "[store.redis]\nca_file = \"ca.pem\"");
    fs::write(gateway.path("gateway.toml"), text).unwrap();
    let (code, _, complaint) = Gateway::command(gateway.dir.path(), &["--config", "gateway.toml"], "");
    assert_eq!(code, 1);
    assert!(complaint.contains("ca.pem holds no certificate"), "{complaint}");
}
