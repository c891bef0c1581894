//! Load of logins and refreshes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::http::{Client, Reply};

/// What a client does again and again.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Act {
    /// The name and the password, each time.
    LogIn,
    /// The refresh token of the answer before; the first one comes from a login.
    Refresh,
}

/// Lets so many clients act while something else runs; gives how many acts a second were done meanwhile.
pub(crate) fn acts_during<T>(
    address: SocketAddr,
    clients: u32,
    act: Act,
    run: impl FnOnce() -> Result<T>,
) -> Result<(T, f64)> {
    let done = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    let one = |user| repeat(address, user, act, &done, &over).map_err(|error| error.to_string());
    thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|user| scope.spawn(move || one(user))).collect();
        // What comes first pays for connections and, with refreshes, for the logins.
        while done.load(Ordering::Relaxed) < clients.len() as u64 && clients.iter().all(|c| !c.is_finished())
        {
            thread::sleep(Duration::from_millis(5));
        }
        let (before, begin) = (done.load(Ordering::Relaxed), Instant::now());
        let result = run();
        let acts = (done.load(Ordering::Relaxed) - before) as f64 / begin.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().map_err(|_| "a client panicked")??;
        }
        Ok((result?, acts))
    })
}

fn repeat(address: SocketAddr, user: u32, act: Act, done: &AtomicU64, over: &AtomicBool) -> Result<()> {
    let mut client = Client::connect(address)?;
    let mut answer = admitted_login(&mut client, user)?;
    while !over.load(Ordering::Relaxed) {
        answer = match act {
            Act::LogIn => admitted_login(&mut client, user)?,
            Act::Refresh => {
                let token = answer.member("refresh_token")?;
                let refreshed = client.refresh(&token)?;
                // The store is written only where there is a new token; a repeated one would measure nothing.
                if refreshed.status == 200 && refreshed.member("refresh_token")? == token {
                    return Err("a refresh gave the same refresh token again".into());
                }
                refreshed
            }
        };
        if answer.status != 200 {
            return Err(format!("the answer is {}", answer.status).into());
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Logs in, again after a 503: on a busy machine the hashing threads, of the lowest priority, fall behind.
fn admitted_login(client: &mut Client, user: u32) -> Result<Reply> {
    loop {
        let response = client.login(user)?;
        if response.status != 503 {
            return Ok(response);
        }
        thread::sleep(Duration::from_millis(50));
    }
}
