//! F-35: restarts on a socket that outlives the process. Clients of that moment wait a little; nobody is refused, and nobody
//! whose request was taken is cut.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use crate::fixture::{Connection, Cut, PASSWORD, PROGRAM, get, tokens, users_file, wait_until};

const CONFIG: &str = "[log]\naccess = false\n[tokens]\naccess_ttl = \"1h\"\nrefresh_ttl = \"2h\"\n[[routes]]\npath = \"/app\"\n\
                      respond = { status = 200, body = \"here\", content_type = \"text/plain\" }\n";

/// The keeper of the socket; it and the gateway are killed when this is dropped.
struct Keeper(Child);

impl Drop for Keeper {
    fn drop(&mut self) {
        // It passes the end on, which killing it would not.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Fifty requests over each connection. A connection that is refused, or an answer that does not come, fails.
fn keep_asking(address: SocketAddr, token: &str, stop: &AtomicBool, answered: &AtomicUsize) {
    let ask = format!("GET /app HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    while !stop.load(Ordering::Relaxed) {
        let mut connection = Connection::open(address).expect("a connection was refused");
        for asked in 0..50 {
            match connection.send(ask.as_bytes()).and_then(|()| connection.reply()) {
                Ok(reply) => {
                    assert_eq!((reply.status, reply.text()), (200, "here".to_owned()));
                    answered.fetch_add(1, Ordering::Relaxed);
                    if reply.field("connection") == Some("close") {
                        break;
                    }
                }
                // Between two requests the gateway may close; this one it has not seen.
                Err(Cut::Before) if asked > 0 => break,
                Err(cut) => panic!("no answer: {cut:?} at request {asked}"),
            }
        }
    }
}

#[test]
fn restarts_on_an_inherited_socket_refuse_nobody() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("gateway.toml"), CONFIG).unwrap();
    fs::create_dir(dir.path().join("config")).unwrap();
    fs::write(dir.path().join("config/users.toml"), users_file(&[("1", "alice", PASSWORD, &["user"])]))
        .unwrap();
    fs::write(dir.path().join("keeper.py"), include_str!("keeper.py")).unwrap();
    let (public, admin) = (free_address(), free_address());
    let log = fs::File::create(dir.path().join("log")).unwrap();
    let keeper = Command::new("python3")
        .args([
            "keeper.py",
            &public.ip().to_string(),
            &public.port().to_string(),
            PROGRAM,
            "--config",
            "gateway.toml",
        ])
        .current_dir(dir.path())
        .env("AUTH_GATEWAY__ADMIN__LISTEN", admin.to_string())
        .stdin(Stdio::null())
        .stderr(log)
        .spawn();
    let _keeper = Keeper(keeper.unwrap());
    let ready = || get(admin, "/readyz", &[]).is_some_and(|reply| reply.status == 200);
    wait_until("it is ready", ready);
    let (token, _) = tokens(public, "alice", PASSWORD);
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients = [(); 4].map(|()| {
        let (token, stop, answered) = (token.clone(), Arc::clone(&stop), Arc::clone(&answered));
        std::thread::spawn(move || keep_asking(public, &token, &stop, &answered))
    });
    let wanted = if std::env::var_os("AUTH_GATEWAY_LONG").is_some() { 100_000 } else { 3_000 };
    let (mut restarts, started) = (0, Instant::now());
    let pid = || fs::read_to_string(dir.path().join("pid")).unwrap();
    while answered.load(Ordering::Relaxed) < wanted || restarts < 5 {
        let (before, last) = (answered.load(Ordering::Relaxed), pid());
        assert!(Command::new("kill").args(["-TERM", &last]).status().unwrap().success());
        wait_until("the next one is there", || pid() != last);
        wait_until("the next one answers", || {
            answered.load(Ordering::Relaxed) > before + wanted / 20 && ready()
        });
        restarts += 1;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    let answered = answered.load(Ordering::Relaxed);
    println!("{restarts} restarts in {:?}: {answered} answers, none refused, none cut", started.elapsed());
}
