//! Real clients over HTTP Basic: curl, git and Prometheus.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use super::{config, make};
use crate::fixture::{Gateway, PASSWORD, Running, Upstream, free_address, get, python_script, wait_until};

fn run(program: &str, args: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir).env("GIT_TERMINAL_PROMPT", "0").env("HOME", dir);
    command.output().unwrap_or_else(|error| panic!("{program} is needed: {error}"))
}

#[test]
fn curl_sends_a_password_or_a_token_also_when_it_waits_to_be_asked() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let (token, _) = make(&gateway, "alice", &json!({}));
    let url = format!("http://{}/dav/file", gateway.address);
    for (password, how) in [(PASSWORD, "--basic"), (&*token, "--basic"), (&*token, "--anyauth")] {
        let user = format!("alice:{password}");
        let args = [
            "-sS",
            "-u",
            &user,
            how,
            "-X",
            "PUT",
            "--data-binary",
            "a file",
            "-w",
            "%{http_code}",
            "-o",
            "out",
            &url,
        ];
        let output = run("curl", &args, gateway.dir.path());
        assert_eq!(String::from_utf8_lossy(&output.stdout), "200", "{how}: {output:?}");
        assert_eq!(upstream.last().body, b"a file");
    }
    let output = run(
        "curl",
        &["-sS", "-u", "alice:wrong", "-o", "out", "-w", "%{http_code}", &url],
        gateway.dir.path(),
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "401");
}

#[test]
fn git_pushes_and_clones_with_a_token_and_no_token_gets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let git = |dir: &Path, args: &[&str]| run("git", args, dir);
    let done = |output: Output| assert!(output.status.success(), "{output:?}");
    done(git(dir.path(), &["init", "-q", "--bare", "repo.git"]));
    done(git(&dir.path().join("repo.git"), &["config", "http.receivepack", "true"]));
    let app = free_address();
    let _app = Running(
        python_script("machines/git_app.py")
            .arg(app.port().to_string())
            .arg(dir.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    wait_until("the app listens", || std::net::TcpStream::connect(app).is_ok());
    let gateway = Gateway::start(&format!(
        "[personal_tokens]\nenabled = true\n[upstreams.git]\nurls = [\"http://{app}\"]\n\
         [[routes]]\npath = \"/git\"\nupstream = \"git\"\nstrip_prefix = true\nbasic = true\n"
    ));
    let (token, id) = make(&gateway, "alice", &json!({"routes": ["/git"]}));
    let url = |token: &str| format!("http://alice:{token}@{}/git/repo.git", gateway.address);

    let work = dir.path().join("work");
    done(git(dir.path(), &["init", "-q", "-b", "main", "work"]));
    fs::write(work.join("file"), "content").unwrap();
    done(git(&work, &["add", "file"]));
    done(git(&work, &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first"]));
    done(git(&work, &["push", "-q", &url(&token), "main"]));
    done(git(dir.path(), &["clone", "-q", "-b", "main", &url(&token), "copy"]));
    assert_eq!(fs::read_to_string(dir.path().join("copy/file")).unwrap(), "content");

    assert_eq!(gateway.run_command(&["tokens", "revoke", &id], "").0, 0);
    for refused in [url(&token), format!("http://{}/git/repo.git", gateway.address)] {
        let output = git(dir.path(), &["ls-remote", &refused]);
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn prometheus_scrapes_through_the_gateway_with_basic_and_with_a_bearer_token() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&config(&upstream, ""));
    let (token, _) = make(&gateway, "alice", &json!({"name": "prometheus"}));
    fs::write(gateway.path("token"), &token).unwrap();
    let target = gateway.address;
    let jobs = format!(
        "global: {{scrape_interval: 200ms}}\nscrape_configs:\n\
         - job_name: basic\n  metrics_path: /dav/metrics\n  basic_auth: {{username: alice, password_file: token}}\n  \
         static_configs: [{{targets: ['{target}']}}]\n\
         - job_name: bearer\n  metrics_path: /app/metrics\n  authorization: {{credentials_file: token}}\n  \
         static_configs: [{{targets: ['{target}']}}]\n"
    );
    fs::write(gateway.path("prometheus.yml"), jobs).unwrap();
    let listen = free_address();
    let args = [
        "--config.file=prometheus.yml".to_owned(),
        "--storage.tsdb.path=tsdb".to_owned(),
        format!("--web.listen-address={listen}"),
    ];
    let Ok(child) =
        Command::new("prometheus").args(args).current_dir(gateway.dir.path()).stderr(Stdio::null()).spawn()
    else {
        panic!("prometheus is needed: .ci/prepare installs it");
    };
    let _prometheus = Running(child);
    wait_until("both jobs have scraped", || {
        let seen = upstream.requests();
        ["/dav/metrics", "/app/metrics"].iter().all(|path| {
            seen.iter().any(|request| request.target == *path && request.values("x-auth-user") == ["alice"])
        })
    });
    assert!(get(listen, "/-/healthy", &[]).is_some());
}
